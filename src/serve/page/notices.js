// Short notices at the edge of the page: what was done, with its undo, and what went wrong.
import { announce, button, byId, element, icon, iconButton } from "./dom.js";

const SECONDS = 10;
let undoLast = null;

function show({ text, symbol, kind, action, stays }) {
  const notice = element("div", { class: `notice ${kind}`, role: kind === "trouble" ? "alert" : null }, icon(symbol), element("p", {}, text));
  const close = () => notice.remove();
  if (action) {
    notice.append(button(action.text, { class: "quiet small", on: { click: () => { close(); action.run(); } } }));
  }
  notice.append(iconButton("cross", "Dismiss", { class: "plain small icon-only", on: { click: close } }));
  byId("notices").append(notice);
  while (byId("notices").children.length > 2) byId("notices").firstElementChild.remove();
  if (!stays) {
    // A notice that is being read or reached for stays.
    const leave = () => (notice.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : close());
    setTimeout(leave, SECONDS * 1000);
  }
  return close;
}

/// Says what was done. `undo` takes it back: by the notice's button, or by Ctrl+Z.
export function done(text, undo = null) {
  announce(undo ? `${text} Control Z takes it back.` : text);
  let close = null;
  const takeBack = async () => {
    undoLast = null;
    close?.();
    await attempt(undo);
  };
  undoLast = undo ? takeBack : undoLast;
  close = show({ text, symbol: "check", kind: "done", action: undo && { text: "Undo", run: takeBack } });
}

export function trouble(text) {
  show({ text, symbol: "warning", kind: "trouble", stays: true });
}

/// Runs `work`; says what went wrong. Resolves to the result, or undefined.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    if (error.name !== "AbortError") trouble(error.message);
    return undefined;
  }
}

/// Names the photos that a request could not deal with.
export function tellProblems(problems) {
  if (!problems?.length) return;
  const [first] = problems;
  trouble(problems.length === 1 ? `${first.name}: ${first.reason}` : `${problems.length} photos, first ${first.name}: ${first.reason}`);
}

document.addEventListener("keydown", (event) => {
  const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
  if (!isUndo || !undoLast || event.target.matches("input, textarea")) return;
  event.preventDefault();
  undoLast();
});
