// The place Classify: photos in, ranked answers out.
import { photoPicture, showAnswer } from "./answer.js";
import { openCamera } from "./camera.js";
import { ClassifyQueue } from "./classify-queue.js";
import { announce, byId, classMark, columnsOf, element, icon, many, name, percent, photos, rove } from "./dom.js";
import { choose } from "./intake.js";
import { attempt, trouble } from "./notices.js";
import { classIndex, onChange, state } from "./state.js";

const SETTINGS = "cnncodes-classify";
const settings = { coverage: 0.9, explain: true, blend: 0.7, ...stored() };
let chosen = null;
let shownAnswer = null; // only photos of this answer are among the tiles
let looking = null;
let headOfAnswers = null;

function stored() {
  try { return JSON.parse(localStorage.getItem(SETTINGS)) ?? {}; } catch { return {}; }
}

function store() {
  try { localStorage.setItem(SETTINGS, JSON.stringify(settings)); } catch { /* Then they last as long as the page. */ }
}

const queue = new ClassifyQueue({
  settings: () => ({ coverage: state.status?.head?.coverage ? settings.coverage : undefined }),
  onChange: (photo) => { updateTile(photo); later(); if (photo === chosen) present(); },
  onWait: ({ message }) => { byId("answers-count").textContent = message; },
});

const answerOf = ({ phase, answer }) => (phase === "failed" ? "not readable" : answer?.unknown ? "unknown" : answer?.classes[0].class);

// --- photos in ----------------------------------------------------------------------------------------------

export function classifyFiles(found) {
  if (!state.status?.head) { trouble("no classifier: nothing is learned yet; teach two classes first"); return; }
  const fresh = queue.photos.length === 0;
  const added = queue.add(found.map(({ file }) => file));
  headOfAnswers = headKey();
  byId("tiles").append(...added.map(tile));
  if (fresh || added.length === 1) choosePhoto(added[0]);
  announce(`Classifying ${photos(added.length)}.`);
  show();
}

byId("classify-choose").addEventListener("click", async () => take(await choose()));
byId("classify-folder").addEventListener("click", async () => take(await choose({ folder: true })));
byId("classify-camera").addEventListener("click", () => openCamera({
  title: "Photograph something", help: "Press the button, the space bar or Enter. The photo is classified at once.",
  several: false, onPhoto: (file) => classifyFiles([{ file, folder: null }]),
}));
const take = (found) => { if (found.length) classifyFiles(found); };

// --- the list of photos -------------------------------------------------------------------------------------

const tiles = byId("tiles");
const tileOf = new WeakMap();
const roving = rove(tiles, '[role="option"]:not([hidden])', {
  columns: () => columnsOf(tiles),
  onFocus: (item) => choosePhoto(item.photo),
});

function tile(photo) {
  const item = element("li", { role: "option", "aria-selected": "false", tabindex: "-1" });
  item.photo = photo;
  item.addEventListener("click", () => roving.go(item));
  tileOf.set(photo, item);
  updateTile(photo);
  return item;
}

function updateTile(photo) {
  const item = tileOf.get(photo);
  if (!item) return;
  if (!item.firstElementChild) item.append(element("div", { class: "picture" }, photoPicture(photo, "")), element("div", { class: "tile-words" }));
  const top = photo.answer?.classes[0];
  const words = photo.phase === "failed" ? [element("span", { class: "badge wrong" }, icon("warning"), "not readable")]
    : !photo.answer ? [element("span", { class: "hint", "aria-label": "waiting", role: "img" }, "…")]
      : photo.answer.unknown ? [element("span", { class: "badge wrong" }, icon("unknown"), "unknown")]
        : [classMark(classIndex(top.class)), element("strong", {}, name(top.class)), element("span", { class: "value" }, percent(top.probability, 0))];
  item.lastElementChild.replaceChildren(element("span", { class: "hidden-words" }, `${photo.file.name}: `), ...words);
  item.classList.toggle("pending", photo.phase === "waiting" || photo.phase === "asking");
}

function choosePhoto(photo) {
  chosen = photo;
  for (const item of tiles.children) {
    const is = item.photo === photo;
    item.setAttribute("aria-selected", String(is));
    item.setAttribute("tabindex", is ? "0" : "-1");
  }
  present();
  lookCloser();
}

// --- the chosen photo ---------------------------------------------------------------------------------------

function present() {
  if (!chosen) return;
  showAnswer(byId("answer"), chosen, {
    settings, head: state.status.head, looking: looking === chosen,
    onCoverage: (coverage) => { settings.coverage = coverage; store(); lookSoon(); },
    onExplain: (explain) => { settings.explain = explain; store(); present(); lookCloser(); },
    onBlend: (blend) => { settings.blend = blend; store(); },
  });
}

let soon = null;
function lookSoon() {
  clearTimeout(soon);
  soon = setTimeout(lookCloser, 250);
}

/// Asks for what the chosen photo still lacks: nearest photos, explanation, the set at today's coverage.
async function lookCloser() {
  const photo = chosen;
  const { head } = state.status;
  if (!photo || photo.phase !== "done" || looking) return;
  const lacks = (settings.explain && !photo.close?.explanations && !photo.close?.noExplanation) || (head.neighbors && !photo.close?.nearest)
    || (head.coverage && photo.coverage !== settings.coverage);
  if (!lacks) return;
  looking = photo;
  present();
  const before = photo.close;
  try {
    await queue.look(photo, { explain: settings.explain && !before?.explanations, neighbors: head.neighbors && !before?.nearest });
    photo.close = { explanations: photo.close.explanations ?? before?.explanations, nearest: photo.close.nearest ?? before?.nearest,
      noExplanation: settings.explain && !photo.close.explanations && !before?.explanations };
  } catch (error) {
    if (error.name !== "AbortError") {
      photo.close = { ...before, nearest: before?.nearest ?? [], noExplanation: true, problem: error.message };
      photo.coverage = settings.coverage;
    }
  }
  // The photo may have been cleared away meanwhile, and another one be looked at.
  if (looking !== photo) return;
  looking = null;
  updateTile(photo);
  present();
  lookCloser();
}

