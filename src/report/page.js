"use strict";
// The report's page: thumbnails, plots, the map, the dialog of photos, and the theme. Names of files and classes are
// strangers' text: they only ever become text nodes and attributes, never markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { classes, photos } = data;
  const SYMBOLS = ["circle", "triangle", "square", "diamond", "cross", "star", "wye", "times"];
  const COLORS = 8;
  const colorOf = (k) => `var(--class-${k % COLORS})`;
  const symbolOf = (k) => SYMBOLS[(k + Math.floor(k / COLORS)) % SYMBOLS.length];
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
  const count = (n) => (n === 1 ? "1 photo" : `${n} photos`);
  // First-strong isolates keep right-to-left names from turning the text around them.
  const isolated = (name) => `\u2068${name}\u2069`;

  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === null || value === undefined) continue;
      if (name === "class") made.className = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // --- photos ---------------------------------------------------------------------------------------------

  const picture = (jpeg, alt) => element("img", { src: `data:image/jpeg;base64,${jpeg}`, alt, decoding: "async" });

  function fill(pictures, index) {
    const { name, link, jpeg, overlay, predicted } = photos[index];
    if (jpeg) {
      const image = picture(jpeg, `Photo ${name}`);
      // The name below is the link for keyboards and screen readers; the picture is one for the mouse.
      const shown = link ? element("a", { href: link, tabindex: "-1", "aria-hidden": "true" }, image) : image;
      pictures.firstElementChild.replaceChildren(shown);
    }
    if (overlay) {
      pictures.append(element("div", { class: "picture overlay" }, picture(overlay, `What speaks for ${classes[predicted]}`)));
    }
  }

  const line = (text, k, value) =>
    element("span", { class: "line" }, `${text} `, element("strong", {}, element("bdi", {}, classes[k])), " ",
      element("span", { class: "value" }, percent(value)));

  function figure(index) {
    const { name, label, predicted, claim, own, link } = photos[index];
    const pictures = element("div", { class: "pictures" },
      element("div", { class: "picture" }, element("span", { class: "absent" }, "no picture")));
    fill(pictures, index);
    const lines = label === predicted
      ? [line("rightly", label, own)]
      : [line("given", label, own), line("said", predicted, claim)];
    const shown = element("bdi", {}, name);
    const caption = element("span", { class: "name" }, link ? element("a", { href: link }, shown) : shown);
    return element("figure", {}, pictures, element("figcaption", {}, ...lines, caption));
  }

  for (const pictures of document.querySelectorAll("[data-photo]")) fill(pictures, Number(pictures.dataset.photo));

  const dialog = document.getElementById("photos");
  function open(title, text, indices) {
    dialog.querySelector("h2").textContent = title;
    const words = document.getElementById("photos-text");
    words.textContent = text;
    words.hidden = text === "";
    const items = indices.map((index) => element("li", { class: "photo" }, figure(index)));
    dialog.querySelector(".gallery").replaceChildren(...items);
    dialog.classList.toggle("explained", indices.some((index) => photos[index].overlay));
    dialog.showModal();
    dialog.scrollTop = 0;
  }
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  for (const button of document.querySelectorAll("[data-cell]")) {
    button.addEventListener("click", () => {
      const [truth, predicted] = button.dataset.cell.split(",").map(Number);
      const all = Number(button.dataset.count);
      const found = photos.map((_, index) => index)
        .filter((index) => photos[index].label === truth && photos[index].predicted === predicted)
        .sort((a, b) => truth === predicted ? photos[a].claim - photos[b].claim : photos[b].claim - photos[a].claim);
      const title = truth === predicted
        ? `${isolated(classes[truth])}, answered rightly`
        : `${isolated(classes[truth])} taken for ${isolated(classes[predicted])}`;
      const order = truth === predicted ? "the least sure first" : "the surest first";
      const text = all > found.length ? `${found.length} of ${count(all)} are in this file, ${order}.` : `${count(all)}, ${order}.`;
      open(title, all > 1 ? text : `${count(all)}.`, found);
    });
  }

  // --- plots ----------------------------------------------------------------------------------------------

  /// The symbol that stands for the k-th class, or head, for a legend.
  function sample(k) {
    const svg = Plot.plot({
      width: 16, height: 16, margin: 0, x: { axis: null, domain: [0, 1] }, y: { axis: null, domain: [0, 1] }, color: { type: "identity" }, symbol: { type: "identity" },
      marks: [Plot.dot([0], { x: () => 0.5, y: () => 0.5, r: 6, symbol: () => symbolOf(k), fill: () => colorOf(k) })],
    });
    svg.setAttribute("aria-hidden", "true");
    return svg;
  }

  const share = (value) => `${Math.round(1000 * value) / 10} %`;
  const floor = (value, step) => Math.max(0, Math.floor(value / step) * step);

  const heads = [...new Set((data.layers?.candidates ?? []).map(({ head }) => head))];

  function layers(width) {
    const all = data.layers.candidates.map(({ layer, head, accuracy, best }) => ({ layer, head, best, ...accuracy, k: heads.indexOf(head) }));
    const narrow = width < 480;
    const names = [...new Set(all.map((p) => p.layer))];
    const longest = Math.max(...names.map((name) => name.length));
    const shift = (p) => 9 * (p.k - (heads.length - 1) / 2);
    // Each kind of head has a line of its own within its layer's band.
    const marks = heads.flatMap((_, k) => {
      const own = all.filter((p) => p.k === k);
      const color = colorOf(k);
      const dy = shift({ k });
      return [
        Plot.link(own, { x1: "low", x2: "high", y1: "layer", y2: "layer", stroke: color, strokeWidth: 2, strokeOpacity: 0.5, dy }),
        Plot.dot(own, { x: "value", y: "layer", r: (p) => (p.best ? 6.5 : 4.5), fill: color, symbol: symbolOf(k), stroke: (p) => (p.best ? "var(--ink)" : color), strokeWidth: 2, dy }),
      ];
    });
    const top = 30;
    return Plot.plot({
      width, height: top + 46 + names.length * (22 + 9 * heads.length), marginLeft: Math.min(7.2 * longest + 16, width * 0.45), marginRight: 24, marginBottom: 44, marginTop: top,
      x: { label: "accuracy", labelAnchor: "center", labelOffset: 38, labelArrow: "none", tickFormat: share, grid: true, ticks: narrow ? 3 : 7,
        domain: [floor(Math.min(...all.map((p) => p.low)), 0.05), 1] },
      y: { type: "point", domain: names, label: null, padding: 0.5, tickSize: 0 },
      symbol: { type: "identity" }, color: { type: "identity" }, r: { type: "identity" },
      marks,
    });
  }

  function learning(width) {
    // Logarithms on a linear scale: a logarithmic one leaves out ticks that are not near powers of ten.
    const points = data.learning.points.map(({ per_class, accuracy }) => ({ x: Math.log2(per_class), ...accuracy }));
    const narrow = width < 480;
    return Plot.plot({
      width, height: Math.min(320, 0.62 * width + 60), marginLeft: 56, marginRight: 24, marginBottom: 44, marginTop: 28,
      x: { label: "different photos a class (logarithmic)", labelAnchor: "center", labelArrow: "none", labelOffset: 38,
        ticks: points.map((p) => p.x), tickFormat: (x) => Math.round(2 ** x).toString() },
      y: { label: "accuracy", domain: [floor(Math.min(...points.map((p) => p.low)), 0.05), 1], grid: true, labelArrow: "none",
        ticks: narrow ? 5 : 6, tickFormat: share },
      marks: [
        Plot.areaY(points, { x: "x", y1: "low", y2: "high", fill: "var(--right)", fillOpacity: 0.16 }),
        Plot.line(points, { x: "x", y: "value", stroke: "var(--right)", strokeWidth: 2.5 }),
        Plot.dot(points, { x: "x", y: "value", fill: "var(--right)", r: 4.5 }),
        Plot.text(points, { x: "x", y: "value", text: (p) => percent(p.value), dy: -14, filter: (_, i) => !narrow || i % 2 === (points.length - 1) % 2,
          fill: "currentColor", stroke: "var(--paper)", strokeWidth: 4 }),
      ],
    });
  }

  function calibration(width) {
    const bins = data.calibration;
    const least = floor(Math.min(...bins.map((b) => Math.min(b.claim, b.low))), 0.1);
    const axis = { domain: [Math.min(least, 0.8), 1], tickFormat: share, labelArrow: "none" };
    const side = Math.min(width, 460);
    return Plot.plot({
      width: side, height: side * 0.86, marginLeft: 56, marginRight: 24, marginBottom: 44, marginTop: 28, clip: false,
      x: { ...axis, label: "probability that was claimed", labelAnchor: "center", labelOffset: 38, ticks: side < 400 ? 4 : 6 },
      y: { ...axis, label: "share that is right", grid: true, ticks: 6 },
      r: { range: [0, 13], domain: [0, Math.max(...bins.map((b) => b.photos))] },
      marks: [
        Plot.line([[axis.domain[0], axis.domain[0]], [1, 1]], { stroke: "var(--soft)", strokeDasharray: "5 5" }),
        Plot.ruleX(bins, { x: "claim", y1: "low", y2: "high", stroke: "var(--right)", strokeWidth: 2, strokeOpacity: 0.55 }),
        Plot.dot(bins, { x: "claim", y: "right", r: (b) => Math.max(b.photos, 0.06 * Math.max(...bins.map((b) => b.photos))), fill: "var(--right)", fillOpacity: 0.85, stroke: "var(--paper)" }),
      ],
    });
  }

  // --- the map --------------------------------------------------------------------------------------------

  const hover = document.getElementById("hover");
  const state = { projection: "tsne", alone: null, mistakes: false, active: null };
  let mapped = null; // what the map that is on the page consists of

  function isShown(index) {
    const photo = photos[index];
    return (state.alone === null || photo.label === state.alone) && (!state.mistakes || photo.label !== photo.predicted);
  }

  function map(width) {
    const coordinates = data.map[data.map.tsne ? state.projection : "pca"];
    // Mistakes are drawn last, on top of the others.
    const points = data.map.photos
      .map((index, at) => ({ index, x: coordinates[at][0], y: coordinates[at][1], label: photos[index].label, wrong: photos[index].label !== photos[index].predicted }))
      .sort((a, b) => a.wrong - b.wrong);
    const height = Math.max(320, Math.min(640, width * 0.72));
    const dots = Math.max(2.8, Math.min(5.5, 0.22 * Math.sqrt(width * height / points.length)));
    const svg = Plot.plot({
      width, height, margin: 18,
      x: { axis: null }, y: { axis: null }, color: { type: "identity" }, symbol: { type: "identity" }, r: { type: "identity" }, opacity: { type: "identity" },
      marks: [Plot.dot(points, {
        x: "x", y: "y", r: (p) => (p.wrong ? dots * 1.45 : dots), symbol: (p) => symbolOf(p.label), fill: (p) => colorOf(p.label),
        fillOpacity: 0.8, stroke: (p) => (p.wrong ? "var(--ink)" : "var(--paper)"), strokeWidth: (p) => (p.wrong ? 1.8 : 0.4), sort: null,
      })],
    });
    const [x, y] = ["x", "y"].map((name) => svg.scale(name));
    const group = svg.querySelector('[aria-label="dot"]');
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", "Map of the features: one button a photo; arrow keys walk to the next photo in their direction");
    group.removeAttribute("aria-label");
    mapped = { svg, items: [] };
    for (const node of group.children) {
      const point = points[node.__data__];
      const { name, label, predicted } = photos[point.index];
      node.classList.add("map-point");
      node.setAttribute("role", "button");
      const answer = point.wrong ? `given ${classes[label]}, said ${classes[predicted]}` : classes[label];
      node.setAttribute("aria-label", `${name}: ${answer}`);
      node.dataset.photoIndex = point.index;
      mapped.items.push({ node, index: point.index, x: x.apply(point.x), y: y.apply(point.y) });
    }
    restrict();
    svg.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") point(nearest(event, 18)); });
    svg.addEventListener("pointerleave", () => point(null));
    svg.addEventListener("click", (event) => { const item = nearest(event, 22); if (item) show(item); });
    return svg;
  }

  /// Dims what is filtered out, and leaves one photo that the Tab key reaches.
  function restrict() {
    let reachable = null;
    for (const item of mapped.items) {
      const shown = isShown(item.index);
      item.shown = shown;
      item.node.style.opacity = shown ? "" : "0.08";
      item.node.setAttribute("tabindex", "-1");
      if (shown) item.node.removeAttribute("aria-hidden");
      else item.node.setAttribute("aria-hidden", "true");
      if (shown) reachable = item;
    }
    if (reachable) reachable.node.setAttribute("tabindex", "0");
  }

  function nearest(event, reach) {
    const box = mapped.svg.getBoundingClientRect();
    const scale = mapped.svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let best = null;
    let least = (reach * scale) ** 2;
    for (const item of mapped.items) {
      const distance = (item.x - x) ** 2 + (item.y - y) ** 2;
      if (item.shown && distance < least) [best, least] = [item, distance];
    }
    return best;
  }

  /// Shows the thumbnail beside the photo's place on the map.
  function point(item) {
    if (state.active === item) return;
    state.active?.node.classList.remove("active");
    state.active = item;
    hover.hidden = item === null;
    if (item === null) return;
    item.node.classList.add("active");
    hover.replaceChildren(figure(item.index));
    placeHover(item);
  }

  function placeHover(item) {
    const at = item.node.getBoundingClientRect();
    const { width, height } = hover.getBoundingClientRect();
    const left = at.right + 12 + width > innerWidth ? at.left - 12 - width : at.right + 12;
    hover.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    hover.style.top = `${Math.max(8, Math.min(at.top - height / 3, innerHeight - height - 8))}px`;
  }

  function show(item) {
    point(null);
    const others = mapped.items.filter((other) => other !== item && other.shown)
      .map((other) => ({ index: other.index, distance: (other.x - item.x) ** 2 + (other.y - item.y) ** 2 }))
      .sort((a, b) => a.distance - b.distance).slice(0, 11).map((other) => other.index);
    open(isolated(photos[item.index].name), others.length ? "First the photo, then those nearest to it on the map." : "", [item.index, ...others]);
  }

  const DIRECTIONS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  function walk(event) {
    const item = mapped.items.find(({ node }) => node === event.target);
    if (!item) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      show(item);
      return;
    }
    const direction = DIRECTIONS[event.key];
    if (!direction) return;
    event.preventDefault();
    let best = null;
    let least = Infinity;
    for (const other of mapped.items) {
      if (other === item || !other.shown) continue;
      const [dx, dy] = [other.x - item.x, other.y - item.y];
      const [ahead, aside] = [dx * direction[0] + dy * direction[1], Math.abs(dx * direction[1]) + Math.abs(dy * direction[0])];
      // Within 45 degrees of the arrow's direction; what lies off it counts as farther.
      const distance = ahead + 2 * aside;
      if (ahead > 0 && aside <= ahead && distance < least) [best, least] = [other, distance];
    }
    if (!best) return;
    item.node.setAttribute("tabindex", "-1");
    best.node.setAttribute("tabindex", "0");
    best.node.focus();
    point(best);
  }

  function legend() {
    const place = document.querySelector(".legend");
    const buttons = classes.map((name, k) => {
      const button = element("button", { type: "button", "aria-pressed": "false" }, sample(k), element("bdi", {}, name));
      button.addEventListener("click", () => {
        state.alone = state.alone === k ? null : k;
        buttons.forEach((other, j) => other.setAttribute("aria-pressed", String(state.alone === j)));
        restrict();
      });
      return button;
    });
    place.append(...buttons);
  }

  if (data.map) {
    if (!data.map.tsne) state.projection = "pca";
    legend();
    // Chromium lets the Tab key stop at SVG elements that listen for focus, so the place around it does.
    const place = document.querySelector('[data-plot="map"]');
    place.addEventListener("focusin", (event) => {
      const item = mapped.items.find(({ node }) => node === event.target);
      if (item && item.node.matches(":focus-visible")) point(item);
    });
    place.addEventListener("focusout", () => point(null));
    place.addEventListener("keydown", walk);
    for (const radio of document.querySelectorAll('input[name="projection"]')) {
      radio.addEventListener("change", () => { state.projection = radio.value; draw(place); });
    }
    document.getElementById("only-mistakes").addEventListener("change", (event) => { state.mistakes = event.target.checked; restrict(); });
    // A photo in the keyboard's focus keeps its thumbnail when the focus itself made the page scroll.
    addEventListener("scroll", () => {
      if (state.active && state.active.node === document.activeElement) placeHover(state.active);
      else point(null);
    }, { passive: true });
    addEventListener("keydown", (event) => { if (event.key === "Escape") point(null); });
  }

  // Plots are drawn anew where the width of their place changes.
  document.querySelector(".key")?.append(...heads.map((head, k) => element("li", {}, sample(k), head)));

  const plots = { layers, learning, calibration, map };
  function draw(place) {
    const width = Math.floor(place.clientWidth);
    if (width === 0) return;
    const svg = plots[place.dataset.plot](width);
    if (place.getAttribute("role") === "img") svg.setAttribute("aria-hidden", "true");
    place.replaceChildren(svg);
    place.dataset.width = width;
  }
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (Number(target.dataset.width) !== Math.floor(target.clientWidth)) draw(target);
    }
  });
  for (const place of document.querySelectorAll("[data-plot]")) watch.observe(place);

  // --- the theme and the printer --------------------------------------------------------------------------

  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const KEY = "cnncodes-report-theme";
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const tell = () => toggle.setAttribute("aria-pressed", String(isDark()));
  try {
    const chosen = localStorage.getItem(KEY);
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch { /* A page that may store nothing follows the system's theme. */ }
  tell();
  toggle.hidden = false;
  systemDark.addEventListener("change", tell);
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem(KEY, root.dataset.theme); } catch { /* Then the choice lasts as long as the page. */ }
    tell();
  });

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
})();
