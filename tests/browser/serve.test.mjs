// The page of `cnncodes serve`, end to end in a real browser against the program itself: teach, train, classify, relabel,
// save, restart; then the command line with the saved head gives the same answers.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";

import { cardOf, chooseByKey, drop, endServers, focused, launch, lookAt, makeProject, makeServer, material, open, photosOnDisk, run, sleep, text, until } from "./serve-support.mjs";

const [A, B] = material.classes;
const LEARNED = 20;
const learn = (category, n = LEARNED) => material.photos[category].slice(0, n);
/// Photos that no class holds.
const unseen = (category, n) => material.photos[category].slice(30, 30 + n);

let browser;
before(async () => { browser = await launch(); });
after(async () => {
  await browser?.close();
  await endServers();
});

async function makeClass(page, category) {
  await page.type("#new-class", category);
  await page.keyboard.press("Enter");
  await until(page, (wanted) => [...document.querySelectorAll(".card-title")].some((title) => title.textContent.trim() === wanted), category);
}

const countOn = (page, card, n) => until(page, (selector, wanted) => document.querySelector(`${selector} .card-count`)?.textContent.startsWith(`${wanted} photo`) && !document.querySelector(`${selector} .coming`), card, n);

async function train(page) {
  await page.$eval("#train-start", (button) => button.focus());
  await page.keyboard.press("Enter");
  await until(page, () => !document.querySelector("#train-progress").hidden);
  await until(page, () => document.querySelector("#train-progress").hidden && document.querySelector("#result-title") === document.activeElement);
}

/// The answers that the page gets, by the name of their photo.
function listenToAnswers(page) {
  const answers = new Map();
  page.on("response", async (response) => {
    if (!response.url().includes("/v1/classify") || !response.ok()) return;
    for (const answer of await response.json().catch(() => [])) answers.set(answer.image, answer);
  });
  return answers;
}

