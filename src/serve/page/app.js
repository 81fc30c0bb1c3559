// The page's start: the session, the two places, the connection, and where a dropped photo goes.
import * as api from "./api.js";
import { boardTarget } from "./board.js";
import { classifyFiles } from "./classify.js";
import { byId } from "./dom.js";
import { takeDrops } from "./intake.js";
import "./outcome.js";
import { resume } from "./outbox.js";
import "./project.js";
import { follow, loadAll, onChange, state } from "./state.js";
import "./theme-switch.js";

const PLACES = { classify: "Classify", teach: "Teach" };
let place = null;

/// The fragment names a place, or a section of one: a reload comes back to it.
function route() {
  if (!state.status) return;
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  const wanted = target?.closest(".place")?.id ?? place ?? (state.status.head ? "classify" : "teach");
  go(state.status.teach ? wanted : "classify");
  if (target && target.id !== place) target.scrollIntoView();
}

function go(wanted) {
  const moved = place !== null && place !== wanted;
  place = wanted;
  document.title = `${PLACES[place]} · cnncodes`;
  for (const id of Object.keys(PLACES)) byId(id).hidden = id !== place;
  for (const link of document.querySelectorAll(".places a")) {
    if (link.dataset.place === place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // A place begins at its top, and with its words for a screen reader.
  if (moved) { scrollTo({ top: 0, behavior: "instant" }); byId("main").focus({ preventScroll: true }); }
}

addEventListener("hashchange", route);
byId("skip").addEventListener("click", () => byId("main").focus());

takeDrops((target) => {
  if (!state.status) return null;
  if (place === "teach") return boardTarget(target);
  return { place: byId("classify-drop"), words: state.status.head ? "Drop photos to classify them" : null, take: classifyFiles };
});

// --- the connection -----------------------------------------------------------------------------------------

function banner(text) {
  const shown = byId("offline");
  shown.textContent = text ?? "";
  shown.hidden = !text;
}

api.connection.addEventListener("offline", () => banner("The server does not answer. Start cnncodes serve again: the page goes on by itself, and nothing is lost."));
api.connection.addEventListener("online", () => { banner(null); begin(); });
api.connection.addEventListener("unauthorized", () => {
  byId("no-access").hidden = false;
  byId("open-project").hidden = true;
  for (const id of Object.keys(PLACES)) byId(id).hidden = true;
  document.querySelector(".places").hidden = true;
});

async function openSession() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await api.openSession(token);
}

onChange("status", ({ teach }) => {
  for (const part of document.querySelectorAll(".places, .only-teach")) part.hidden = !teach;
});

let begun = false;
async function begin() {
  try {
    await openSession();
    await loadAll();
    byId("no-access").hidden = true;
    byId("open-project").hidden = false;
    route();
    if (!begun && state.status.teach) follow();
    begun = true;
    if (state.status.teach) resume();
  } catch (error) {
    // Without a connection the banner says so, and the page begins when there is one.
    if (error.status !== 0 && error.status !== 401) banner(error.message);
  }
}

begin();
