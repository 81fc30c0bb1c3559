// The server's HTTP interface (docs/api.md): one function for each request. Errors carry the server's own words.

class ServerError extends Error {
  constructor(message, { code = "network", status = 0, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /// Whether the same request may well succeed later.
  get passes() {
    return this.status === 0 || this.status === 408 || this.status === 503;
  }
}

/// Tells the page whether the server answers: `online` and `offline` events.
export const connection = new EventTarget();
let answering = true;

function heard(answers) {
  if (answers === answering) return;
  answering = answers;
  connection.dispatchEvent(new Event(answers ? "online" : "offline"));
  if (!answers) knock();
}

/// Asks for a sign of life until there is one.
async function knock() {
  while (!answering) {
    await new Promise((resolve) => setTimeout(resolve, 1500));
    try {
      // A server that wants the token first is there as well.
      if ((await fetch("/healthz", { cache: "no-store" })).status < 500) heard(true);
    } catch { /* It is still away. */ }
  }
}

async function request(method, path, { query = {}, json, body, signal } = {}) {
  const url = new URL(path, location.origin);
  for (const [key, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) url.searchParams.set(key, value);
  }
  const headers = { "X-Cnncodes": "1" };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url, { method, headers, body: json === undefined ? body : JSON.stringify(json), signal, cache: "no-store" });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    heard(false);
    throw new ServerError("the server does not answer; start `cnncodes serve` again, and the page goes on by itself");
  }
  heard(true);
  const answer = await readBody(response);
  if (response.ok) return answer;
  const { code = "internal", message = `the server answered ${response.status}` } = answer?.error ?? {};
  if (response.status === 401) connection.dispatchEvent(new Event("unauthorized"));
  throw new ServerError(message, { code, status: response.status, retryAfter: Number(response.headers.get("Retry-After")) || null });
}

async function readBody(response) {
  if (!response.headers.get("Content-Type")?.includes("json")) return null;
  try {
    return await response.json();
  } catch {
    return null; // The connection broke off; the status says whether it matters.
  }
}

const inPath = (id) => id.split("/").map(encodeURIComponent).join("/");

function form(files) {
  const data = new FormData();
  for (const file of files) data.append("image", file, file.name || "photo.jpg");
  return data;
}

export const openSession = (token) => request("POST", "/v1/session", { json: { token } });
export const getStatus = () => request("GET", "/v1/status");
export const getProject = () => request("GET", "/v1/project");
export const getHeads = () => request("GET", "/v1/heads");
export const useHead = (name) => request("PUT", "/v1/heads/current", { json: { name } });
export const saveHead = (name, replace) => request("POST", "/v1/heads", { json: { name, replace } });

export const classify = (files, query, signal) => request("POST", "/v1/classify", { query, body: form(files), signal });

/// `category` is a class's name, or null for photos without a class.
export const getPhotos = (category, offset, limit) => request("GET", "/v1/photos", { query: { class: category ?? "", offset, limit } });
export const addPhotos = (category, files) => request("POST", "/v1/photos", { query: { class: category }, body: form(files) });
export const movePhotos = (photos, category) => request("POST", "/v1/photos/move", { json: { photos, class: category } });
export const removePhotos = (photos) => request("POST", "/v1/photos/remove", { json: { photos } });
export const getTrash = () => request("GET", "/v1/trash");
export const restorePhotos = (entries) => request("POST", "/v1/trash/restore", { json: { entries } });
export const emptyTrash = () => request("POST", "/v1/trash/empty", { json: {} });

export const addClass = (name) => request("POST", "/v1/classes", { json: { name } });
export const renameClass = (name, to) => request("PATCH", `/v1/classes/${inPath(name)}`, { json: { name: to } });
export const removeClass = (name) => request("DELETE", `/v1/classes/${inPath(name)}`);

export const getResult = () => request("GET", "/v1/result");
export const getJob = () => request("GET", "/v1/job");
export const cancelJob = () => request("DELETE", "/v1/job");
/// `task` is train, report or export.
export const startJob = (task, settings = {}) => request("POST", `/v1/${task}`, { json: settings });

export const thumbnail = (id, size = 176) => `/v1/thumbnails/${inPath(id)}?size=${size}`;
export const trainingImage = (id, size = 176) => `/v1/training-images/${inPath(id)}?size=${size}`;
/// `what` is head, onnx, features or report.
export const download = (what) => `/v1/download/${what}`;

/// Calls `handlers[event](data)` on the server's events; connects again by itself, and then calls `onAgain`.
export function listen(handlers, onAgain, isFirst = true) {
  const source = new EventSource("/v1/events");
  for (const [event, handle] of Object.entries(handlers)) {
    source.addEventListener(event, ({ data }) => handle(JSON.parse(data)));
  }
  source.addEventListener("open", () => {
    heard(true);
    if (!isFirst) onAgain();
    isFirst = false;
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return;
    // The browser gave up, because the server answered with an error.
    setTimeout(() => listen(handlers, onAgain, false), 3000);
  });
}
