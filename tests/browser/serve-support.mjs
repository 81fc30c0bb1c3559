// What the tests of the page share: a project and a server of their own, a browser, drops, and what axe-core finds.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";

const modules = createRequire(path.join(process.env.NODE_MODULES, "package.json"));
const puppeteer = (await import(modules.resolve("puppeteer-core"))).default;
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const { PROGRAM, SCREENSHOTS, CNNCODES_ASSETS: assets } = process.env;
if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });

export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 390, height: 844, hasTouch: true, isMobile: true };

export const run = (folder, ...args) => execFileSync(PROGRAM, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

// --- photos and projects ------------------------------------------------------------------------------------

const work = mkdtempSync(path.join(os.tmpdir(), "cnncodes-serve-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

const inOrder = (folder) => readdirSync(folder).sort().map((name) => path.join(folder, name));

/// Real photos and a real network where CNNCODES_ASSETS names them, the demo's otherwise.
function makeMaterial() {
  const material = path.join(work, "material");
  mkdirSync(path.join(material, "models"), { recursive: true });
  if (assets) {
    run(material, "models", "add", path.join(assets, "models/mobilenetv2_1.0_224.onnx"), "--preprocess", "tf");
    const photos = path.join(assets, "data/cats-dogs-horses-humans");
    return { models: path.join(material, "models"), classes: ["cats", "dogs"], photos: { cats: inOrder(path.join(photos, "cats")), dogs: inOrder(path.join(photos, "dogs")) } };
  }
  run(material, "demo", "--dir", "demo", "--per-class", "40");
  const demo = path.join(material, "demo");
  readdirSync(path.join(demo, "models")).filter((name) => name.endsWith(".head.h5")).forEach((name) => rmSync(path.join(demo, "models", name)));
  const classes = ["flower", "house"];
  // Names that tell the photos of both classes apart, as the answers are looked up by name.
  for (const category of classes) inOrder(path.join(demo, "data", category)).forEach((photo) => renameSync(photo, path.join(path.dirname(photo), `${category}-${path.basename(photo)}`)));
  return { models: path.join(demo, "models"), classes, photos: Object.fromEntries(classes.map((category) => [category, inOrder(path.join(demo, "data", category))])) };
}

export const material = makeMaterial();

/// A project folder with the network and no photos.
export function makeProject(name) {
  const folder = path.join(work, name);
  cpSync(material.models, path.join(folder, "models"), { recursive: true });
  return folder;
}

export const photosOnDisk = (project, category) => {
  const folder = path.join(project, "data", category);
  return existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith(".")).sort() : [];
};

// --- the server ---------------------------------------------------------------------------------------------

const freePort = () => new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});

const servers = new Set();

/// A server for a project. `start()` and `kill()` may be called again and again; the port stays.
export async function makeServer(project, { args = ["--project", project], token = null } = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const server = {
    url, process: null, said: "",
    async start() {
      const child = spawn(PROGRAM, ["serve", ...args, "--port", String(port)], { cwd: project, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...(token && { CNNCODES_SERVE_TOKEN: token }) } });
      server.process = child;
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => { server.said += text; });
      for (let tries = 0; tries < 300; tries += 1) {
        assert.equal(child.exitCode, null, `the server ended: ${server.said}`);
        if (await fetch(`${url}/healthz`).then(({ status }) => status < 500, () => false)) return;
        await sleep(100);
      }
      assert.fail(`the server does not answer: ${server.said}`);
    },
    async kill(signal = "SIGKILL") {
      const child = server.process;
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      await ended;
    },
    json: async (at) => (await fetch(url + at)).json(),
  };
  servers.add(server);
  await server.start();
  return server;
}

export const endServers = () => Promise.all([...servers].map((server) => server.kill()));

export const sleep = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

// --- the browser --------------------------------------------------------------------------------------------

export function launch() {
  return puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      // Chromium's sandbox does not work for root, whom continuous integration often is.
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), "--disable-dev-shm-usage",
      "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    ],
  });
}