test("two classes are taught by drop, a suspect is relabelled, and the saved head answers as the command line does", async (t) => {
  const project = makeProject("pets");
  const server = await makeServer(project);
  const { page, trouble, close } = await open(browser, server, { forgive: /ERR_(CONNECTION|EMPTY|INCOMPLETE|SOCKET)/ });
  // Each step needs those before it.
  let broken = false;
  const step = (name, work) => t.test(name, async (own) => {
    if (broken) { own.skip("an earlier step failed"); return; }
    broken = true;
    await work();
    broken = false;
  });
  const mislabelled = material.photos[B][LEARNED];
  const mislabelledId = `${A}/${path.basename(mislabelled)}`;

  await step("a new project opens at Teach, and Classify says what is missing", async () => {
    assert.equal(await text(page, ".places [aria-current]"), "Teach");
    assert.equal(await text(page, "#train-state"), "Make two classes");
    await lookAt(page, "teach-empty");
    await page.click('.places [href="#classify"]');
    await page.waitForSelector("#no-head", { visible: true });
    assert.equal(await text(page, "#no-head-title"), "Nothing is learned yet");
    await lookAt(page, "classify-empty");
    await page.click("#no-head a");
    await until(page, () => document.querySelector(".places [aria-current]").textContent === "Teach");
  });

  await step("dropped photos are acknowledged when they are on the disk", async () => {
    await makeClass(page, A);
    await makeClass(page, B);
    assert.equal(await focused(page), "new-class", "the next class can be typed at once");
    await drop(page, await cardOf(page, A), learn(A));
    await drop(page, await cardOf(page, B), learn(B));
    await countOn(page, await cardOf(page, A), LEARNED);
    await countOn(page, await cardOf(page, B), LEARNED);
    // One photo lies in the wrong class.
    await drop(page, await cardOf(page, A), [mislabelled]);
    await countOn(page, await cardOf(page, A), LEARNED + 1);
    assert.deepEqual(photosOnDisk(project, A), [...learn(A), mislabelled].map((photo) => path.basename(photo)).sort());
    assert.deepEqual(photosOnDisk(project, B), learn(B).map((photo) => path.basename(photo)).sort());
    await until(page, () => document.querySelector("#outbox").hidden);
    await lookAt(page, "teach-photos");
  });

  await step("a photo of the same bytes and a text are not added, and it is said why", async () => {
    const odd = path.join(project, "odd");
    mkdirSync(odd);
    writeFileSync(path.join(odd, "notes.txt"), "no photo");
    await drop(page, await cardOf(page, B), [path.join(odd, "notes.txt"), learn(A)[0]]);
    await until(page, () => document.querySelector("#outbox")?.textContent.includes("not added"));
    assert.match(await text(page, "#outbox"), /notes\.txt/);
    await until(page, () => document.querySelector("#notices")?.textContent.includes("is in the project already"));
    await lookAt(page, "teach-refused");
    await page.click('#outbox [aria-label="Dismiss them all"]');
    assert.equal(photosOnDisk(project, B).length, LEARNED);
  });

  await step("a training gives an accuracy with its interval, and cells that open their photos", async () => {
    await train(page);
    const result = await server.json("/v1/result");
    const { accuracy, confusion } = result.evaluation;
    const said = await text(page, "#result .headline");
    const shown = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
    for (const share of [accuracy.value, accuracy.low, accuracy.high]) assert.ok(said.includes(shown(share)), `${said} holds ${shown(share)}`);
    const cells = await page.$$eval("#confusion .matrix tbody tr", (rows) => rows.map((row) => [...row.cells].slice(1).map((cell) => Number(cell.textContent))));
    assert.deepEqual(cells, confusion.counts);
    assert.equal(cells.flat().reduce((sum, count) => sum + count, 0), 2 * LEARNED + 1);

    await page.click("#confusion .right .cell");
    const open = await page.$$eval("#gallery-photos [role=option]", (photos) => photos.length);
    assert.equal(open, cells[0][0]);
    await until(page, () => [...document.querySelectorAll("#gallery-photos img")].slice(0, 6).every((image) => image.naturalWidth > 0));
    await lookAt(page, "gallery");
    await page.keyboard.press("Escape");
    assert.equal(await page.$eval("#gallery", (dialog) => dialog.open), false);
    assert.equal(await page.evaluate(() => document.activeElement.className), "cell", "the focus returns");
    for (const section of ["result", "learning", "confusion", "suspects", "save"]) {
      if (await page.$(`#${section}`)) {
        await page.$eval(`#${section}`, (element) => element.scrollIntoView({ behavior: "instant" }));
        await lookAt(page, `teach-${section}`);
      }
    }
  });

  await step("the mislabelled photo is a suspect; a click moves it, Ctrl+Z takes it back", async () => {
    const card = () => page.evaluateHandle((id) => [...document.querySelectorAll("#suspects .card")].find((one) => one.textContent.includes(id)), mislabelledId);
    const move = async () => {
      const button = await (await card()).$(".primary");
      await button.evaluate((one) => one.scrollIntoView({ block: "center", behavior: "instant" }));
      assert.ok((await button.evaluate((one) => one.textContent)).includes(B));
      await button.click();
      await until(page, (id) => [...document.querySelectorAll("#suspects .settled")].some((one) => one.textContent.includes(id)), mislabelledId);
    };
    await move();
    assert.ok(photosOnDisk(project, B).includes(path.basename(mislabelled)));
    await page.keyboard.down("Control");
    await page.keyboard.press("z");
    await page.keyboard.up("Control");
    await until(page, () => !document.querySelector("#suspects .settled"));
    assert.ok(photosOnDisk(project, A).includes(path.basename(mislabelled)));
    await move();
    assert.equal(photosOnDisk(project, A).length, LEARNED);
    assert.equal(photosOnDisk(project, B).length, LEARNED + 1);
    assert.equal(await page.$eval("#changed-note", (note) => note.hidden), false);
  });

  await step("the next training is compared with the one before", async () => {
    await train(page);
    const { comparison, evaluation } = await server.json("/v1/result");
    assert.equal(await text(page, ".compared p"), comparison.verdict);
    assert.equal(evaluation.accuracy.trials, 2 * LEARNED + 1);
    assert.ok(comparison.difference.low <= comparison.difference.value && comparison.difference.value <= comparison.difference.high);
    await lookAt(page, "teach-compared");
  });

  const answers = listenToAnswers(page);
  const questions = [...unseen(A, 3), ...unseen(B, 3)];

  await step("the head is saved, and survives the end of the server", async () => {
    await page.$eval("#head-name", (input) => { input.value = ""; });
    await page.type("#head-name", "mine");
    await page.keyboard.press("Enter");
    await until(page, () => document.querySelector("#save .hint").textContent.includes("mine.head.h5"));
    assert.ok(existsSync(path.join(project, "models", "mine.head.h5")));
    await server.kill();
    await page.click('.places [href="#classify"]');
    await page.evaluate(() => document.querySelector("#open-project").click());
    await until(page, () => !document.querySelector("#offline").hidden);
    await server.start();
    await until(page, () => document.querySelector("#offline").hidden);
    await page.reload();
    await page.waitForSelector(".places [aria-current]");
    assert.equal(await text(page, ".places [aria-current]"), "Classify", "a reload keeps the place");
  });

  await step("several photos are classified, with sets, nearest photos and explanations", async () => {
    await lookAt(page, "classify-ready");
    await drop(page, "#classify-drop", questions);
    await until(page, (n) => document.querySelectorAll("#tiles [role=option]:not(.pending)").length === n, questions.length);
    await until(page, () => document.querySelectorAll(".neighbors img").length > 0 && document.querySelector(".answer .overlay"));
    await until(page, () => [...document.querySelectorAll(".neighbors img, .answer .overlay")].every((image) => image.naturalWidth > 0));
    const tops = await page.$$eval("#tiles [role=option]", (tiles) => tiles.map((tile) => tile.textContent));
    questions.forEach((photo, i) => {
      const answer = answers.get(path.basename(photo));
      assert.ok(tops[i].includes(answer.unknown ? "unknown" : answer.classes[0].class), tops[i]);
    });
    await lookAt(page, "classify-answers");
    // The set follows the coverage.
    await page.focus("#coverage");
    await page.keyboard.press("End");
    const first = path.basename(questions[0]);
    await until(page, () => !document.querySelector(".set.stale"));
    await sleep(100);
    assert.equal(await text(page, ".coverage output"), "99\u00a0%");
    const chips = await page.$$eval(".set .chip", (all) => all.map((chip) => chip.textContent));
    assert.deepEqual(chips, answers.get(first).set);
  });

  await step("the command line gives the same answers with the saved head", async () => {
    const printed = JSON.parse(run(project, "classify", ...questions, "--head", "models/mine.head.h5", "--format", "json"));
    assert.equal(printed.length, questions.length);
    printed.forEach((wanted, i) => {
      const answer = answers.get(path.basename(questions[i]));
      assert.deepEqual(answer.classes.map((one) => one.class), wanted.classes.map((one) => one.class));
      answer.classes.forEach(({ probability }, k) => assert.ok(Math.abs(probability - wanted.classes[k].probability) < 1e-5, `${probability} and ${wanted.classes[k].probability}`));
      assert.equal(answer.unknown, wanted.unknown);
    });
  });

  await step("a pasted photo is classified, and a corrected one is taught", async () => {
    await page.evaluate(async (address) => {
      const image = await (await fetch(address)).blob();
      const transfer = new DataTransfer();
      transfer.items.add(new File([image], "image.png", { type: "image/png" }));
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
    }, `/v1/thumbnails/${A}/${path.basename(learn(A)[0])}?size=300`);
    await until(page, (n) => document.querySelectorAll("#tiles [role=option]:not(.pending)").length === n, questions.length + 1);
    await until(page, () => document.querySelector(".answer figcaption").textContent.startsWith("pasted-"));
    await page.waitForSelector(".teach-this button");
    await page.select("#teach-class", B);
    const before = photosOnDisk(project, B).length;
    await page.click(".teach-this button");
    await until(page, () => document.querySelector(".teach-this").textContent.includes("Added"));
    await until(page, () => document.querySelector("#outbox").hidden);
    assert.equal(photosOnDisk(project, B).length, before + 1);
  });

  await step("project, theme and camera can be looked at", async () => {
    await page.click("#open-project");
    await until(page, () => document.querySelector("#project-facts").textContent.includes("Folder"));
    await lookAt(page, "project");
    await page.click('#theme-choice [value="dark"]');
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await page.reload();
    await page.waitForSelector("#classify-drop");
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark", "the theme outlives a reload");
  });

  assert.deepEqual(trouble, []);
  await close();
});

