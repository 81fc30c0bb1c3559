// What can be done with photos of the project: move, remove, rename their class; each with its undo.
import * as api from "./api.js";
import { isolated, photos } from "./dom.js";
import { attempt, done, tellProblems } from "./notices.js";
import { loadProject } from "./state.js";

// A result names photos as they were called at its training. Where they are now, and what their classes are called now:
const places = new Map();
const renames = new Map();

const classOf = (id) => (id.includes("/") ? id.slice(0, id.lastIndexOf("/")) : null);

/// Where a photo is now that was called `id`; null if it was removed.
export function current(id) {
  if (places.has(id)) return places.get(id);
  const home = classOf(id);
  const renamed = renames.has(home) ? `${renames.get(home)}${id.slice(home.length)}` : id;
  return places.has(renamed) ? places.get(renamed) : renamed;
}

/// A new result names all photos as they are called now.
export function forgetPlaces() {
  places.clear();
  renames.clear();
}

/// A photo is at `to` now that was at `from`.
function follow(from, to) {
  const names = [...places].filter(([, last]) => last === from).map(([first]) => first);
  for (const first of names.length ? names : [from]) places.set(first, to);
}

const className = (category) => (category === null ? "the photos without a class" : isolated(category));

async function moveNow(ids, category) {
  const { moved, problems } = await api.movePhotos(ids, category);
  moved.forEach(({ from, to }) => follow(from, to));
  tellProblems(problems);
  return moved;
}

/// Moves photos to a class. Resolves to the photos that moved, as `{ from, to }`.
export async function move(ids, category) {
  const moved = await attempt(() => moveNow(ids, category)) ?? [];
  if (moved.length) {
    done(`${moved.length === 1 ? isolated(moved[0].from) : photos(moved.length)} moved to ${className(category)}.`, async () => {
      for (const home of new Set(moved.map(({ from }) => classOf(from)))) {
        await moveNow(moved.filter(({ from }) => classOf(from) === home).map(({ to }) => to), home);
      }
      done(`${photos(moved.length)} moved back.`);
      await loadProject();
    });
  }
  await attempt(loadProject);
  return moved;
}

/// Notes that photos were removed. Returns what takes it back, for the server's `removed` list.
function removal(removed) {
  const names = new Map(removed.map(({ id, entry }) => [entry, [id, ...[...places].filter(([, last]) => last === id).map(([first]) => first)]]));
  for (const known of names.values()) known.forEach((id) => places.set(id, null));
  return async () => {
    const { restored, problems } = await api.restorePhotos([...names.keys()]);
    restored.forEach(({ entry, id }) => names.get(entry).forEach((first) => places.set(first, id)));
    tellProblems(problems);
    done(`${photos(restored.length)} restored.`);
    await loadProject();
  };
}

/// Removes photos: they go to the project's trash. Resolves to those that went.
export async function remove(ids) {
  const answer = await attempt(() => api.removePhotos(ids));
  const removed = answer?.removed ?? [];
  tellProblems(answer?.problems);
  if (removed.length) done(`${removed.length === 1 ? isolated(removed[0].id) : photos(removed.length)} removed.`, removal(removed));
  await attempt(loadProject);
  return removed;
}

async function renameNow(name, to) {
  await api.renameClass(name, to);
  const renamed = (id) => (id?.startsWith(`${name}/`) ? `${to}/${id.slice(name.length + 1)}` : id);
  for (const [first, last] of places) places.set(first, renamed(last));
  for (const [first, last] of renames) if (last === name) renames.set(first, to);
  if (![...renames.values()].includes(to)) renames.set(name, to);
}

/// Renames a class.
export async function renameClass(name, to) {
  await renameNow(name, to);
  done(`${isolated(name)} is called ${isolated(to)} now.`, async () => { await renameNow(to, name); await loadProject(); });
  await loadProject();
}

export async function removeClass(name) {
  const answer = await attempt(() => api.removeClass(name));
  if (!answer) return;
  const restore = removal(answer.removed);
  done(`${isolated(name)} removed, with ${photos(answer.removed.length)}.`,
    answer.removed.length ? restore : async () => { await api.addClass(name); await loadProject(); });
  await attempt(loadProject);
}
