// The confusion matrix, whose cells open their photos, and the figures of each class.
import { classMark, element, isolated, name, percent, photos, rove } from "./dom.js";
import { openGallery } from "./gallery.js";
import { scrolling, section } from "./sections.js";
import { classIndex } from "./state.js";

const MOST_CLASSES = 25;
const MOST_PAIRS = 30;

export function confusionSection({ evaluation, cells }) {
  const names = evaluation.class_names;
  const wrong = cells.filter(({ truth, predicted }) => truth !== predicted).sort((a, b) => b.count - a.count);
  const isMatrix = names.length <= MOST_CLASSES;
  const words = wrong.length === 0 ? "No photo was taken for another class."
    : `The most frequent confusion: ${wrong[0].count} of ${photos(support(evaluation, wrong[0].truth))} of ${isolated(wrong[0].truth)} ${wrong[0].count === 1 ? "is" : "are"} taken for ${isolated(wrong[0].predicted)}.`;
  return section("confusion", "What is taken for what",
    element("p", {}, words, isMatrix ? " Rows are the given classes, columns the answers. A cell opens its photos." : ""),
    isMatrix && scrolling("Confusion matrix", matrix(evaluation, cells)),
    !isMatrix && element("ul", { class: "pairs" }, ...wrong.slice(0, MOST_PAIRS).map((cell) => element("li", {}, cellButton(cell, "quiet", `${cell.count} × ${isolated(cell.truth)} taken for ${isolated(cell.predicted)}`)))),
    element("h3", {}, "Class by class"), perClass(evaluation));
}

const support = (evaluation, category) => evaluation.per_class.find((one) => one.name === category)?.support ?? 0;

function cellButton(cell, look, words) {
  const said = cell.truth === cell.predicted ? `${photos(cell.count)} of ${cell.truth} answered rightly` : `${photos(cell.count)} of ${cell.truth} taken for ${cell.predicted}`;
  return element("button", { type: "button", class: look, "aria-haspopup": "dialog", "aria-label": said, on: { click: () => open(cell) } }, words);
}

function open({ truth, predicted, count, photos: shown }) {
  const right = truth === predicted;
  const listed = count > shown.length ? `${shown.length} of ${photos(count)}` : photos(count);
  openGallery({
    title: right ? `${isolated(truth)}, answered rightly` : `${isolated(truth)} taken for ${isolated(predicted)}`,
    text: count > 1 ? `${listed}, the surest answer first.` : `${listed}.`,
    items: shown.map(({ id, probability }) => ({ id, lines: [[right ? "rightly" : "wrongly", null, probability]] })),
  });
}

function matrix(evaluation, cells) {
  const names = evaluation.class_names;
  const find = (truth, predicted) => cells.find((cell) => cell.truth === truth && cell.predicted === predicted);
  const rows = names.map((truth, i) => element("tr", {}, element("th", { scope: "row" }, name(truth)),
    ...names.map((predicted, j) => {
      const count = evaluation.confusion.counts[i][j];
      const cell = count > 0 && (find(truth, predicted) ?? { truth, predicted, count, photos: [] });
      const shown = element("td", { class: count === 0 ? "" : i === j ? "right" : "wrong" }, cell ? cellButton(cell, "cell", String(count)) : element("span", {}, "0"));
      shown.style.setProperty("--share", count / Math.max(1, support(evaluation, truth)));
      return shown;
    })));
  const table = element("table", { class: "matrix" },
    element("thead", {}, element("tr", {}, element("td"), ...names.map((one) => element("th", { scope: "col" }, name(one))))),
    element("tbody", {}, ...rows));
  walk(table);
  return table;
}

/// The matrix is one stop of the Tab key; the arrow keys walk from cell to cell, over those without photos.
function walk(table) {
  const roving = rove(table, "button", {});
  const buttons = [...table.querySelectorAll("button")];
  buttons.forEach((one, i) => one.setAttribute("tabindex", i === 0 ? "0" : "-1"));
  // Up and down keep to the column, which a list of buttons does not know.
  table.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const { cellIndex, parentElement } = event.target.closest("td");
    for (let row = parentElement.rowIndex + step; table.rows[row]; row += step) {
      const target = table.rows[row].cells[cellIndex].querySelector("button");
      if (target) { roving.go(target); return; }
    }
  }, { capture: true });
}

const COLUMNS = [["class", null], ["precision", "share of the answers with this class that are right"], ["recall", "share of the photos of this class that are found"],
  ["F1", "harmonic mean of precision and recall"], ["photos", null]];

function perClass({ per_class: classes }) {
  const head = COLUMNS.map(([title, meaning]) => element("th", { scope: "col" }, meaning ? element("abbr", { title: meaning }, title) : title));
  const share = (value) => (value === null || Number.isNaN(value) ? "–" : percent(value));
  const rows = classes.map((one) => element("tr", {}, element("th", { scope: "row" }, classMark(classIndex(one.name)), " ", name(one.name)),
    ...[share(one.precision), share(one.recall), share(one.f1), one.support.toLocaleString("en")].map((value) => element("td", {}, value))));
  return scrolling("Figures of each class", element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}