test("photos on their way survive the end of the server and a reload of the page", async () => {
  const project = makeProject("interrupted");
  const server = await makeServer(project);
  const { page, close } = await open(browser, server);
  await makeClass(page, A);
  await drop(page, await cardOf(page, A), learn(A));
  await sleep(30);
  await server.kill();
  await until(page, () => document.querySelector("#outbox").textContent.includes("Nothing is lost"));
  await lookAt(page, "server-gone");
  await server.start();
  await sleep(50);
  await server.kill();
  await page.reload({ timeout: 2000 }).catch(() => {});
  await server.start();
  await page.goto(server.url);
  await page.waitForSelector(".card-title");
  await countOn(page, await cardOf(page, A), LEARNED);
  assert.deepEqual(photosOnDisk(project, A), learn(A).map((photo) => path.basename(photo)).sort());
  await close();
});

test("folders become classes, names of strangers stay text, and the camera takes bursts", async () => {
  const project = makeProject("names");
  const server = await makeServer(project);
  const { page, trouble, close } = await open(browser, server);
  const odd = "\u05d1\u05d9\u05ea &lt;b&gt;x' onerror=alert(1) {{7}}";
  await makeClass(page, odd);
  assert.equal(await page.$$eval(".card-title b, .card-title img", (elements) => elements.length), 0);

  const folders = path.join(project, "dropped");
  for (const category of [A, B]) {
    mkdirSync(path.join(folders, category), { recursive: true });
    learn(category, 3).forEach((photo) => cpSync(photo, path.join(folders, category, path.basename(photo))));
  }
  await drop(page, "#board", [path.join(folders, A), path.join(folders, B)]);
  await until(page, () => document.querySelectorAll(".card-title").length >= 4);
  for (const category of [A, B]) {
    await countOn(page, await cardOf(page, category), 3);
    assert.deepEqual(photosOnDisk(project, category), learn(category, 3).map((photo) => path.basename(photo)).sort());
  }

  const card = await cardOf(page, odd);
  await page.click(`${card} [aria-label*="camera"]`);
  await until(page, () => !document.querySelector("#shutter").disabled);
  await lookAt(page, "camera");
  await page.focus("#shutter");
  await page.keyboard.press("Space");
  await until(page, () => document.querySelector("#camera-count").textContent === "1 photo taken");
  await page.keyboard.down("Space");
  await sleep(1600);
  await page.keyboard.up("Space");
  // The last frame may still be on its way from the canvas.
  await sleep(500);
  const taken = Number.parseInt(await text(page, "#camera-count"), 10);
  assert.ok(taken >= 4, `${taken} photos`);
  await page.keyboard.press("Escape");
  await until(page, () => !document.querySelector("#camera").open && document.querySelector("#outbox").hidden);
  // Frames of the browser's test picture may have the same bytes; such a frame is stored once.
  const stored = photosOnDisk(project, odd).length;
  assert.ok(stored >= 3 && stored <= taken, `${stored} of ${taken} photos`);
  await countOn(page, card, stored);
  assert.deepEqual(trouble, []);
  await close();
});

