// Photos that deserve a look: suspects, duplicates, and unlabelled photos that teach most. Each has its remedies beside
// it, one click each, and each click can be undone.
import { current, move, remove } from "./actions.js";
import { button, byId, classMark, element, icon, isolated, name, percent } from "./dom.js";
import { line, thumbnail } from "./gallery.js";
import { section } from "./sections.js";
import { classIndex, state } from "./state.js";
import { view } from "./viewer.js";

const MOST = 12;
const MOST_BUTTONS = 5;
const KEPT = "cnncodes-kept";

// Photos whose label the user confirmed, by what was doubted.
const kept = new Set(stored());

function stored() {
  try { return JSON.parse(localStorage.getItem(KEPT)) ?? []; } catch { return []; }
}

function keep(key) {
  kept.add(key);
  try { localStorage.setItem(KEPT, JSON.stringify([...kept].slice(-2000))); } catch { /* Then it holds as long as the page. */ }
}

let drawnFor = null;
let pictures = new Map(); // each section's pictures, which stay when a card is drawn anew
let picturesOf = null;

/// Draws the sections anew when a photo changed its place.
export function drawReview(result) {
  const place = byId("review");
  const key = JSON.stringify([result.trained_at, state.project.revision, kept.size, state.project.classes.map((one) => one.name)]);
  if (!place || drawnFor === key && place.children.length) return;
  drawnFor = key;
  if (picturesOf !== result.trained_at) {
    picturesOf = result.trained_at;
    pictures = new Map();
  }
  const focused = place.contains(document.activeElement) ? focusPlace(place) : null;
  place.replaceChildren(...[suspectsSection(result), duplicatesSection(result), nextSection(result)].filter(Boolean));
  if (focused) restoreFocus(focused);
}

/// Where the focus is, to find the same place or the next one after the cards were drawn anew.
function focusPlace(place) {
  const area = document.activeElement.closest("section")?.id;
  const cards = [...place.querySelectorAll(`#${area} .card`)];
  return { area, at: cards.indexOf(document.activeElement.closest(".card")) };
}

function restoreFocus({ area, at }) {
  const cards = [...document.querySelectorAll(`#${area} .card`)];
  // The next card with something to do, else the one before.
  const open = (card) => card.querySelector(".actions button");
  const card = cards.slice(Math.max(at, 0)).find(open) ?? cards.slice(0, Math.max(at, 0)).findLast(open);
  (card?.querySelector(".actions button") ?? byId(`${area}-title`) ?? byId("photos-title"))?.focus({ preventScroll: true });
}

function pictureOf(kind, id) {
  const key = `${kind} ${id}`;
  const made = () => element("div", { class: "picture" }, thumbnail(id, "", 320));
  if (current(id) === null) return made();
  if (!pictures.has(key)) pictures.set(key, made());
  return pictures.get(key);
}

/// A card of a photo in a section: picture, words, what can be done with it.
function card(kind, id, lines, actions, settled = null) {
  const now = current(id);
  const picture = element("button", { type: "button", class: "picture-button", "aria-label": `Open ${id} large`, disabled: now === null, on: { click: () => view(now) } },
    pictureOf(kind, id));
  return element("li", { class: `card review-card ${settled ? "settled" : ""}` },
    element("figure", {}, picture, element("figcaption", {}, ...lines, element("span", { class: "name" }, name(id)))),
    settled ? element("p", { class: "settled-words" }, icon("check"), " ", settled) : element("div", { class: "actions" }, ...actions));
}

/// What became of a photo since the training, in words, or null.
function fate(id) {
  const now = current(id);
  if (now === null) return "Removed.";
  if (now === id) return null;
  const home = now.includes("/") ? now.slice(0, now.lastIndexOf("/")) : null;
  const before = id.includes("/") ? id.slice(0, id.lastIndexOf("/")) : null;
  if (home === before) return null;
  return home === null ? "Not sorted yet." : `Moved to ${isolated(home)}.`;
}

const hasClass = (category) => state.project.classes.some((one) => one.name === category);
const moveButton = (id, category, look) => hasClass(category) && button(`Move to ${isolated(category)}`, { class: `${look} small`, on: { click: () => move([current(id)], category) } });
const removeButton = (id, words = "Remove") => button(words, { class: "quiet small", "aria-label": `Remove ${id}`, on: { click: () => remove([current(id)]) } }, "bin");

// --- suspects -----------------------------------------------------------------------------------------------

function suspectsSection({ suspects }) {
  if (!suspects) return null;
  const doubted = suspects.labels.filter((one) => one.predicted !== one.class && !kept.has(`label ${one.image}`)).slice(0, MOST);
  const strange = suspects.outliers.filter((one) => !kept.has(`outlier ${one.image}`)).slice(0, 6);
  const keepButton = (kind, image, words) => button(words, { class: "quiet small", "aria-label": `${words}: ${image} is right`, on: { click: () => { keep(`${kind} ${image}`); drawReview(state.result); } } }, "check");
  const labels = doubted.map((one) => card("label", one.image,
    [line("given", one.class, one.probability), line("said", one.predicted, one.predicted_probability)],
    [moveButton(one.image, one.predicted, "primary"), keepButton("label", one.image, "Keep"), removeButton(one.image)], fate(one.image)));
  const outliers = strange.map((one) => card("outlier", one.image, [line("given", one.class, `distance ${one.distance.toFixed(2)}`)],
    [keepButton("outlier", one.image, "Keep"), removeButton(one.image)], fate(one.image)));
  return section("suspects", "Photos that deserve a second look",
    element("p", {}, labels.length ? "A head that had not seen the photo finds its class improbable. The label is wrong, the photo is difficult, or it shows several things. Correct what is wrong, then train again."
      : "No label looks wrong."),
    labels.length > 0 && element("ul", { class: "cards" }, ...labels),
    outliers.length > 0 && element("h3", {}, "Least similar to any other photo"),
    outliers.length > 0 && element("p", {}, "These may be what you did not mean to teach, or a kind of photo of which there should be more."),
    outliers.length > 0 && element("ul", { class: "cards" }, ...outliers));
}

