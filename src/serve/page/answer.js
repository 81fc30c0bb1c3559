// The answer for one photo: picture with explanation, ranked classes, prediction set, nearest training photos.
import * as api from "./api.js";
import { button, classMark, element, icon, isolated, name, percent } from "./dom.js";
import { done } from "./notices.js";
import { send } from "./outbox.js";
import { classIndex, state } from "./state.js";
import { view } from "./viewer.js";

const FIRST = 5;
let parts = null;

/// Draws the answer for `photo` in `place`; `context` has settings, head, looking, and what to call on changes. Controls
/// stay the same elements as long as the photo does, so that a slider can be dragged while answers arrive.
export function showAnswer(place, photo, context) {
  if (parts?.photo !== photo || parts.phase !== photo.phase) {
    parts = { photo, phase: photo.phase, all: false };
    place.replaceChildren(...build(photo, context));
  }
  parts.context = context;
  if (photo.phase === "done") update(photo);
}

function build(photo, context) {
  const figure = element("figure", { class: "answer-picture" });
  parts.picture = element("div", { class: "picture whole" }, photoPicture(photo, `The photo ${photo.file.name}`));
  figure.append(parts.picture, element("figcaption", {}, name(photo.file.name)));
  if (photo.phase !== "done") return [figure, unanswered(photo)];

  parts.explainControls = explainControls(context);
  figure.append(parts.explainControls);
  const words = element("div", { class: "answer-words" });
  // Above the picture on a phone, beside it elsewhere.
  parts.head = element("div", { class: "answer-head" });
  parts.ranking = element("ol", { class: "ranking", "aria-label": "Classes, most probable first" });
  parts.more = element("div");
  words.append(parts.ranking, parts.more);
  if (context.head.coverage) words.append(coveragePart(context));
  parts.nearest = element("section", { class: "nearest", "aria-labelledby": "nearest-title" });
  parts.teach = element("div", { class: "teach-this" });
  words.append(parts.nearest, parts.teach);
  return [parts.head, figure, words];
}

function unanswered(photo) {
  if (photo.phase === "failed") {
    return element("div", { class: "answer-words" },
      element("h3", { id: "answer-name" }, "This file was not classified"),
      element("p", {}, `${isolated(photo.file.name)}: ${photo.reason}.`),
      element("p", { class: "hint" }, "Convert it to JPEG or PNG, or leave it out."));
  }
  return element("div", { class: "answer-words", "aria-busy": "true" }, element("h3", { id: "answer-name", class: "hint" }, "Classifying …"),
    element("div", { class: "skeleton" }), element("div", { class: "skeleton" }), element("div", { class: "skeleton" }));
}

/// The photo itself, from the disk of the visitor.
export function photoPicture(photo, alt) {
  const broken = (event) => event.target.replaceWith(element("span", { class: "absent" }, "no preview in this browser"));
  return element("img", { src: photo.url, alt, decoding: "async", loading: "lazy", on: { error: broken } });
}

// --- the picture and what supports the answer ---------------------------------------------------------------

function explainControls(context) {
  const blend = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: context.settings.blend, "aria-label": "Strength of the explanation over the photo" });
  blend.addEventListener("input", () => { parts.context.onBlend(Number(blend.value)); setBlend(); });
  const box = element("input", { type: "checkbox", role: "switch" });
  box.checked = context.settings.explain;
  box.addEventListener("change", () => parts.context.onExplain(box.checked));
  parts.blend = element("label", { class: "blend", hidden: true }, element("span", {}, "photo"), blend, element("span", {}, "explanation"));
  parts.explainWords = element("p", { class: "hint", role: "status" });
  return element("div", { class: "explain" }, element("label", { class: "switch" }, box, "What supports the answer"), parts.blend, parts.explainWords);
}

function setBlend() {
  parts.overlay?.style.setProperty("opacity", parts.context.settings.blend);
}