test("with --listen the page opens with the token alone, and keeps it out of the address", async () => {
  const project = makeProject("listening");
  const server = await makeServer(project, { args: ["--project", project, "--listen", "0.0.0.0"], token: "a-secret-of-the-test" });
  const stranger = await open(browser, server, { forgive: /401/, ready: "#no-access:not([hidden])" });
  assert.match(await text(stranger.page, "#no-access"), /#token=/);
  await lookAt(stranger.page, "no-access");
  assert.deepEqual(stranger.trouble, []);
  await stranger.close();

  const { page, trouble, close } = await open(browser, server, { at: "/#token=a-secret-of-the-test" });
  assert.equal(await page.evaluate(() => location.href.includes("token")), false);
  await makeClass(page, A);
  await drop(page, await cardOf(page, A), learn(A, 2));
  await countOn(page, await cardOf(page, A), 2);
  await until(page, () => [...document.querySelectorAll(".thumbs-button img")].every((image) => image.naturalWidth > 0));
  await page.reload();
  await page.waitForSelector(".card-title");
  assert.deepEqual(trouble, []);
  await close();
});

test("everything can be done with the keyboard alone, and nothing traps it", async () => {
  const project = makeProject("keyboard");
  const server = await makeServer(project);
  const { page, trouble, close } = await open(browser, server);
  /// Walks with the Tab key until `isThere`, a function in the page, says so of the element that has the focus.
  const tabTo = async (isThere, ...args) => {
    for (let presses = 0; presses < 120; presses += 1) {
      await page.keyboard.press("Tab");
      const [there, visible] = await page.evaluate((source, values) => {
        const at = document.activeElement;
        const { outlineStyle, outlineWidth } = getComputedStyle(at);
        const there = new Function(`return (${source})`)()(at, ...values);
        return [there, at === document.body || (outlineStyle !== "none" && Number.parseFloat(outlineWidth) >= 2)];
      }, isThere.toString(), args);
      assert.ok(visible, `the focus is visible on ${await focused(page)}`);
      if (there) return;
    }
    assert.fail(`the Tab key does not come to ${isThere}; it is at ${await focused(page)}`);
  };
  const labelled = (at, part) => (at.getAttribute("aria-label") ?? at.textContent).includes(part);
  const withId = (at, id) => at.id === id;

  await page.keyboard.press("Tab");
  assert.equal(await focused(page), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "main");
  await tabTo(withId, "new-class");
  for (const category of [A, B]) {
    await page.keyboard.type(category);
    await page.keyboard.press("Enter");
    await until(page, (wanted) => [...document.querySelectorAll(".card-title")].some((title) => title.textContent.trim() === wanted), category);
  }
  for (const category of [A, B]) {
    await page.focus("#skip");
    await tabTo(labelled, `Add photos to ${category}`);
    await chooseByKey(page, learn(category, 8));
    await countOn(page, await cardOf(page, category), 8);
  }

  // Rename and back again.
  await page.focus("#skip");
  await tabTo(labelled, `Rename ${A}`);
  await page.keyboard.press("Enter");
  await page.keyboard.type("renamed");
  await page.keyboard.press("Enter");
  await until(page, () => [...document.querySelectorAll(".card-title")].some((title) => title.textContent.trim() === "renamed"));
  assert.equal(photosOnDisk(project, "renamed").length, 8);

  await page.focus("#skip");
  await tabTo(withId, "train-start");
  await page.keyboard.press("Enter");
  await until(page, () => document.activeElement.id === "result-title");

  // The matrix is one stop; arrows walk in it; Enter opens, Space selects, Delete removes, Escape closes.
  await tabTo((at) => at.className === "cell");
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  assert.equal(await page.$eval("#gallery", (dialog) => dialog.open), true);
  const before = await page.$$eval("#gallery-photos [role=option]", (all) => all.length);
  await page.keyboard.press("Space");
  assert.equal(await text(page, "#gallery-chosen"), "1 photo selected");
  const removed = await page.$eval("#gallery-photos [aria-selected=true]", (item) => item.dataset.id);
  await page.keyboard.press("Delete");
  await until(page, (n) => document.querySelectorAll("#gallery-photos [role=option]").length === n || !document.querySelector("#gallery").open, before - 1);
  assert.ok(!existsSync(path.join(project, "data", removed)));
  await page.keyboard.press("Escape");
  await page.keyboard.down("Control");
  await page.keyboard.press("z");
  await page.keyboard.up("Control");
  await until(page, () => document.querySelector("#notices").textContent.includes("restored"));
  assert.ok(existsSync(path.join(project, "data", removed)));

  await page.focus("#skip");
  await tabTo((at) => at.dataset.place === "classify");
  await page.keyboard.press("Enter");
  await until(page, () => document.activeElement.id === "main");
  await tabTo(withId, "classify-choose");
  await chooseByKey(page, unseen(A, 3));
  await until(page, () => document.querySelectorAll("#tiles [role=option]:not(.pending)").length === 3);
  await tabTo((at) => at.getAttribute("role") === "option");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.$$eval("#tiles [role=option]", (tiles) => tiles.findIndex((tile) => tile.getAttribute("aria-selected") === "true")), 1);
  await until(page, (wanted) => document.querySelector(".answer figcaption").textContent === wanted, path.basename(unseen(A, 3)[1]));

  // Once around: the Tab key leaves the page at its end and comes in again at its start.
  await page.focus("#skip");
  await tabTo(withId, "skip");
  assert.deepEqual(trouble, []);
  await close();
});