// --- the whole ----------------------------------------------------------------------------------------------

let drawing = null;
/// Many answers come at once; the counts are drawn once a frame.
function later() {
  drawing ??= requestAnimationFrame(() => { drawing = null; show(); });
}

function show() {
  const { head } = state.status;
  byId("no-head").hidden = head !== null;
  byId("classifier").hidden = head === null;
  byId("head-line").replaceChildren(...headLine(head));
  const all = queue.photos;
  byId("answers").hidden = all.length === 0;
  byId("classify-drop").classList.toggle("slim", all.length > 0);
  if (all.length === 0) return;

  const { open } = queue;
  byId("answers").classList.toggle("single", all.length === 1);
  byId("answers-count").textContent = open ? `${all.length - open} of ${photos(all.length)}` : photos(all.length);
  const progress = byId("answers-progress");
  progress.hidden = open === 0 || all.length === 1;
  progress.max = all.length;
  progress.value = all.length - open;
  if (open === 0 && byId("answers").dataset.open !== "0") finished();
  byId("answers").dataset.open = open;
  showFilter(all);
  if (chosen?.phase === "done" && !looking) lookCloser();
}

function finished() {
  const [only] = queue.photos;
  const text = queue.photos.length > 1 ? `${photos(queue.photos.length)} classified: ${counted().map(([answer, n]) => `${n} ${answer}`).join(", ")}.`
    : only.phase === "failed" ? `${only.file.name}: ${only.reason}`
      : `${only.answer.unknown ? "Unknown. " : ""}${only.answer.classes[0].class}, ${percent(only.answer.classes[0].probability)}.`;
  announce(text);
}

function counted() {
  const counts = new Map();
  for (const photo of queue.photos) {
    const answer = answerOf(photo);
    if (answer) counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function showFilter(all) {
  const counts = counted();
  const place = byId("answers-filter");
  place.hidden = counts.length < 2;
  if (!counts.some(([answer]) => answer === shownAnswer)) shownAnswer = null;
  const chip = (answer, text, n) => element("button", {
    type: "button", class: "quiet small", "aria-pressed": String(shownAnswer === answer), "data-key": answer ?? "",
    on: { click: () => { shownAnswer = answer; show(); } },
  }, answer && state.status.head.classes.includes(answer) ? classMark(classIndex(answer)) : null, name(text), element("span", { class: "hint" }, String(n)));
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(chip(null, "all", all.length), ...counts.slice(0, 12).map(([answer, n]) => chip(answer, answer, n)));
  if (focused !== null) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  for (const item of tiles.children) item.hidden = shownAnswer !== null && answerOf(item.photo) !== shownAnswer;
  const visible = [...tiles.children].filter((item) => !item.hidden);
  if (visible.length && !visible.some((item) => item.photo === chosen)) choosePhoto(visible[0].photo);
}

function headLine(head) {
  if (!head) return [];
  const { accuracy, classes } = head;
  const parts = [many(classes.length, "class", "classes"), `${head.network}, ${head.layer}`];
  if (accuracy) parts.push(`accuracy ${percent(accuracy.value)} (95 % interval ${percent(accuracy.low)} to ${percent(accuracy.high)})`);
  return [element("strong", {}, head.saved ? name(head.name) : "last training, not saved yet"), ` · ${parts.join(" · ")}`];
}

const headKey = () => JSON.stringify([state.status.head?.name, state.status.head?.accuracy, state.status.head?.classes, state.result?.trained_at]);

onChange("status", () => {
  if (queue.photos.length && state.status.head && headOfAnswers !== headKey()) askAnew();
  show();
});

/// The photos are classified by the new head.
function askAnew() {
  const at = Math.max(0, queue.photos.indexOf(chosen));
  headOfAnswers = headKey();
  const anew = queue.askAnew();
  tiles.replaceChildren(...anew.map(tile));
  choosePhoto(anew[at]);
}

byId("answers-clear").addEventListener("click", () => {
  queue.clear();
  chosen = looking = null;
  shownAnswer = null;
  tiles.replaceChildren();
  show();
  byId("classify-choose").focus();
  announce("Cleared.");
});

byId("answers-csv").addEventListener("click", () => attempt(async () => {
  await queue.refreshSets();
  const { classes, coverage } = state.status.head;
  const field = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const header = ["image", "answer", "unknown", ...(coverage ? [`set at ${percent(settings.coverage, 0)}`] : []), ...classes, "problem"];
  const rows = queue.photos.map(({ file, answer, reason }) => {
    const probability = new Map(answer?.classes.map((ranked) => [ranked.class, ranked.probability]));
    return [file.name, answer?.classes[0].class ?? "", answer?.unknown ?? "", ...(coverage ? [answer?.set?.join(" ") ?? ""] : []),
      ...classes.map((one) => probability.get(one)?.toFixed(6) ?? ""), reason ?? ""];
  });
  const csv = [header, ...rows].map((row) => row.map((value) => field(String(value))).join(",")).join("\r\n");
  const link = element("a", { href: URL.createObjectURL(new Blob([csv], { type: "text/csv" })), download: "answers.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}));
