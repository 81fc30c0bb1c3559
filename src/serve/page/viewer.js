// One photo of the project, large.
import * as api from "./api.js";
import { byId, name, openDialog } from "./dom.js";

/// Shows the photo `id`; `source` gives its address.
export function view(id, source = api.thumbnail) {
  byId("viewer-title").replaceChildren(name(id));
  const image = byId("viewer-image");
  image.alt = `Photo ${id}`;
  image.src = source(id, 1600);
  openDialog(byId("viewer"));
}
