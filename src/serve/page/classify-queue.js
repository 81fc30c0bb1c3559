// The photos to classify, and the questions to the server about them. Knows nothing of the page.
import * as api from "./api.js";

const BATCH = 8;
const BATCH_BYTES = 24e6;
const ALL_CLASSES = 1000;
const NEAREST = 6;

/// A photo: `phase` is waiting, asking, done or failed; `answer` is the server's; `coverage` is that of its set;
/// `close` holds nearest photos and explanation, once they were asked for.
function makePhoto(file) {
  return { file, url: URL.createObjectURL(file), phase: "waiting", answer: null, reason: null, coverage: null, close: null };
}

function isRefused(answer, photo) {
  if (!answer?.error) return false;
  photo.phase = "failed";
  photo.reason = answer.error;
  return true;
}

/// Asks again while the server is busy or away. `onWait(error)` hears of it.
async function patiently(ask, signal, onWait) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      if (!error.passes || signal.aborted) throw error;
      onWait(error);
      const seconds = error.retryAfter ?? Math.min(10, 2 ** tries);
      await new Promise((resolve) => {
        setTimeout(resolve, 1000 * seconds);
        signal.addEventListener("abort", resolve, { once: true });
        api.connection.addEventListener("online", resolve, { once: true });
      });
    }
  }
}

export class ClassifyQueue {
  photos = [];
  #running = false;
  #stop = new AbortController();

  /// `onChange(photo)` after each change of a photo; `onWait(error)` while the server cannot answer.
  constructor({ settings, onChange, onWait }) {
    this.settings = settings;
    this.onChange = onChange;
    this.onWait = onWait;
  }

  get open() {
    return this.photos.filter(({ phase }) => phase === "waiting" || phase === "asking").length;
  }

  add(files) {
    const added = files.map(makePhoto);
    this.photos.push(...added);
    this.#work();
    return added;
  }

  clear() {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.photos.forEach(({ url }) => URL.revokeObjectURL(url));
    this.photos = [];
    this.#running = false;
  }

  /// Answers that another head gave are worth nothing.
  askAnew() {
    const files = this.photos.map(({ file }) => file);
    this.clear();
    return this.add(files);
  }

  #query() {
    const { coverage } = this.settings();
    return { top: ALL_CLASSES, coverage };
  }

  async #work() {
    if (this.#running) return;
    this.#running = true;
    const { signal } = this.#stop;
    // The first photo goes alone: its answer is there at once.
    let size = 1;
    for (;;) {
      const batch = this.#nextBatch(size);
      if (signal.aborted) return;
      if (batch.length === 0) break;
      await this.#ask(batch, signal);
      size = BATCH;
    }
    this.#running = false;
  }

  #nextBatch(size) {
    const batch = [];
    let bytes = 0;
    for (const photo of this.photos.filter(({ phase }) => phase === "waiting")) {
      if (batch.length && (batch.length >= size || bytes + photo.file.size > BATCH_BYTES)) break;
      batch.push(photo);
      bytes += photo.file.size;
    }
    return batch;
  }

  async #ask(batch, signal) {
    for (const photo of batch) { photo.phase = "asking"; this.onChange(photo); }
    const query = this.#query();
    try {
      const answers = await patiently(() => api.classify(batch.map(({ file }) => file), query, signal), signal, this.onWait);
      batch.forEach((photo, i) => {
        if (isRefused(answers[i], photo)) return;
        Object.assign(photo, { phase: "done", answer: answers[i], coverage: query.coverage });
      });
    } catch (error) {
      if (signal.aborted) return;
      // One bad photo must not take the others of its batch with it.
      if (batch.length > 1 && (error.status === 422 || error.status === 413)) {
        for (const photo of batch) await this.#ask([photo], signal);
        return;
      }
      for (const photo of batch) Object.assign(photo, { phase: "failed", reason: error.message });
    }
    batch.forEach(this.onChange);
  }

  /// Nearest photos, explanation and the set at today's coverage for one photo.
  async look(photo, { explain, neighbors }) {
    const { signal } = this.#stop;
    const query = { ...this.#query(), explain, neighbors: neighbors ? NEAREST : 0 };
    const [answer] = await patiently(() => api.classify([photo.file], query, signal), signal, this.onWait);
    if (isRefused(answer, photo)) return;
    const { explanations, nearest, ...rest } = answer;
    photo.answer = rest;
    photo.coverage = query.coverage;
    photo.close = { explanations: explanations ?? null, nearest: nearest ?? null };
  }

  /// Brings the sets of all photos to today's coverage.
  async refreshSets() {
    const { coverage } = this.settings();
    const stale = this.photos.filter((photo) => photo.phase === "done" && photo.coverage !== coverage);
    for (let i = 0; i < stale.length; i += BATCH) await this.#ask(stale.slice(i, i + BATCH), this.#stop.signal);
  }
}