// --- duplicates ---------------------------------------------------------------------------------------------

function duplicatesSection({ evaluation, suspects }) {
  const conflicting = suspects?.copies ?? [];
  const among = (images) => conflicting.some((set) => images.every((image) => set.images.includes(image)));
  const sets = [...conflicting.map((set) => ({ ...set, conflict: true })), ...evaluation.duplicates.filter(({ images }) => !among(images))];
  const open = sets.filter(({ images }) => images.filter((id) => current(id) !== null).length > 1);
  if (open.length === 0) return null;
  return section("duplicates", "Duplicates",
    element("p", {}, "Photos that look the same teach once, however many there are. They never stand on both sides of a test, so the accuracy stays honest. You may leave them, or keep one of each."),
    element("ul", { class: "sets" }, ...open.slice(0, 30).map(duplicateSet)),
    open.length > 30 && element("p", { class: "hint" }, `${open.length - 30} more are in the report.`));
}

function duplicateSet({ images, similarity, conflict }) {
  const there = images.filter((id) => current(id) !== null);
  const [first, ...others] = there;
  const likeness = similarity >= 1 ? "identical to the eye" : `likeness ${similarity.toFixed(3)}`;
  const classOf = (id) => (current(id).includes("/") ? current(id).slice(0, current(id).lastIndexOf("/")) : "no class");
  const isConflict = conflict && new Set(there.map(classOf)).size > 1;
  return element("li", { class: `set card ${isConflict ? "conflict" : ""}` },
    element("p", { class: "set-words" }, isConflict && element("strong", { class: "badge wrong" }, icon("warning"), "different classes"), ` ${likeness}`),
    element("ul", { class: "photos" }, ...there.slice(0, 8).map((id) => element("li", {}, element("figure", {},
      element("button", { type: "button", class: "picture-button", "aria-label": `Open ${id} large`, on: { click: () => view(current(id)) } }, element("div", { class: "picture" }, thumbnail(id, "", 176))),
      element("figcaption", {}, line("", classOf(id), null), element("span", { class: "name" }, name(id)))),
      isConflict && removeButton(id)))),
    !isConflict && element("div", { class: "actions" }, button(others.length === 1 ? "Remove the second" : `Keep the first, remove ${others.length}`, { class: "quiet small", on: { click: () => remove(others.map(current)) } }, "bin")));
}

// --- what to label next -------------------------------------------------------------------------------------

const REASONS = {
  uncertain: ({ class: category, probability }) => [line("looks like", category, probability)],
  unlike: () => [line("unlike all training photos", null, null)],
};

function nextSection({ label_next: next }) {
  const open = next.filter(({ id }) => current(id) === id);
  if (next.length === 0 || open.length === 0) {
    if (state.project.unlabelled === 0 || next.length === 0) return null;
    return section("next", "What to label next", element("p", {}, "All proposed photos have their class. Train again to see which of the others teach most."));
  }
  return section("next", "What to label next",
    element("p", {}, `Of the photos without a class, these ${open.length} teach most: the head is least sure of them, or has seen nothing like them. Give each its class; the keys 1 to 9 do so too.`),
    element("ul", { class: "cards" }, ...open.map(nextCard)));
}

function nextCard(photo) {
  const classes = state.project.classes.map((one) => one.name);
  // The head's answer first, the others in their order.
  const offered = [photo.class, ...classes.filter((one) => one !== photo.class)].filter(hasClass);
  const give = (category) => move([photo.id], category);
  const buttons = offered.slice(0, MOST_BUTTONS).map((category, i) => element("button", { type: "button", class: "quiet small", "aria-keyshortcuts": String(i + 1), on: { click: () => give(category) } },
    classMark(classIndex(category)), name(category), element("kbd", { "aria-hidden": "true" }, String(i + 1))));
  const others = offered.slice(MOST_BUTTONS);
  const more = others.length > 0 && element("select", { class: "small", "aria-label": `Another class for ${photo.id}` }, element("option", { value: "" }, "others"), ...others.map((category) => element("option", { value: `=${category}` }, category)));
  const set = more && button("Give", { class: "quiet small", "aria-label": `Give ${photo.id} the chosen class`, on: { click: () => { if (more.value) give(more.value.slice(1)); } } });
  const made = card("next", photo.id, REASONS[photo.reason]?.(photo) ?? [], [...buttons, more, set].filter(Boolean));
  made.setAttribute("aria-label", `${photo.id}, ${photo.reason === "unlike" ? "unlike all training photos" : `looks like ${photo.class} ${percent(photo.probability)}`}`);
  made.addEventListener("keydown", (event) => {
    const category = offered[Number(event.key) - 1];
    if (!category || !/^[1-9]$/.test(event.key) || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("select")) return;
    event.preventDefault();
    give(category);
  });
  return made;
}

