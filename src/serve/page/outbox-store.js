// The browser's own store of photos that the server has not acknowledged yet: they outlive a reload and a crash. Where
// the browser stores nothing (private windows), the queue lives as long as the page.

let opened = null;

function open() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open("cnncodes-outbox", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("photos", { autoIncrement: true });
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opened;
}

async function act(mode, work) {
  const database = await open();
  if (!database) return null;
  return new Promise((resolve) => {
    try {
      const transaction = database.transaction("photos", mode);
      const request = work(transaction.objectStore("photos"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
}

/// Keeps a photo; resolves to its key, or null where nothing can be stored.
export const keep = (record) => act("readwrite", (store) => store.add(record));

export const forget = (key) => (key === null ? null : act("readwrite", (store) => store.delete(key)));

/// The photos of a project that were not acknowledged, with their keys.
export async function kept(project) {
  const [keys, records] = await Promise.all([
    act("readonly", (store) => store.getAllKeys()),
    act("readonly", (store) => store.getAll()),
  ]);
  return (records ?? []).map((record, i) => ({ ...record, key: keys[i] })).filter((record) => record.project === project);
}
