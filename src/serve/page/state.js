// What the page knows of the server: status, project, job and result, kept up to date by the server's events.
import * as api from "./api.js";

export const state = { status: null, project: null, job: null, result: null };

const listeners = new Map();

/// Calls `listener` when `part` of the state (or photos, or trained) changed.
export function onChange(part, listener) {
  if (!listeners.has(part)) listeners.set(part, []);
  listeners.get(part).push(listener);
}

function changed(part) {
  for (const listener of listeners.get(part) ?? []) listener(state[part]);
}

/// What was asked for while the same question was under way is asked once more afterwards.
function latest(load) {
  let running = null;
  let again = false;
  return async function once() {
    if (running) { again = true; return running; }
    running = load();
    try { await running; } finally { running = null; }
    if (again) { again = false; await once(); }
  };
}

export const loadStatus = latest(async () => {
  state.status = await api.getStatus();
  changed("status");
});

export const loadProject = latest(async () => {
  const before = state.project?.revision;
  state.project = await api.getProject();
  changed("project");
  if (state.project.revision !== before) changed("photos");
});

export const loadResult = latest(async () => {
  try {
    state.result = await api.getResult();
  } catch (error) {
    if (error.code !== "no_result") throw error;
    state.result = null;
  }
  changed("result");
});

export const isRunning = (job) => job?.state === "running" || job?.state === "cancelling";

export function setJob(job) {
  const ended = isRunning(state.job) && !isRunning(job);
  state.job = job;
  changed("job");
  // The server answers with another head now.
  if (ended) loadStatus().catch(() => {});
}

/// Everything anew, as after a time without a connection.
export async function loadAll() {
  await loadStatus();
  if (!state.status.teach) return;
  await Promise.all([loadProject(), api.getJob().then(setJob)]);
  if (state.project.trained) await loadResult();
}

/// The index of a class, which decides its colour.
export function classIndex(category) {
  const known = state.project?.classes.map(({ name }) => name) ?? state.status?.head?.classes ?? [];
  const at = known.indexOf(category);
  return at < 0 ? Math.max(0, state.status?.head?.classes.indexOf(category) ?? 0) : at;
}

export function follow() {
  let waiting = null;
  api.listen({
    job: setJob,
    project: ({ revision }) => {
      if (revision === state.project?.revision) return;
      // Many photos come at once: the project is read at most five times a second, and after the last.
      waiting ??= setTimeout(() => {
        waiting = null;
        loadProject().catch(() => {});
      }, 200);
    },
    result: ({ trained_at }) => {
      if (trained_at === state.result?.trained_at) return;
      loadResult().then(() => Promise.all([loadStatus(), loadProject()])).then(() => changed("trained")).catch(() => {});
    },
  }, () => loadAll().catch(() => {}));
}
