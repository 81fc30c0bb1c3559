// The dialog of photos: all of a class, or of a cell of the confusion matrix. Select some, then move or remove them.
import { current, move, remove } from "./actions.js";
import * as api from "./api.js";
import { announce, byId, columnsOf, element, icon, name, openDialog, percent, photos, rove } from "./dom.js";
import { state } from "./state.js";
import { view } from "./viewer.js";

const dialog = byId("gallery");
const grid = byId("gallery-photos");
let last = null; // the photo that Shift selects from

/// A thumbnail of a project's photo, with words where there is none.
export function thumbnail(id, alt, size) {
  const now = current(id);
  if (now === null) return element("span", { class: "absent" }, "removed");
  return element("img", { src: api.thumbnail(now, size), alt, loading: "lazy", decoding: "async",
    on: { error: (event) => event.target.replaceWith(element("span", { class: "absent" }, "no picture: moved, removed or unreadable")) } });
}

/// The words below a photo: `text`, a class or null, a probability or a text or null.
export function line(text, category, value) {
  return element("span", { class: "line" }, `${text} `, category !== null && element("strong", {}, name(category)), " ",
    value !== null && element("span", { class: "value" }, typeof value === "number" ? percent(value) : value));
}

/// Shows photos: `{ id, lines }`, where lines are arguments of `line`.
export function openGallery({ title, text, items, at = null }) {
  byId("gallery-title").textContent = title;
  byId("gallery-text").textContent = text;
  byId("gallery-text").hidden = text === "";
  byId("gallery-class").replaceChildren(element("option", { value: "" }, "choose a class"),
    ...state.project.classes.map((one) => element("option", { value: `=${one.name}` }, one.name)),
    element("option", { value: "-" }, "not sorted yet"));
  grid.replaceChildren(...items.map(photo));
  last = null;
  tell();
  openDialog(dialog);
  const start = (at && [...grid.children].find((item) => item.dataset.id === at)) ?? grid.firstElementChild;
  if (start) roving.go(start);
}

function photo({ id, lines }) {
  const words = lines.map(([text, category, value]) => line(text, category, value));
  return element("li", { role: "option", "aria-selected": "false", tabindex: "-1", "data-id": id },
    element("figure", {},
      element("div", { class: "picture" }, thumbnail(id, ""), element("span", { class: "tick" }, icon("check"))),
      element("figcaption", {}, ...words, element("span", { class: "name" }, name(id.split("/").at(-1))))));
}

const roving = rove(grid, '[role="option"]', { columns: () => columnsOf(grid) });
const selected = () => [...grid.querySelectorAll('[aria-selected="true"]')];

function select(item, on) {
  item.setAttribute("aria-selected", String(on));
}

function toggle(item, through) {
  const items = [...grid.children];
  if (through && last && items.includes(last)) {
    const [from, to] = [items.indexOf(last), items.indexOf(item)].sort((a, b) => a - b);
    items.slice(from, to + 1).forEach((one) => select(one, true));
  } else {
    select(item, item.getAttribute("aria-selected") !== "true");
  }
  last = item;
  tell();
}

grid.addEventListener("click", (event) => {
  const item = event.target.closest('[role="option"]');
  if (!item) return;
  roving.go(item);
  toggle(item, event.shiftKey);
});
grid.addEventListener("dblclick", (event) => {
  const item = event.target.closest('[role="option"]');
  if (item) view(current(item.dataset.id) ?? item.dataset.id);
});
grid.addEventListener("keydown", (event) => {
  const item = event.target.closest('[role="option"]');
  if (!item) return;
  if (event.key === " ") toggle(item, event.shiftKey);
  else if (event.key === "Enter") view(current(item.dataset.id) ?? item.dataset.id);
  else if (event.key === "Delete") removeSelected();
  else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) selectAll();
  else return;
  event.preventDefault();
});

function tell() {
  const n = selected().length;
  byId("gallery-chosen").textContent = n ? `${photos(n)} selected` : "Select photos, then move or remove them. Enter shows one large.";
  byId("gallery-all").textContent = n && n === grid.children.length ? "Select none" : "Select all";
  byId("gallery-move").disabled = byId("gallery-remove").disabled = n === 0;
}

function selectAll() {
  const on = selected().length < grid.children.length;
  [...grid.children].forEach((item) => select(item, on));
  tell();
}

/// Takes photos out of the dialog, and leaves the focus on one that stays.
function takeOut(ids) {
  const items = [...grid.children];
  const gone = new Set(ids);
  const at = items.findIndex((item) => gone.has(item.dataset.id));
  items.filter((item) => gone.has(item.dataset.id)).forEach((item) => item.remove());
  const next = grid.children[Math.min(at, grid.children.length - 1)];
  if (next) roving.go(next);
  else dialog.close();
  tell();
}

const now = (items) => items.map((item) => [item.dataset.id, current(item.dataset.id)]).filter(([, id]) => id !== null);

async function removeSelected() {
  const chosen = now(selected());
  if (!chosen.length) return;
  const removed = new Set((await remove(chosen.map(([, id]) => id))).map(({ id }) => id));
  takeOut(chosen.filter(([, id]) => removed.has(id)).map(([first]) => first));
}

byId("gallery-all").addEventListener("click", () => { selectAll(); announce(byId("gallery-chosen").textContent); });
byId("gallery-remove").addEventListener("click", removeSelected);
byId("gallery-move").addEventListener("click", async () => {
  const { value } = byId("gallery-class");
  const chosen = now(selected());
  if (!value) { byId("gallery-class").focus(); return; }
  const moved = new Set((await move(chosen.map(([, id]) => id), value === "-" ? null : value.slice(1))).map(({ from }) => from));
  takeOut(chosen.filter(([, id]) => moved.has(id)).map(([first]) => first));
});
