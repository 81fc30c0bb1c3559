// The corner of the project: where it is, which head answers, downloads, trash.
import * as api from "./api.js";
import { ask, button, byId, element, many, name, openDialog, percent, photos } from "./dom.js";
import { attempt, done, tellProblems } from "./notices.js";
import { downloads } from "./outcome.js";
import { loadProject, loadStatus, state } from "./state.js";

const dialog = byId("project");

byId("open-project").addEventListener("click", async () => {
  if (!state.status) return;
  draw([]);
  openDialog(dialog);
  const heads = await attempt(api.getHeads);
  if (heads) draw(heads.heads);
});

const fact = (title, ...words) => element("div", {}, element("dt", {}, title), element("dd", {}, ...words));

function draw(heads) {
  const { status, project, result } = state;
  const facts = [];
  if (project) {
    facts.push(fact("Name", name(project.name)), fact("Folder", element("code", {}, name(project.folder))));
    if (project.network) facts.push(fact("Network", `${project.network}, ${project.layer}`));
  } else if (status.head) {
    facts.push(fact("Network", `${status.head.network}, ${status.head.layer}`));
  }
  facts.push(fact("Head", ...headChoice(heads)));
  byId("project-facts").replaceChildren(...facts);
  byId("project-downloads").replaceChildren(...(result ? downloads().children : [element("li", {}, element("p", { class: "hint" }, "There is something to download after the first training."))]));
  drawTrash();
  byId("project-version").replaceChildren(`cnncodes ${status.version} · `, element("a", { href: "/openapi.json" }, "HTTP interface"), " for programs");
}

const words = (head) => `${head.saved ? head.name : "last training, not saved yet"}${head.accuracy ? `, ${percent(head.accuracy.value)}` : ""}`;

function headChoice(heads) {
  const { head } = state.status;
  if (heads.length < 2) return [head ? words(head) : "none yet"];
  const select = element("select", { "aria-label": "Head that classifies" }, ...heads.map((one) =>
    element("option", { value: one.name, selected: one.name === head?.name }, words(one))));
  const use = button("Use", { class: "quiet", on: { click: async () => {
    if (!await attempt(() => api.useHead(select.value))) return;
    await attempt(loadStatus);
    done(`${words(state.status.head)} answers now.`);
  } } });
  return [element("div", { class: "actions" }, select, use)];
}

async function drawTrash() {
  const place = byId("project-trash");
  if (!state.project?.trash) {
    place.replaceChildren(element("p", { class: "hint" }, "None."));
    return;
  }
  const { entries } = await attempt(api.getTrash) ?? { entries: [] };
  const restore = async () => {
    const answer = await attempt(() => api.restorePhotos(entries.map(({ entry }) => entry)));
    tellProblems(answer?.problems);
    await attempt(loadProject);
    drawTrash();
  };
  const empty = async () => {
    dialog.close();
    if (!await ask("Delete the removed photos?", `${photos(entries.length)} in the project's trash are deleted from the disk. This cannot be undone.`, "Delete for good")) return;
    const answer = await attempt(api.emptyTrash);
    if (answer) done(`${photos(answer.removed)} deleted.`);
    await attempt(loadProject);
  };
  place.replaceChildren(
    element("p", { class: "hint" }, `${many(entries.length, "photo is", "photos are")} in the project's trash: ${entries.slice(-3).map(({ id }) => id).join(", ")}${entries.length > 3 ? " and others" : ""}.`),
    element("div", { class: "actions" }, button("Restore all", { class: "quiet", on: { click: restore } }), button("Delete for good", { class: "quiet", on: { click: empty } }, "bin")));
}