const METHODS = {
  "activation-map": (category) => `Yellow places support ${category} the most, dark violet ones nothing or less.`,
  occlusion: (category) => `Covering a yellow place lowers the score of ${category} the most. Covering a dark violet one does not lower it.`,
};

function updateExplanation(photo) {
  const { settings, looking } = parts.context;
  const [explanation] = photo.close?.explanations ?? [];
  const shown = settings.explain && explanation;
  if (!shown) {
    parts.overlay?.remove();
    parts.overlay = null;
  } else if (!parts.overlay) {
    parts.overlay = element("img", { class: "overlay", src: explanation.overlay, alt: `What supports ${explanation.class}` });
    parts.picture.append(parts.overlay);
    setBlend();
  }
  parts.blend.hidden = !shown;
  parts.explainWords.textContent = !settings.explain ? ""
    : explanation ? METHODS[explanation.method]?.(isolated(explanation.class)) ?? ""
      : looking ? "Looking for what supports the answer …"
        : photo.close?.problem ?? (photo.close?.noExplanation ? "This classifier cannot explain its answers." : "");
}

// --- words and bars -----------------------------------------------------------------------------------------

function update(photo) {
  const { answer } = photo;
  const [top] = answer.classes;
  parts.head.replaceChildren(...headline(answer, top));
  updateRanking(photo);
  updateExplanation(photo);
  if (parts.set) updateSet(photo);
  updateNearest(photo);
  updateTeach(photo);
}

function headline(answer, top) {
  const line = element("p", { class: "verdict" }, classMark(classIndex(top.class)),
    element("span", { class: "verdict-name", id: "answer-name", role: "heading", "aria-level": "3" }, name(top.class)),
    element("span", { class: "number" }, percent(top.probability)));
  if (!answer.unknown) return [line];
  return [
    element("p", { class: "badge wrong big" }, icon("unknown"), "Unknown"),
    element("p", {}, `This photo is unlike the training photos${answer.distance === undefined ? "" : ` (distance ${answer.distance.toFixed(2)})`}. It is probably none of the classes, whatever the percentages say.`),
    line,
  ];
}

function updateRanking(photo) {
  const { classes, set } = photo.answer;
  const shown = parts.all ? classes : classes.slice(0, FIRST);
  parts.ranking.replaceChildren(...shown.map(({ class: category, probability }) => {
    const bar = element("span", { class: "fill", "aria-hidden": "true" });
    bar.style.setProperty("--share", probability);
    const inSet = !set || set.includes(category);
    return element("li", { class: inSet ? "in" : "out" },
      element("span", { class: "category" }, classMark(classIndex(category)), name(category)),
      element("span", { class: "value" }, percent(probability)), element("span", { class: "track", "aria-hidden": "true" }, bar));
  }));
  if (classes.length <= FIRST) return;
  const text = parts.all ? "Fewer classes" : `All ${classes.length} classes`;
  if (parts.more.textContent === text) return;
  parts.more.replaceChildren(button(text, { class: "quiet small", on: { click: () => { parts.all = !parts.all; updateRanking(photo); parts.more.firstElementChild.focus(); } } }));
}

function coveragePart(context) {
  const range = element("input", { type: "range", id: "coverage", min: 50, max: 99, step: 1, value: Math.round(100 * context.settings.coverage), "aria-describedby": "set-words" });
  parts.coverage = range;
  const output = element("output", { for: "coverage" }, `${range.value}\u00a0%`);
  range.setAttribute("aria-valuetext", `${range.value}\u00a0%`);
  range.addEventListener("input", () => {
    output.textContent = `${range.value}\u00a0%`;
    range.setAttribute("aria-valuetext", `${range.value}\u00a0%`);
    parts.context.onCoverage(Number(range.value) / 100);
  });
  parts.set = element("p", { class: "set", id: "set-words" });
  return element("section", { class: "coverage", "aria-labelledby": "set-title" },
    element("h4", { id: "set-title" }, "Prediction set"), parts.set,
    element("div", { class: "coverage-row" }, element("label", { for: "coverage" }, "Coverage"), range, output));
}

