// The camera: one photo for a press of the shutter, several for as long as it is held.
import { announce, byId, element, openDialog, photos } from "./dom.js";

const EVERY = 250; // milliseconds between the photos of a burst
const HOLD = 350; // a press that is longer becomes a burst
const SHOWN = 24;

const WHY = {
  NotAllowedError: "the browser may not use it; allow the camera for this page beside its address, and open this again",
  NotFoundError: "there is none; connect one, or choose photos from the disk",
  NotReadableError: "another program uses it; close that program, and open this again",
};

let stream = null;
let take = null;
let count = 0;
let burst = null;
let pressed = null;

const dialog = byId("camera");
const video = byId("camera-video");
const shutter = byId("shutter");
const choice = byId("camera-device");

/// Opens the camera. `onPhoto(file)` gets each photo; without `several` the dialog closes after the first.
export async function openCamera({ title, help, several, onPhoto }) {
  byId("camera-title").textContent = title;
  byId("camera-help").textContent = help;
  byId("camera-count").textContent = "";
  byId("camera-strip").replaceChildren();
  byId("camera-problem").textContent = "";
  count = 0;
  take = async () => {
    const file = await frame();
    if (!file) return;
    count += 1;
    remember(file);
    onPhoto(file);
    if (!several) dialog.close();
  };
  shutter.dataset.several = several ? "yes" : "";
  openDialog(dialog);
  shutter.focus();
  await start();
}

async function start(device) {
  stop();
  shutter.disabled = true;
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
    const size = { width: { ideal: 1280 }, height: { ideal: 960 } };
    const opened = await navigator.mediaDevices.getUserMedia({ video: device ? { deviceId: { exact: device }, ...size } : { facingMode: "environment", ...size } });
    if (!dialog.open) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    video.srcObject = stream;
    await video.play();
    shutter.disabled = false;
    shutter.focus();
    await offerDevices();
  } catch (error) {
    const why = error.name === "SecurityError"
      ? "browsers allow it on this computer and over https only; open the page at http://127.0.0.1, or choose photos from the disk"
      : WHY[error.name] ?? `the browser says “${error.message}”`;
    byId("camera-problem").textContent = `The camera does not open: ${why}.`;
  }
}

async function offerDevices() {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  byId("camera-choice").hidden = cameras.length < 2;
  const current = stream.getVideoTracks()[0].getSettings().deviceId;
  choice.replaceChildren(...cameras.map(({ deviceId, label }, i) =>
    element("option", { value: deviceId, selected: deviceId === current }, label || `camera ${i + 1}`)));
}

function stop() {
  release();
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
}

async function frame() {
  if (!stream || video.videoWidth === 0) return null;
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  const time = new Date().toISOString().slice(0, 23).replaceAll(/[:.]/g, "-");
  return new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" });
}

function remember(file) {
  byId("camera-count").textContent = `${photos(count)} taken`;
  const url = URL.createObjectURL(file);
  const strip = byId("camera-strip");
  strip.prepend(element("li", { class: "picture" }, element("img", { src: url, alt: `Photo ${count}` })));
  while (strip.children.length > SHOWN) {
    URL.revokeObjectURL(strip.lastElementChild.firstElementChild.src);
    strip.lastElementChild.remove();
  }
  const finder = dialog.querySelector(".viewfinder");
  finder.classList.add("flash");
  setTimeout(() => finder.classList.remove("flash"), 90);
}

function press() {
  if (pressed || shutter.disabled) return;
  take();
  pressed = setTimeout(() => {
    if (!shutter.dataset.several) return;
    shutter.classList.add("held");
    burst = setInterval(take, EVERY);
  }, HOLD);
}

function release() {
  if (burst) announce(`${photos(count)} taken.`);
  clearTimeout(pressed);
  clearInterval(burst);
  pressed = burst = null;
  shutter.classList.remove("held");
}

shutter.addEventListener("pointerdown", (event) => { if (event.button === 0) press(); });
shutter.addEventListener("contextmenu", (event) => event.preventDefault());
addEventListener("pointerup", release);
addEventListener("pointercancel", release);
const isShutterKey = ({ key }) => key === " " || key === "Enter";
shutter.addEventListener("keydown", (event) => { if (isShutterKey(event)) { event.preventDefault(); if (!event.repeat) press(); } });
shutter.addEventListener("keyup", (event) => { if (isShutterKey(event)) { event.preventDefault(); release(); } });
// Screen readers click without pressing.
shutter.addEventListener("click", (event) => { if (event.detail === 0 && !pressed) take?.(); });
shutter.addEventListener("blur", release);
choice.addEventListener("change", () => start(choice.value));
dialog.addEventListener("close", stop);
