// The queue of photos on their way to the project. A photo leaves it when the server has acknowledged it, that is, when
// it is on the server's disk. What fails for now is tried again; what is refused says why.
import * as api from "./api.js";
import { announce, button, byId, element, iconButton, isolated, many, photos } from "./dom.js";
import { done } from "./notices.js";
import { forget, keep, kept } from "./outbox-store.js";
import { state } from "./state.js";

const AT_ONCE = 3;
const LONGEST_WAIT = 15;

let queue = []; // { key, category, file, phase: "waiting" | "sending" | "refused", reason }
let total = 0; // of the photos since the queue was last empty
let stored = 0;
let duplicates = [];
let pause = null; // { until, reason, timer } while the server does not take photos
let tries = 0;
const listeners = [];

export const onOutbox = (listener) => listeners.push(listener);

/// Photos of a class that are on their way.
export const pending = (category) => queue.filter((item) => item.category === category && item.phase !== "refused");

/// Adds photos to a class (null: without a class).
export async function send(category, files) {
  const project = state.project.folder;
  const items = files.map((file) => ({ key: null, category, file, phase: "waiting", reason: null }));
  queue.push(...items);
  total += items.length;
  announce(`Adding ${photos(files.length)}${category === null ? "" : ` to ${category}`}.`);
  show();
  // Kept first, so that a crash from here on loses nothing.
  await Promise.all(items.map(async (item) => {
    item.key = await keep({ project, category, file: item.file, name: item.file.name });
    if (!queue.includes(item)) forget(item.key);
  }));
  work();
}

/// Goes on with what was not acknowledged when the page was closed.
export async function resume() {
  const known = new Set(queue.map(({ key }) => key));
  for (const { key, category, file, name } of await kept(state.project.folder)) {
    if (known.has(key)) continue;
    // Some browsers give a file back without its name.
    queue.push({ key, category, file: file.name === name ? file : new File([file], name), phase: "waiting", reason: null });
    total += 1;
  }
  show();
  work();
}

function work() {
  if (pause) return;
  while (queue.filter(({ phase }) => phase === "sending").length < AT_ONCE) {
    const item = queue.find(({ phase }) => phase === "waiting");
    if (!item) break;
    item.phase = "sending";
    sendOne(item);
  }
}

async function sendOne(item) {
  try {
    const answer = await api.addPhotos(item.category, [item.file]);
    tries = 0;
    const [problem] = answer.problems;
    if (problem) {
      refuse(item, problem.reason);
    } else {
      if (answer.duplicates.length) duplicates.push({ name: item.file.name, of: answer.duplicates[0].of });
      settle(item);
      stored += 1;
    }
  } catch (error) {
    if (error.passes) wait(item, error);
    else refuse(item, error.message);
  }
  finishIfEmpty();
  show();
  work();
}

function settle(item) {
  queue = queue.filter((other) => other !== item);
  forget(item.key);
}

function refuse(item, reason) {
  item.phase = "refused";
  item.reason = reason;
  forget(item.key);
  item.key = null;
  announce(`${item.file.name} was not added: ${reason}`);
}

function wait(item, { message, status, retryAfter }) {
  item.phase = "waiting";
  if (pause) return;
  const seconds = retryAfter ?? Math.min(LONGEST_WAIT, 2 ** tries);
  tries += 1;
  pause = { until: Date.now() + 1000 * seconds, reason: status === 0 ? null : message, timer: setTimeout(goOn, 1000 * seconds) };
}

function goOn() {
  clearTimeout(pause?.timer);
  pause = null;
  work();
  show();
}

api.connection.addEventListener("online", () => { if (pause) goOn(); });

/// When all that can be added is added, it is said what became of it.
function finishIfEmpty() {
  const refused = queue.filter(({ phase }) => phase === "refused").length;
  if (queue.length > refused || total === refused) return;
  const added = stored - duplicates.length;
  const [first] = duplicates;
  if (!first) announce(`${photos(added)} added.`);
  else if (duplicates.length === 1) done(`${isolated(first.name)} is in the project already, as ${isolated(first.of)}. It was not added again.`);
  else done(`${photos(duplicates.length)} are in the project already, the first as ${isolated(first.of)}. They were not added again.`);
  total = refused;
  stored = 0;
  duplicates = [];
}

// --- what the page shows of it ------------------------------------------------------------------------------

let previews = new Map();

/// A local picture of a photo that the server does not have yet.
export function preview(item) {
  if (!previews.has(item)) previews.set(item, URL.createObjectURL(item.file));
  return previews.get(item);
}

function release() {
  for (const [item, url] of previews) {
    if (queue.includes(item)) continue;
    URL.revokeObjectURL(url);
    previews.delete(item);
  }
}

function show() {
  const place = byId("outbox");
  const refused = queue.filter(({ phase }) => phase === "refused");
  const open = queue.length - refused.length;
  const parts = [];
  if (open) {
    const words = pause
      ? `${many(open, "photo waits", "photos wait")}${pause.reason ? `: ${pause.reason}` : " for the server. Nothing is lost."}`
      : `Adding photos: ${stored} of ${total - refused.length} are on the disk`;
    parts.push(element("div", { class: "row" }, element("p", {}, words), pause && button("Retry now", { class: "quiet small", on: { click: goOn } }, "retry")));
    parts.push(element("progress", { max: total - refused.length, value: stored, "aria-label": "Photos added" }));
  }
  if (refused.length) {
    parts.push(element("div", { class: "row" },
      element("p", {}, `${many(refused.length, "photo was", "photos were")} not added`),
      button("Retry all", { class: "quiet small", on: { click: () => retry(refused) } }, "retry"),
      iconButton("cross", "Dismiss them all", { class: "plain small icon-only", on: { click: () => dismiss(refused) } })));
    parts.push(element("ul", {}, ...refused.slice(0, 20).map(refusedRow)));
  }
  place.replaceChildren(...parts);
  place.classList.toggle("trouble", refused.length > 0 || pause !== null);
  place.hidden = parts.length === 0;
  release();
  listeners.forEach((listener) => listener());
}

function refusedRow(item) {
  return element("li", {},
    element("div", { class: "picture" }, element("img", { src: preview(item), alt: "", on: { error: (event) => event.target.remove() } })),
    element("span", {}, element("bdi", { class: "name" }, item.file.name), item.reason),
    iconButton("retry", `Try ${item.file.name} again`, { class: "quiet small icon-only", on: { click: () => retry([item]) } }));
}

function retry(items) {
  for (const item of items) item.phase = "waiting";
  show();
  work();
}

function dismiss(items) {
  queue = queue.filter((item) => !items.includes(item));
  total -= items.length;
  show();
  finishIfEmpty();
}

addEventListener("beforeunload", (event) => {
  // Photos with a key are in the browser's store, and go on after a reload.
  if (queue.some(({ key, phase }) => phase !== "refused" && key === null)) event.preventDefault();
});