function updateSet({ answer, coverage }) {
  const { settings } = parts.context;
  const current = coverage === settings.coverage;
  parts.set.classList.toggle("stale", !current);
  if (!current || !answer.set) return;
  const share = percent(coverage, 0);
  const chips = answer.set.map((category) => element("strong", { class: "chip" }, classMark(classIndex(category)), name(category)));
  const words = answer.set.length === 0 ? `No class fits this photo at ${share}.`
    : answer.set.length === 1 ? ` alone. Such sets hold the right class for about ${share} of photos like the training photos.`
      : ` – one of these. Such sets hold the right class for about ${share} of photos like the training photos.`;
  parts.set.replaceChildren(...chips.flatMap((chip) => [chip, " "]), words);
}

function updateNearest(photo) {
  const { head, looking } = parts.context;
  parts.nearest.hidden = !head.neighbors || photo.close?.nearest?.length === 0;
  const key = photo.close?.nearest ? "there" : looking ? "looking" : "none";
  if (parts.nearest.dataset.key === key) return;
  parts.nearest.dataset.key = key;
  const title = element("h4", { id: "nearest-title" }, "Nearest training photos");
  if (!photo.close?.nearest) {
    parts.nearest.replaceChildren(title, element("ul", { class: "neighbors", "aria-busy": "true" }, ...Array.from({ length: 6 }, () => element("li", { "aria-hidden": "true" }, element("div", { class: "picture skeleton" })))));
    return;
  }
  parts.nearest.replaceChildren(title, element("ul", { class: "neighbors" }, ...photo.close.nearest.map(neighbor)));
}

function neighbor({ image, class: category, distance }) {
  const alt = `Training photo ${image}`;
  const picture = element("img", { src: api.trainingImage(image), alt, loading: "lazy", on: { error: (event) => event.target.replaceWith(element("span", { class: "absent" }, "moved or removed")) } });
  const open = element("button", { type: "button", class: "picture-button", "aria-label": `${category ?? "no class"}, distance ${distance.toFixed(2)}: open the training photo ${image}`, on: { click: () => view(image, api.trainingImage) } }, element("div", { class: "picture" }, picture));
  return element("li", {}, open, category ? element("span", { class: "line" }, classMark(classIndex(category)), element("strong", {}, name(category))) : null, element("span", { class: "name" }, `distance ${distance.toFixed(2)}`));
}

// --- from an answer to a lesson -----------------------------------------------------------------------------

function updateTeach(photo) {
  const classes = state.project?.classes ?? [];
  const key = JSON.stringify([photo.taught ?? null, classes.map((one) => one.name)]);
  if (parts.teach.dataset.key === key) return;
  parts.teach.dataset.key = key;
  parts.teach.replaceChildren();
  if (!state.status.teach || classes.length === 0) return;
  if (photo.taught) {
    parts.teach.append(element("p", {}, icon("check"), " Added to ", element("strong", {}, name(photo.taught)), ". ", element("a", { href: "#teach" }, "Train again"), " to learn from it."));
    return;
  }
  const select = element("select", { class: "small", id: "teach-class" }, ...classes.map((one) => element("option", { value: one.name }, one.name)));
  const [, second] = photo.answer.classes;
  select.value = second && classes.some((one) => one.name === second.class) ? second.class : classes[0].name;
  parts.teach.append(
    element("label", { for: "teach-class" }, "Not right, or new to it? Add the photo to"), select,
    button("Teach", { class: "quiet small", on: { click: () => {
      photo.taught = select.value;
      send(select.value, [photo.file]);
      done(`${photo.file.name} goes to ${isolated(select.value)}. Train again to learn from it.`);
      updateTeach(photo);
    } } }));
}
