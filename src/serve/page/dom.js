// Elements, words and small habits that all modules share. Names of files and classes are strangers' text: they only
// ever become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/// An element with attributes (`class`, `on` for listeners, others as they are) and children.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  set(made, properties);
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function svg(tag, properties = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  set(made, properties);
  made.append(...children);
  return made;
}

function set(made, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") Object.entries(value).forEach(([event, listener]) => made.addEventListener(event, listener));
    else made.setAttribute(name, value === true ? "" : value);
  }
}

export const byId = (id) => document.getElementById(id);

/// A symbol that stands in index.html.
export function icon(name, properties = {}) {
  return svg("svg", { class: "icon", "aria-hidden": "true", ...properties }, svg("use", { href: `#icon-${name}` }));
}

const SYMBOLS = 8;
const COLORS = 8;

/// The symbol and colour that stand for the k-th class, as in the report.
export function classMark(k) {
  const symbol = (k + Math.floor(k / COLORS)) % SYMBOLS;
  return svg("svg", { class: "mark", "aria-hidden": "true", "data-k": k % COLORS }, svg("use", { href: `#icon-mark-${symbol}` }));
}

export const name = (text) => element("bdi", {}, text);

export function button(text, properties = {}, symbol = null) {
  return element("button", { type: "button", class: "quiet", ...properties }, symbol && icon(symbol), symbol && text ? " " : "", text);
}

/// A button with a symbol only; `label` is what a screen reader says, and the tooltip.
export function iconButton(symbol, label, properties = {}) {
  return element("button", { type: "button", class: "quiet icon-only", "aria-label": label, title: label, ...properties }, icon(symbol));
}

// --- words --------------------------------------------------------------------------------------------------

/// Number and sign stay on one line.
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;
export const many = (n, one, several = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : several}`;
export const photos = (n) => many(n, "photo");

/// A difference of two shares in points, with a sign.
export function points(difference, digits = 1) {
  const text = Math.abs(100 * difference).toFixed(digits);
  return `${difference < 0 && Number(text) !== 0 ? "−" : "+"}${text}`;
}

/// First-strong isolates keep right-to-left names from turning the text around them.
export const isolated = (text) => `\u2068${text}\u2069`;

export function ago(seconds) {
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${many(Math.floor(seconds / 60), "minute")} ago`;
  if (seconds < 86400) return `${many(Math.floor(seconds / 3600), "hour")} ago`;
  return `${many(Math.floor(seconds / 86400), "day")} ago`;
}

/// "a", "a and b", "a, b and c".
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

// --- habits -------------------------------------------------------------------------------------------------

let saying = null;

/// Says `text` to screen readers.
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  clearTimeout(saying);
  saying = setTimeout(() => { live.textContent = text; }, 60);
}

/// Opens a dialog; clicks beside it and buttons with `data-close` close it.
export function openDialog(dialog) {
  if (!dialog.dataset.wired) {
    dialog.dataset.wired = "yes";
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    });
  }
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

/// Asks before something that cannot be undone. Resolves to whether the answer was yes.
export function ask(title, text, yes) {
  const dialog = byId("question");
  byId("question-title").textContent = title;
  byId("question-text").textContent = text;
  byId("question-yes").textContent = yes;
  dialog.returnValue = "no";
  openDialog(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/// Lets the arrow keys, Home and End walk through the children of `place` that match `selector`; one of them is the
/// place's stop for the Tab key. `columns()` says how far up and down are.
export function rove(place, selector, { columns = () => 1, onFocus = () => {} } = {}) {
  const all = () => [...place.querySelectorAll(selector)];
  const go = (target) => {
    all().forEach((item) => item.setAttribute("tabindex", item === target ? "0" : "-1"));
    target.focus();
    onFocus(target);
  };
  place.addEventListener("keydown", (event) => {
    const items = all();
    const at = items.indexOf(event.target.closest(selector));
    if (at < 0 || event.altKey || event.metaKey || event.ctrlKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() }[event.key];
    const to = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : step === undefined ? -1 : at + step;
    if (step === undefined && to < 0) return;
    event.preventDefault();
    if (items[to]) go(items[to]);
  });
  return {
    /// One item is reachable by Tab, also after the items changed.
    refresh() {
      const items = all();
      if (items.length && !items.some((item) => item.getAttribute("tabindex") === "0")) items[0].setAttribute("tabindex", "0");
    },
    go,
  };
}

/// How many children of a grid stand beside each other.
export function columnsOf(grid) {
  return Math.max(1, getComputedStyle(grid).gridTemplateColumns.split(" ").length);
}
