// The bar at the foot of Teach: what a training would learn from, its progress, its end.
import * as api from "./api.js";
import { ENOUGH } from "./board.js";
import { ago, announce, byId, list, many, percent, photos } from "./dom.js";
import { attempt, done, trouble } from "./notices.js";
import { onOutbox, pending } from "./outbox.js";
import { isRunning, onChange, setJob, state } from "./state.js";
import { trainingSettings } from "./training-settings.js";

const LEAST = 2; // photos of a class
const STEPS = {
  null: "Starting",
  listing: "Looking at the photos", network: "Opening the network", features: "Computing features", duplicates: "Looking for duplicates",
  fitting: "Fitting the head, and testing it on photos it has not seen", "learning-curve": "Would more photos help?",
  suspects: "Looking for wrong labels", saving: "Saving", report: "Writing the report", export: "Writing the classifier",
};
const waiting = new Map(); // task -> what to do when its job ends

const start = byId("train-start");
const cancel = byId("train-cancel");

/// Runs a job of the server and resolves when it is done; false if it failed or was cancelled.
export async function runJob(task, settings) {
  const job = await attempt(() => api.startJob(task, settings));
  if (!job) return false;
  const end = new Promise((resolve) => waiting.set(job.id, resolve));
  // The server's events may have been faster than its answer.
  setJob(state.job?.id === job.id ? state.job : job);
  return end;
}

/// Why nothing can be learned yet, or null.
function missing() {
  const { classes } = state.project;
  const usable = classes.filter((one) => one.photos >= LEAST);
  if (classes.length === 0) return ["Make two classes", "Then drop photos on them."];
  if (classes.length === 1) return ["Make a second class", `The program learns to tell ${classes[0].name} from something else.`];
  if (usable.length < 2) {
    const few = classes.filter((one) => one.photos < LEAST).map((one) => one.name);
    return [`Add photos to ${list(few.slice(0, 3))}`, `Two of each are the least. About ${ENOUGH} are a good start.`];
  }
  return null;
}

function advice() {
  const { classes, trained, changed } = state.project;
  const onTheWay = [null, ...classes.map((one) => one.name)].reduce((sum, category) => sum + pending(category).length, 0);
  if (onTheWay) return `${photos(onTheWay)} on the way.`;
  if (trained) {
    const when = state.result ? `Trained ${ago((Date.now() - Date.parse(state.result.trained_at)) / 1000)}. ` : "";
    return `${when}${changed ? "Photos or classes changed since then." : "Nothing changed since then."}`;
  }
  const few = classes.filter((one) => one.photos < ENOUGH);
  if (few.length) return `It works with few; about ${ENOUGH} of each are better.`;
  return "It takes some seconds.";
}

function draw() {
  const { project, job, result } = state;
  if (!project) return;
  const running = isRunning(job);
  const progress = byId("train-progress");
  progress.hidden = !running;
  cancel.hidden = !running;
  start.hidden = running;
  byId("train").classList.toggle("running", running);
  if (running) {
    // A change of the words every second would not let a screen reader finish; steps are announced below.
    byId("train-state").textContent = job.state === "cancelling" ? "Stopping …" : `${STEPS[job.step] ?? job.text} …`;
    byId("train-detail").textContent = job.total ? `${job.done.toLocaleString("en")} of ${photos(job.total)}` : "";
    if (job.total) progress.value = job.done / job.total;
    else progress.removeAttribute("value");
    cancel.disabled = job.state === "cancelling";
    return;
  }
  const lacks = missing();
  start.setAttribute("aria-disabled", String(lacks !== null));
  start.textContent = project.trained ? "Train again" : "Train";
  if (lacks) {
    [byId("train-state").textContent, byId("train-detail").textContent] = lacks;
    return;
  }
  const total = project.classes.reduce((sum, one) => sum + one.photos, 0);
  byId("train-state").textContent = result
    ? `${percent(result.evaluation.accuracy.value)} accuracy`
    : `${many(project.classes.length, "class", "classes")}, ${photos(total)}`;
  byId("train-detail").textContent = advice();
}

let announced = null;
let followed = false; // whether this page asked for the training that runs
function follow(job) {
  draw();
  if (!job?.id) return;
  const said = `${job.id} ${job.step} ${job.state}`;
  if (said !== announced && job.state === "running") announce(STEPS[job.step] ?? job.text);
  const seen = announced !== null && announced.startsWith(`${job.id} `);
  announced = said;
  if (isRunning(job)) return;
  const end = waiting.get(job.id);
  waiting.delete(job.id);
  // A job that ended before the page was opened is no news.
  if (!seen && !end) return;
  if (job.state === "failed") trouble(job.error ?? "the job failed; see the program's messages");
  if (job.state === "cancelled") announce("Stopped.");
  if (job.state === "interrupted") trouble("the program ended during the job; start it again, and it goes on where it stopped");
  end?.(job.state === "done");
}

start.addEventListener("click", () => {
  const lacks = missing();
  if (lacks) { announce(lacks.join(". ")); return; }
  followed = true;
  runJob("train", trainingSettings()).then((trained) => { if (!trained) { followed = false; start.focus(); } });
  cancel.hidden = false;
  cancel.focus();
});
cancel.addEventListener("click", () => attempt(async () => setJob(await api.cancelJob())));

onChange("job", follow);
onChange("project", draw);
onChange("result", draw);
onChange("trained", () => {
  const { accuracy } = state.result.evaluation;
  const words = `Trained: ${percent(accuracy.value)} accuracy on photos it had not seen (95 % interval ${percent(accuracy.low)} to ${percent(accuracy.high)}).`;
  if (!followed || byId("teach").hidden) {
    followed = false;
    done(words);
    return;
  }
  announce(words);
  followed = false;
  const title = byId("result-title");
  title?.focus({ preventScroll: true });
  title?.closest("section").scrollIntoView();
});
onOutbox(draw);
// "2 minutes ago" grows old.
setInterval(() => { if (!isRunning(state.job)) draw(); }, 30000);
