// Photos from outside: dropped, pasted, chosen, single or in folders. Everything becomes `{ file, folder }`, where
// `folder` is the name of the folder that holds the file, or null.
import { byId } from "./dom.js";

const PHOTO = /\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf]|jxl|ico|pnm|ppm|pgm|tga|qoi)$/i;

/// Folders also hold what is no photo; a file that was named one by one is sent in any case, and refused with a reason.
const isPhoto = (file) => file.type.startsWith("image/") || PHOTO.test(file.name);
const isHidden = (file) => file.name.startsWith(".");

const byName = (a, b) => a.file.name.localeCompare(b.file.name, "en", { numeric: true });

function entryFile(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  // A browser hands out at most a hundred at once.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

async function walk(entry, folder, found) {
  if (entry.isDirectory) {
    for (const inner of await entriesOf(entry)) await walk(inner, entry.name, found);
    return;
  }
  const file = await entryFile(entry);
  if (folder === null || (isPhoto(file) && !isHidden(file))) found.push({ file, folder });
}

/// What a drop or a paste holds. Must be called while the event is handled.
async function fromTransfer(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({ file: entry, folder: null });
    else await walk(entry, null, found);
  }
  return found.sort(byName);
}

/// Lets the user choose photos, or a folder of them.
export function choose({ folder = false } = {}) {
  const input = byId(folder ? "pick-folder" : "pick-photos");
  return new Promise((resolve) => {
    input.onchange = () => {
      const files = [...input.files].map((file) => ({ file, folder: file.webkitRelativePath.split("/").at(-2) ?? null }));
      input.value = "";
      resolve(files.filter(({ file }) => !folder || (isPhoto(file) && !isHidden(file))).sort(byName));
    };
    input.oncancel = () => resolve([]);
    input.click();
  });
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/// The whole page takes drops. `targetOf(element)` says what a drop there does: `{ place, words, take(found) }` or null.
export function takeDrops(targetOf) {
  const veil = byId("drop-veil");
  let marked = null;
  const mark = (place, words) => {
    marked?.classList.remove("dropping");
    marked = place;
    marked?.classList.add("dropping");
    veil.hidden = !words;
    veil.firstElementChild.textContent = words ?? "";
  };
  const over = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    const target = document.querySelector("dialog[open]") ? null : targetOf(event.target);
    event.dataTransfer.dropEffect = target ? "copy" : "none";
    mark(target?.place ?? null, target?.words ?? null);
  };
  addEventListener("dragenter", over);
  addEventListener("dragover", over);
  addEventListener("dragleave", (event) => { if (event.relatedTarget === null) mark(null, null); });
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    mark(null, null);
    const target = document.querySelector("dialog[open]") ? null : targetOf(event.target);
    if (!target) return;
    const found = await fromTransfer(event.dataTransfer);
    if (found.length) target.take(found);
  });
  addEventListener("paste", async (event) => {
    if (event.target.matches("input, textarea") || document.querySelector("dialog[open]")) return;
    if (![...(event.clipboardData?.items ?? [])].some(({ kind }) => kind === "file")) return;
    event.preventDefault();
    const target = targetOf(document.activeElement);
    const found = await fromTransfer(event.clipboardData);
    if (found.length && target) target.take(found.map(named));
  });
}

/// Every pasted picture is called image.png; a time tells them apart.
function named({ file, folder }) {
  if (file.name !== "image.png") return { file, folder };
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return { file: new File([file], `pasted-${time}.png`, { type: file.type }), folder };
}
