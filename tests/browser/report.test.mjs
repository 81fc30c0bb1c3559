// The reports in a real browser: every page in the folder REPORTS, looked at with the Chromium that CHROMIUM names.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

const modules = createRequire(path.join(process.env.NODE_MODULES, "package.json"));
const puppeteer = (await import(modules.resolve("puppeteer-core"))).default;
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");

const folder = process.env.REPORTS;
const reports = readdirSync(folder).filter((name) => name.endsWith(".html"));
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 390, height: 844, hasTouch: true, isMobile: true };

let browser;
before(async () => {
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // Chromium's sandbox does not work for root, whom continuous integration often is.
    args: [...(process.getuid?.() === 0 ? ["--no-sandbox"] : []), "--disable-dev-shm-usage", "--allow-pre-commit-input"],
  });
});
after(() => browser?.close());

/** Opens a report; `trouble` collects errors, alerts and requests that it should not make. */
async function open(name, viewport = WIDE, theme = "light") {
  const page = await browser.newPage();
  const trouble = [];
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) trouble.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => trouble.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    trouble.push(`alert: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) trouble.push(`request: ${request.url()}`);
  });
  await page.setViewport(viewport);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
  await page.goto(pathToFileURL(path.join(folder, name)).href);
  await page.waitForSelector('[data-plot="calibration"] svg');
  return { page, trouble };
}

const text = (page, selector) => page.$eval(selector, (element) => element.textContent);
const isOpen = (page) => page.$eval("#photos", (dialog) => dialog.open);

assert.notEqual(reports.length, 0, `no report in ${folder}`);

for (const name of reports) {
  test(`${name}: opens without an error and asks nobody for anything`, async () => {
    const { page, trouble } = await open(name);
    const pictures = await page.$$eval(".picture img", (images) => images.map((image) => image.naturalWidth));
    assert.ok(pictures.every((width) => width > 0), `thumbnails: ${pictures}`);
    const cropped = await page.$$eval(".picture img", (images) =>
      images.filter((image) => image.clientHeight > image.closest(".picture").clientHeight + 1).map((image) => image.alt),
    );
    assert.deepEqual(cropped, [], "photos that are higher than wide are shown whole");
    const photos = await page.$eval("#data", (data) => JSON.parse(data.textContent).photos);
    assert.ok(photos.length > 0 && photos.every(({ jpeg }) => jpeg), "every photo has a thumbnail");
    assert.deepEqual(trouble, []);
    await page.close();
  });

  test(`${name}: a cell of the confusion matrix opens its photos, by mouse and by Enter`, async () => {
    const { page, trouble } = await open(name);
    const cell = await page.$("[data-cell]");
    const wanted = await cell.evaluate((button) => Number(button.dataset.count));
    await cell.click();
    assert.equal(await isOpen(page), true);
    const photos = await page.$$eval("#photos .picture:not(.overlay) img", (images) => images.length);
    assert.equal(photos, wanted);
    const truth = await cell.evaluate((button) => Number(button.dataset.cell.split(",")[0]));
    const given = await page.$$eval("#photos .photo .line bdi", (names) => names[0].textContent);
    const classes = await page.$eval("#data", (data) => JSON.parse(data.textContent).classes);
    assert.equal(given, classes[truth]);
    await page.keyboard.press("Escape");
    assert.equal(await isOpen(page), false);

    await cell.focus();
    await page.keyboard.press("Enter");
    assert.equal(await isOpen(page), true);
    await page.click("#photos [data-close]");
    assert.equal(await isOpen(page), false);
    assert.equal(await cell.evaluate((button) => button === document.activeElement), true, "the focus returns");
    assert.deepEqual(trouble, []);
    await page.close();
  });

  test(`${name}: the map shows a photo under the pointer and under the keyboard's focus`, async () => {
    const { page, trouble } = await open(name);
    await page.$eval('[data-plot="map"]', (map) => map.scrollIntoView({ block: "center", behavior: "instant" }));
    // The page hears of the scrolling, which takes thumbnails away, a frame later.
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const isHidden = () => page.$eval("#hover", (hover) => hover.hidden);
    assert.equal(await isHidden(), true);

    const point = await page.$(".map-point");
    const at = await point.boundingBox();
    await page.mouse.move(at.x + at.width / 2, at.y + at.height / 2);
    assert.equal(await isHidden(), false);
    assert.ok(await page.$eval("#hover img", (image) => image.naturalWidth) > 0);
    await page.mouse.move(2, 2);
    assert.equal(await isHidden(), true);

    await page.focus("#only-mistakes");
    // The legend's buttons stand between.
    for (let press = 0; press <= await page.$$eval(".legend button", (buttons) => buttons.length); press++) {
      await page.keyboard.press("Tab");
    }
    const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    const first = await focused();
    assert.equal(await isHidden(), false);
    let second = first;
    for (const arrow of ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"]) {
      await page.keyboard.press(arrow);
      second = await focused();
      if (second !== first) break;
    }
    assert.notEqual(second, first, "an arrow key walks to another photo");
    assert.ok(second.startsWith(await text(page, "#hover .name")), second);
    await page.keyboard.press("Enter");
    assert.equal(await isOpen(page), true);
    assert.ok(second.startsWith(await text(page, "#photos .gallery .name")), second);
    await page.keyboard.press("Escape");
    assert.deepEqual(trouble, []);
    await page.close();
  });

  test(`${name}: the map can be restricted to a class and to mistakes`, async () => {
    const { page } = await open(name);
    const visible = () => page.$$eval(".map-point", (points) =>
      points.filter((point) => point.style.opacity === "").map((point) => Number(point.dataset.photoIndex)));
    const photos = await page.$eval("#data", (data) => JSON.parse(data.textContent).photos.map(({ label, predicted }) => ({ label, predicted })));
    const all = (await visible()).length;
    await page.click(".legend button");
    const alone = await visible();
    assert.ok(alone.length > 0 && alone.length < all);
    assert.ok(alone.every((index) => photos[index].label === 0));
    await page.click(".legend button");
    assert.equal((await visible()).length, all);
    await page.click("#only-mistakes");
    assert.ok((await visible()).every((index) => photos[index].label !== photos[index].predicted));
    await page.close();
  });

  test(`${name}: layers, where they were compared, are all in the plot`, async () => {
    const { page, trouble } = await open(name);
    const layers = await page.$eval("#data", (data) => JSON.parse(data.textContent).layers);
    if (layers !== null) {
      const drawn = await page.$$eval('[data-plot="layers"] [aria-label="dot"] path, [data-plot="layers"] [aria-label="dot"] circle', (dots) => dots.length);
      assert.equal(drawn, layers.candidates.length);
      const rows = await page.$$eval("#layers tbody tr", (all) => all.length);
      assert.equal(rows, layers.candidates.length);
    }
    assert.deepEqual(trouble, []);
    await page.close();
  });

  test(`${name}: what speaks for a doubtful answer stands beside its photo`, async () => {
    const { page } = await open(name);
    const explained = await page.$eval("#data", (data) => JSON.parse(data.textContent).photos.filter(({ overlay }) => overlay).length);
    const widths = await page.$$eval(":is(#mistakes, #suspects) .explained .overlay img", (images) => images.map((image) => image.naturalWidth));
    assert.equal(widths.length, explained);
    assert.ok(widths.every((width) => width > 0));
    await page.close();
  });

  test(`${name}: the theme follows the system until it is chosen`, async () => {
    const paper = (page) => page.$eval("body", (body) => getComputedStyle(body).backgroundColor);
    const { page } = await open(name, WIDE, "dark");
    const dark = await paper(page);
    await page.click("#theme");
    const light = await paper(page);
    assert.notEqual(dark, light);
    assert.equal(await page.$eval("#theme", (button) => button.getAttribute("aria-pressed")), "false");
    await page.emulateMediaType("print");
    await page.click("#theme").catch(() => {}); // not there on paper
    assert.equal(await paper(page), "rgb(255, 255, 255)");
    assert.equal(await page.$eval(".contents", (nav) => getComputedStyle(nav).display), "none");
    await page.evaluate(() => localStorage.clear());
    await page.close();
  });

  // One page for all four: loading it again would find nothing more, and axe-core takes its time.
  test(`${name}: accessible at 1280 and 390 pixels, light and dark`, async () => {
    const { page, trouble } = await open(name);
    const look = (within) => page.evaluate(async (within) => {
      const { violations } = await globalThis.axe.run(within ?? document, { resultTypes: ["violations"] });
      return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)} ${nodes[0].failureSummary}`);
    }, within);
    for (const viewport of [WIDE, NARROW]) {
      await page.setViewport(viewport);
      // Becoming a phone loads the page again.
      await page.waitForSelector('[data-plot="calibration"] svg');
      await page.$$eval("details", (all) => all.forEach((details) => { details.open = true; }));
      // The policy of the page rightly refuses scripts that are not its own; the debugger may run one.
      await page.evaluate(axe);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `the page does not scroll sideways at ${viewport.width} pixels`);
      for (const theme of ["light", "dark"]) {
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
        const at = `${viewport.width} pixels, ${theme}`;
        assert.deepEqual(await look(), [], at);
        await page.$eval("[data-cell]", (cell) => cell.click());
        assert.deepEqual(await look("#photos"), [], `${at}, with the dialog open`);
        await page.$eval("#photos", (dialog) => dialog.close());
      }
    }
    assert.deepEqual(trouble, []);
    await page.close();
  });
}
