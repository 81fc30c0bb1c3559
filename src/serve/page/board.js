// The board of classes: one card for each, with its photos, and a card for a new one. Photos are dropped on cards.
import { current, removeClass, renameClass } from "./actions.js";
import * as api from "./api.js";
import { openCamera } from "./camera.js";
import { announce, ask, button, byId, classMark, element, icon, iconButton, isolated, list, name, photos } from "./dom.js";
import { openGallery, thumbnail } from "./gallery.js";
import { choose } from "./intake.js";
import { attempt } from "./notices.js";
import { onOutbox, pending, preview, send } from "./outbox.js";
import { classIndex, loadProject, onChange, state } from "./state.js";

/// So many photos of a class are a good start.
export const ENOUGH = 20;
const SHOWN = 10;
const UNSORTED = null;

const board = byId("board");
const cards = new Map(); // class name or null -> Card
let newClass = null;

class Card {
  #stored = []; // the first photos of the class
  #images = new Map(); // id -> element, so that thumbnails are loaded once
  #count = 0;
  #loading = false;
  #drawn = null;

  constructor(category) {
    this.category = category;
    this.place = element("li", { class: "card", tabindex: "-1" });
    this.place.card = this;
    this.words = element("p", { class: "card-count" });
    this.goal = element("progress", { class: "goal", max: ENOUGH, "aria-hidden": "true" });
    this.head = element("div", { class: "card-head" });
    this.open = element("button", { type: "button", class: "thumbs-button", "aria-haspopup": "dialog", on: { click: () => openCategory(category) } });
    this.place.append(this.head, this.words, this.goal, this.open, this.#actions());
    this.drawHead();
  }

  drawHead() {
    this.index = classIndex(this.category);
    const title = this.category === UNSORTED ? "Not sorted yet" : name(this.category);
    this.heading = element("h2", { class: "card-title" }, this.category === UNSORTED ? icon("unknown") : classMark(classIndex(this.category)), element("span", {}, title));
    this.head.replaceChildren(this.heading);
    if (this.category === UNSORTED) return;
    this.head.append(
      iconButton("pencil", `Rename ${this.category}`, { class: "plain small icon-only", on: { click: () => this.rename() } }),
      iconButton("bin", `Remove the class ${this.category}`, { class: "plain small icon-only", on: { click: () => this.remove() } }));
  }

  #actions() {
    const of = this.category === UNSORTED ? "without a class" : `to ${this.category}`;
    return element("div", { class: "actions" },
      button("Add photos", { class: "quiet small", "aria-label": `Add photos ${of}`, on: { click: async () => this.take(await choose()) } }, "plus"),
      button("Camera", { class: "quiet small", "aria-label": `Add photos ${of} from the camera`, "aria-haspopup": "dialog", on: { click: () => this.camera() } }, "camera"));
  }

  take(found) {
    if (found.length) send(this.category, found.map(({ file }) => file));
  }

  camera() {
    openCamera({
      title: this.category === UNSORTED ? "Photos without a class" : `Photos of ${isolated(this.category)}`,
      help: "Press for one photo, hold for several. The space bar and Enter do the same. Move the thing about: different sides, distances and backgrounds teach most.",
      several: true,
      onPhoto: (file) => send(this.category, [file]),
    });
  }