/// Opens the page; `trouble` collects errors, alerts and requests to elsewhere. `forgive` is a pattern of the console's
/// messages that a test provokes.
export async function open(browser, server, { at = "/", viewport = WIDE, theme = "light", forgive = null, ready = ".places [aria-current]" } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const trouble = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type()) && !forgive?.test(message.text())) trouble.push(`console: ${message.text()} ${message.location()?.url ?? ""}`);
  });
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    if (dialog.type() !== "beforeunload") trouble.push(`alert: ${dialog.message()}`);
    dialog.accept();
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(`${server.url}/`) && !/^(data|blob):/.test(request.url())) trouble.push(`request: ${request.url()}`);
  });
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.goto(server.url + at);
  await page.waitForSelector(ready);
  return { page, trouble, close: () => context.close() };
}

const sessions = new WeakMap();

/// Drops files or folders on an element, as from the desktop.
export async function drop(page, selector, files) {
  const target = await page.waitForSelector(selector);
  await target.evaluate((element) => element.scrollIntoView({ block: "center", behavior: "instant" }));
  const { x, y, width, height } = await target.boundingBox();
  const at = { x: x + width / 2, y: y + height / 2, data: { items: [], files, dragOperationsMask: 1 } };
  // A session that ends takes a drop with it that the page has not heard of yet.
  if (!sessions.has(page)) sessions.set(page, await page.createCDPSession());
  for (const type of ["dragEnter", "dragOver", "drop"]) await sessions.get(page).send("Input.dispatchDragEvent", { type, ...at });
}

/// Presses Enter on the button that has the focus, and chooses files in the dialog that it opens.
export async function chooseByKey(page, files) {
  const waiting = page.waitForFileChooser();
  // The browser asks the debugger for the files only from a moment on.
  await sleep(200);
  await page.keyboard.press("Enter");
  await (await waiting).accept(files);
}

export const cardOf = async (page, category) => {
  const index = await page.$$eval(".card-title", (titles, wanted) => titles.findIndex((title) => title.textContent.trim() === wanted), category);
  assert.ok(index >= 0, `there is a card ${category}`);
  await page.$$eval(".card", (cards) => cards.forEach((card, i) => { card.id ||= `card-of-test-${i}-${Math.random().toString(36).slice(2)}`; }));
  return `#${await page.$$eval(".card-title", (titles, i) => titles[i].closest(".card").id, index)}`;
};

export const text = (page, selector) => page.$eval(selector, (element) => element.textContent.trim());
export const focused = (page) => page.evaluate(() => {
  const { id, textContent, tagName } = document.activeElement;
  return id || `${tagName} ${document.activeElement.getAttribute("aria-label") ?? textContent.trim().slice(0, 60)}`;
});

/// Waits until `what(...args)` is true in the page.
export async function until(page, what, ...args) {
  try {
    await page.waitForFunction(what, { timeout: 60000, polling: 50 }, ...args);
  } catch (cause) {
    await picture(page, "failure");
    throw new Error(`${what} ${JSON.stringify(args)} does not come true`, { cause });
  }
}

/// A picture of the page, if the folder SCREENSHOTS is set.
async function picture(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
}

/// What is wrong with the page as it is: axe-core's findings, and whether it scrolls sideways.
export async function findings(page) {
  // The policy of the page rightly refuses scripts that are not its own; the debugger may run one.
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
    const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    return [...violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)} ${nodes[0].failureSummary}`), ...(wide > 0 ? [`scrolls sideways by ${wide}`] : [])];
  });
}

/// The findings at 1280 and 390 pixels, light and dark. A picture of each goes to the folder SCREENSHOTS, if that is set.
export async function lookAt(page, name) {
  const before = page.viewport();
  for (const { width, height } of [WIDE, NARROW]) {
    // Without touch: becoming a phone would load the page again.
    await page.setViewport({ width, height });
    for (const theme of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, { name: "prefers-reduced-motion", value: "reduce" }]);
      await sleep(150);
      await picture(page, `${name}-${width}-${theme}`);
      assert.deepEqual(await findings(page), [], `${name} at ${width} pixels, ${theme}`);
    }
  }
  await page.setViewport(before);
}
