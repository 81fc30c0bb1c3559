// What the last training found: accuracy, comparison with the training before, learning curve, saving. The other
// sections are in confusion.js and review.js.
import { forgetPlaces } from "./actions.js";
import * as api from "./api.js";
import { accuracyFigure, differenceFigure, learningCurve } from "./charts.js";
import { confusionSection } from "./confusion.js";
import { button, byId, element, icon, isolated, name, percent, photos } from "./dom.js";
import { attempt, done } from "./notices.js";
import { drawReview } from "./review.js";
import { scrolling, section } from "./sections.js";
import { loadResult, loadStatus, onChange, state } from "./state.js";
import { runJob } from "./training.js";

let drawn = null;

function draw() {
  const { result, project } = state;
  const place = byId("outcome");
  if (!result || !project) {
    place.replaceChildren();
    contents();
    return;
  }
  if (drawn !== result.trained_at) {
    drawn = result.trained_at;
    forgetPlaces();
    place.replaceChildren(...[accuracySection(result), learningSection(result), confusionSection(result),
      element("div", { id: "review" }), saveSection(result)].filter(Boolean));
  }
  tellChanged();
  drawReview(result);
  contents();
}

/// The contents list what is there.
function contents() {
  for (const link of document.querySelectorAll(".contents a")) {
    link.parentElement.hidden = !byId(link.getAttribute("href").slice(1));
  }
}

// --- accuracy -----------------------------------------------------------------------------------------------

function accuracySection({ evaluation, comparison, problems, head }) {
  const { accuracy, chance, folds } = evaluation;
  return section("result", "How good is it?",
    element("p", { class: "note warning", id: "changed-note", hidden: true }, element("strong", {}, "Photos or classes changed since."), " These figures are those of the training before. Train again to see whether it got better."),
    element("div", { class: "headline" },
      element("p", { class: "figure" }, element("span", { class: "number" }, percent(accuracy.value)), " ", element("span", { class: "what" }, "accuracy")),
      element("div", { class: "headline-words" },
        element("p", {}, `${accuracy.successes} of ${photos(accuracy.trials)} were classified correctly, each by a head that had seen neither the photo nor a duplicate of it (${folds}-fold cross-validation). With 95 % confidence it is between `,
          element("strong", {}, percent(accuracy.low)), " and ", element("strong", {}, percent(accuracy.high)), ` on photos like these.`),
        accuracyFigure(accuracy, chance))),
    comparison && element("div", { class: "compared" },
      element("h3", {}, "Better than before?"), element("p", {}, comparison.verdict), differenceFigure(comparison.difference)),
    evaluation.notes.length > 0 && element("ul", { class: "notes" }, ...evaluation.notes.map(({ severity, text }) =>
      element("li", { class: `note ${severity === "warning" ? "warning" : ""}` }, severity === "warning" && element("strong", {}, "Warning. "), text))),
    problems.length > 0 && element("details", { open: problems.length <= 3 },
      element("summary", {}, `${photos(problems.length)} could not be used`),
      element("ul", { class: "short" }, ...problems.slice(0, 100).map((problem) => element("li", {}, name(problem.name), `: ${problem.reason}`)))),
    element("p", { class: "hint" }, `${head.kind} head on ${head.features.toLocaleString("en")} features of ${head.layer} of ${head.network}.`));
}

function tellChanged() {
  const note = byId("changed-note");
  if (note) note.hidden = !state.project.changed;
}

// --- learning curve -----------------------------------------------------------------------------------------

function learningSection({ learning }) {
  if (!learning || learning.points.length < 2) return null;
  const rows = learning.points.map(({ per_class, accuracy }) => element("tr", {},
    element("th", { scope: "row" }, String(Math.round(per_class))), element("td", {}, percent(accuracy.value)), element("td", {}, `${percent(accuracy.low)} – ${percent(accuracy.high)}`)));
  return section("learning", "Would more photos help?",
    element("p", { class: "verdict-words" }, learning.verdict),
    element("figure", {}, learningCurve(learning.points),
      element("figcaption", {}, "Accuracy of heads fitted to parts of the photos, with 95 % intervals. Every point has the same classified photos and the same folds.")),
    element("details", {}, element("summary", {}, "The numbers"),
      scrolling("Numbers of the learning curve", element("table", {},
        element("thead", {}, element("tr", {}, ...["photos per class", "accuracy", "95 % interval"].map((title) => element("th", { scope: "col" }, title)))),
        element("tbody", {}, ...rows)))));
}

// --- saving -------------------------------------------------------------------------------------------------

function saveSection(result) {
  const input = element("input", { type: "text", id: "head-name", maxlength: 100, required: true, autocomplete: "off", value: result.head.saved_as ?? state.project.name });
  const words = element("p", { class: "hint", role: "status" }, result.head.saved_as ? `Saved as ${isolated(result.head.saved_as)}.` : "A saved head stays when you train again, and the command line can use it.");
  const replace = element("input", { type: "checkbox" });
  const again = element("label", { class: "check", hidden: true }, replace, " replace the head of this name");
  const form = element("form", { class: "save" }, element("label", { for: "head-name" }, "Name"), input, button("Save", { type: "submit", class: "primary" }), again);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { file } = await api.saveHead(input.value.trim(), replace.checked);
      words.replaceChildren("Saved as ", element("code", {}, file), ". On the command line: ", element("code", {}, `cnncodes classify photo.jpg --head ${file}`));
      again.hidden = true;
      replace.checked = false;
      done(`Saved as ${file}.`);
      await attempt(() => Promise.all([loadStatus(), loadResult()]));
    } catch (error) {
      words.textContent = error.message;
      again.hidden = error.status !== 409;
      (again.hidden ? input : replace).focus();
    }
  });
  return section("save", "Save and share", element("h3", {}, "Save the head"), form, words, element("h3", {}, "Download"), downloads());
}

const FILES = [
  ["head", "Head", "The classifier without its network: small, for cnncodes.", null],
  ["onnx", "Sealed classifier", "One ONNX file with preprocessing, network and head: runs anywhere ONNX Runtime does.", "export"],
  ["features", "Features", "The numbers of all photos as HDF5, for Python, R and MATLAB.", null],
  ["report", "Report", "One HTML file with all figures and photos, to mail or print.", "report"],
];

/// Links to the files of the last training. Some are made when they are asked for.
export function downloads() {
  return element("ul", { class: "downloads" }, ...FILES.map(([what, title, words, task]) => {
    const link = task
      ? button(title, { class: "quiet button", on: { click: (event) => make(event.currentTarget, what, title, task) } }, "download")
      : element("a", { class: "quiet button", href: api.download(what), download: "" }, icon("download"), ` ${title}`);
    return element("li", {}, link, element("span", { class: "hint" }, words));
  }));
}

async function make(pressed, what, title, task) {
  pressed.setAttribute("aria-busy", "true");
  const made = await runJob(task);
  pressed.removeAttribute("aria-busy");
  if (!made) return;
  const link = element("a", { href: api.download(what), download: "" });
  document.body.append(link);
  link.click();
  link.remove();
  done(`${title}: the download began.`);
}

onChange("result", draw);
onChange("project", draw);