  rename() {
    const input = element("input", { type: "text", class: "small", value: this.category, maxlength: 100, "aria-label": `New name of ${this.category}`, required: true });
    const back = () => { this.drawHead(); this.head.querySelector("button").focus(); };
    const form = element("form", { class: "rename" }, input, button("Save", { type: "submit", class: "primary small" }), button("Cancel", { class: "quiet small", on: { click: back } }));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const to = input.value.trim();
      if (to === "" || to === this.category) { back(); return; }
      await attempt(() => renameClass(this.category, to));
      if (cards.has(to)) cards.get(to).head.querySelector("button")?.focus();
    });
    form.addEventListener("keydown", (event) => { if (event.key === "Escape") back(); });
    this.head.replaceChildren(form);
    input.select();
  }

  async remove() {
    if (this.#count > 0 && !await ask(`Remove ${isolated(this.category)}?`, `Its ${photos(this.#count)} go to the project's trash. You can take it back.`, "Remove the class")) return;
    await removeClass(this.category);
    newClass.input.focus();
  }

  /// Draws the counts, and asks for the first photos if they may have changed.
  async update(count, photosChanged) {
    this.#count = count;
    this.draw();
    if (!photosChanged || this.#loading) return;
    this.#loading = true;
    try {
      this.#stored = count ? (await api.getPhotos(this.category, 0, SHOWN)).photos.map(({ id }) => id) : [];
    } catch { /* The next change asks again. */ }
    this.#loading = false;
    this.draw();
  }

  draw() {
    const coming = pending(this.category);
    const n = this.#count;
    const open = coming.length ? `, ${coming.length} on the way` : "";
    this.words.textContent = this.category === UNSORTED ? `${photos(n)}${open}. After a training you see which of them to label first.`
      : n === 0 && !coming.length ? "No photos yet. Drop some here."
        : n < ENOUGH ? `${photos(n)}${open}. About ${ENOUGH} are a good start.` : `${photos(n)}${open}`;
    this.goal.hidden = this.category === UNSORTED || n >= ENOUGH;
    this.goal.value = n;
    this.open.disabled = n === 0;
    this.open.setAttribute("aria-label", n === 0 ? "No photos to show" : `Show ${photos(n)} of ${this.category ?? "no class"}`);
    // What is the same stays: it may be what the pointer drags a photo over.
    const drawn = JSON.stringify([n, this.#stored, coming.length, ...coming.slice(0, SHOWN).map(preview)]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const shown = [...coming.slice(0, SHOWN).map((item) => this.#coming(item)), ...this.#stored.map((id) => this.#photo(id))].slice(0, SHOWN);
    const hidden = n + coming.length - shown.length;
    if (hidden > 0 && shown.length === SHOWN) shown[SHOWN - 1] = element("span", { class: "picture more", "data-more": `+${hidden + 1}` });
    this.open.replaceChildren(...(shown.length ? shown : [element("span", { class: "picture-none", "aria-hidden": "true" }, icon("photo"))]));
  }

  #photo(id) {
    if (!this.#images.has(id)) this.#images.set(id, element("span", { class: "picture" }, thumbnail(id, "", 176)));
    return this.#images.get(id);
  }

  #coming(item) {
    return element("span", { class: "picture coming" }, element("img", { src: preview(item), alt: "", on: { error: (event) => event.target.remove() } }));
  }
}

/// Opens all photos of a class.
async function openCategory(category) {
  const items = await attempt(async () => {
    const all = [];
    for (;;) {
      const { total, photos: some } = await api.getPhotos(category, all.length, 1000);
      all.push(...some);
      if (all.length >= total || some.length === 0) return all;
    }
  });
  if (items) openGallery({ title: category ?? "Not sorted yet", text: photos(items.length), items: items.map(({ id }) => ({ id: current(id) ?? id, lines: [] })) });
}

// --- a new class --------------------------------------------------------------------------------------------

class NewClass {
  #waiting = []; // photos that were dropped before the class had a name

  constructor() {
    this.input = element("input", { type: "text", id: "new-class", maxlength: 100, autocomplete: "off", required: true, placeholder: "such as cat" });
    this.words = element("p", { class: "hint", id: "new-class-words" });
    this.input.setAttribute("aria-describedby", "new-class-words");
    const form = element("form", { class: "new-class" },
      element("label", { for: "new-class", class: "card-title" }, "New class"),
      element("div", { class: "row" }, this.input, button("Make", { type: "submit", class: "primary" })),
      this.words,
      element("div", { class: "actions" }, button("Folder of each class", { class: "quiet small", on: { click: async () => takeFound(await choose({ folder: true })) } }, "folder")));
    form.addEventListener("submit", (event) => { event.preventDefault(); this.make(); });
    this.place = element("li", { class: "card new" }, form);
    this.place.newClass = this;
    this.draw();
  }

  draw() {
    this.words.textContent = this.#waiting.length ? `${photos(this.#waiting.length)} wait for the name of their class.`
      : "Or drop folders: each becomes a class with its photos.";
  }

  async make() {
    const wanted = this.input.value.trim();
    if (wanted === "") { this.input.focus(); return; }
    const made = await attempt(() => makeClass(wanted));
    if (made === undefined) return;
    this.input.value = "";
    const waiting = this.#waiting.splice(0);
    this.draw();
    if (waiting.length) send(wanted, waiting);
    announce(`The class ${wanted} is made.`);
    this.input.focus();
  }

  keep(found) {
    this.#waiting.push(...found.map(({ file }) => file));
    this.draw();
    if (this.input.value.trim()) this.make();
    else this.input.focus();
  }
}

async function makeClass(wanted) {
  await api.addClass(wanted);
  await loadProject();
  return true;
}

/// Photos in folders go to the class of their folder's name, which is made where needed; others wait to be sorted.
async function takeFound(found) {
  const folders = new Map();
  for (const { file, folder } of found) {
    if (!folders.has(folder)) folders.set(folder, []);
    folders.get(folder).push(file);
  }
  for (const [folder, files] of folders) {
    const known = folder === null || state.project.classes.some((one) => one.name === folder);
    if (!known && !await attempt(() => makeClass(folder))) continue;
    send(folder, files);
  }
  const named = [...folders.keys()].filter((folder) => folder !== null);
  if (named.length) announce(`${photos(found.length)} go to ${list(named)}.`);
}

/// What a drop on `target` does.
export function boardTarget(target) {
  const card = target.closest?.(".card");
  if (card?.card) {
    const own = card.card;
    return { place: card, words: null, take: (found) => (own.category === UNSORTED && found.some(({ folder }) => folder) ? takeFound(found) : own.take(found)) };
  }
  if (card?.newClass) {
    return { place: card, words: null, take: (found) => (found.some(({ folder }) => folder) ? takeFound(found) : card.newClass.keep(found)) };
  }
  return { place: board, words: "Drop folders here: each becomes a class. Drop photos on the card of their class.",
    take: (found) => {
      if (found.every(({ folder }) => folder === null) && state.project.classes.length === 0) newClass.keep(found);
      else takeFound(found);
    } };
}

// --- the board ----------------------------------------------------------------------------------------------

function draw(photosChanged) {
  const { project } = state;
  if (!project) return;
  newClass ??= new NewClass();
  const wanted = [...project.classes.map((one) => [one.name, one.photos])];
  if (project.unlabelled > 0 || pending(UNSORTED).length || project.trained) wanted.push([UNSORTED, project.unlabelled]);
  for (const category of [...cards.keys()].filter((known) => !wanted.some(([one]) => one === known))) cards.delete(category);
  const order = wanted.map(([category, count]) => {
    const fresh = !cards.has(category);
    if (fresh) cards.set(category, new Card(category));
    const card = cards.get(category);
    // A class before it in the alphabet changes its colour.
    if (card.index !== classIndex(category) && !card.head.contains(document.activeElement)) card.drawHead();
    card.update(count, fresh || photosChanged);
    return card.place;
  });
  arrange([...order.slice(0, project.classes.length), newClass.place, ...order.slice(project.classes.length)]);
  byId("steps").hidden = project.trained || project.classes.length >= 2;
  byId("welcome").hidden = project.classes.length > 0;
  board.classList.toggle("first", project.classes.length === 0);
  byId("project-line").textContent = projectLine(project);
}

/// Moves only what is not in its place, so that the focus stays where it is.
function arrange(order) {
  [...board.children].filter((child) => !order.includes(child)).forEach((child) => child.remove());
  order.forEach((child, i) => { if (board.children[i] !== child) board.insertBefore(child, board.children[i] ?? null); });
}

function projectLine({ name: project, classes, network, layer }) {
  const total = classes.reduce((sum, one) => sum + one.photos, 0);
  const parts = [`Project ${isolated(project)}`];
  if (total) parts.push(`${photos(total)} in ${classes.length === 1 ? "1 class" : `${classes.length} classes`}`);
  if (network) parts.push(`${network}, ${layer}`);
  return parts.join(" · ");
}

onChange("project", () => draw(false));
onChange("photos", () => draw(true));
onOutbox(() => cards.forEach((card) => card.draw()));
