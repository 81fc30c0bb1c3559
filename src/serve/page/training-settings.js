// What the next training uses, as chosen in the project's dialog.
import { byId, element } from "./dom.js";
import { onChange } from "./state.js";

const KEY = "cnncodes-head-kind";
const NAMES = { logistic: "logistic regression", svm: "support vector machine", ridge: "ridge regression" };
const select = byId("head-kind");

function stored() {
  try { return localStorage.getItem(KEY); } catch { return null; }
}

/// The settings of `POST /v1/train`; the server's own where nothing was chosen.
export function trainingSettings() {
  return select.value ? { kind: select.value } : {};
}

select.addEventListener("change", () => {
  try { localStorage.setItem(KEY, select.value); } catch { /* Then the choice lasts as long as the page. */ }
});

onChange("project", ({ kinds }) => {
  byId("project-training").hidden = false;
  if (select.options.length === kinds.length) return;
  const wanted = stored();
  select.replaceChildren(...kinds.map((kind) => element("option", { value: kind, selected: kind === wanted }, NAMES[kind] ?? kind)));
});
