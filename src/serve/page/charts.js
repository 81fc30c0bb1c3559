// Figures as SVG: an accuracy with its interval, a difference with its interval, the learning curve. Each is an image to
// screen readers, with the numbers in its label.
import { element, percent, points, svg } from "./dom.js";

const text = (x, y, words, properties = {}) => svg("text", { x, y, ...properties }, words);

/// A figure that is drawn for the width of its place, and anew when that changes.
function responsive(label, draw) {
  const place = element("div", { class: "plot", role: "img", "aria-label": label });
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    const now = Math.floor(contentRect.width);
    if (now === 0 || now === width) return;
    width = now;
    const drawn = draw(width);
    drawn.setAttribute("aria-hidden", "true");
    place.replaceChildren(drawn);
  }).observe(place);
  return place;
}

function frame(width, height) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
}

/// An accuracy between 0 and 100 %, its 95 % interval, and what guessing would give.
export function accuracyFigure({ value, low, high }, chance) {
  const label = `Accuracy ${percent(value)}, 95 % interval ${percent(low)} to ${percent(high)}, guessing ${percent(chance)}`;
  return responsive(label, (width) => {
    const drawn = frame(width, 58);
    const x = (share) => 8 + share * (width - 16);
    const y = 20;
    drawn.append(svg("line", { x1: x(0), x2: x(1), y1: y, y2: y, class: "rail" }));
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      drawn.append(svg("line", { x1: x(share), x2: x(share), y1: y - 4, y2: y + 4, class: "rail" }));
      const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
      drawn.append(text(share === 0 ? 0 : share === 1 ? width : x(share), y + 22, percent(share, 0), { "text-anchor": anchor, class: "tick-label" }));
    }
    drawn.append(
      svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: "interval" }),
      svg("circle", { cx: x(value), cy: y, r: 7, class: "estimate" }),
      svg("path", { d: `M${x(chance)} ${y - 6}v12`, class: "chance" }),
      text(Math.min(Math.max(x(chance), 26), width - 26), y + 36, "guessing", { "text-anchor": "middle", class: "tick-label" }));
    return drawn;
  });
}

/// A difference of two accuracies with its interval around zero; right of zero is better.
export function differenceFigure({ value, low, high }) {
  const label = `Difference ${points(value)} points, 95 % interval ${points(low)} to ${points(high)}`;
  const reach = Math.max(0.05, Math.abs(low), Math.abs(high)) * 1.15;
  return responsive(label, (width) => {
    const drawn = frame(width, 54);
    const x = (difference) => 8 + ((difference + reach) / (2 * reach)) * (width - 16);
    const y = 18;
    const kind = low > 0 ? "better" : high < 0 ? "worse" : "open";
    drawn.append(
      svg("line", { x1: x(-reach), x2: x(reach), y1: y, y2: y, class: "rail" }),
      svg("line", { x1: x(0), x2: x(0), y1: 4, y2: 34, class: "zero" }),
      svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, class: `interval ${kind}` }),
      svg("circle", { cx: x(value), cy: y, r: 7, class: `estimate ${kind}` }),
      text(0, 50, "worse", { class: "tick-label" }),
      text(x(0), 50, "no change", { "text-anchor": "middle", class: "tick-label" }),
      text(width, 50, "better", { "text-anchor": "end", class: "tick-label" }));
    return drawn;
  });
}

/// Accuracy against the number of photos of each class.
export function learningCurve(curve) {
  const [first, last] = [curve[0], curve.at(-1)];
  const label = `Accuracy against the number of different photos per class: ${percent(first.accuracy.value)} with ${Math.round(first.per_class)}, ${percent(last.accuracy.value)} with ${Math.round(last.per_class)}; the numbers are in the table below.`;
  return responsive(label, (width) => {
    const height = Math.min(300, Math.round(0.55 * width + 60));
    const [left, right, top, bottom] = [52, 28, 26, 48];
    const drawn = frame(width, height);
    const at = curve.map(({ per_class }) => Math.log2(per_class));
    const least = Math.max(0, Math.floor(Math.min(...curve.map(({ accuracy }) => accuracy.low)) / 0.1) * 0.1);
    const span = at.at(-1) - at[0] || 1;
    const x = (value) => left + ((value - at[0]) / span) * (width - left - right);
    const y = (share) => top + ((1 - share) / (1 - least)) * (height - top - bottom);
    const step = 1 - least > 0.5 ? 0.2 : 0.1;
    for (let share = 1; share > least - 1e-9; share -= step) {
      drawn.append(svg("line", { x1: left, x2: width - right, y1: y(share), y2: y(share), class: "grid" }),
        text(left - 8, y(share) + 4, percent(share, 0), { "text-anchor": "end", class: "tick-label" }));
    }
    const line = (key) => curve.map(({ accuracy }, i) => `${x(at[i])},${y(accuracy[key])}`);
    drawn.append(
      svg("polygon", { points: [...line("high"), ...line("low").reverse()].join(" "), class: "band" }),
      svg("polyline", { points: line("value").join(" "), class: "curve" }));
    curve.forEach(({ per_class, accuracy }, i) => {
      drawn.append(svg("circle", { cx: x(at[i]), cy: y(accuracy.value), r: 4.5, class: "point" }),
        text(x(at[i]), height - 28, String(Math.round(per_class)), { "text-anchor": "middle", class: "tick-label" }));
      // On a phone every other point has its number, the last one always.
      if (width >= 420 || (curve.length - 1 - i) % 2 === 0) {
        const anchor = i === 0 && curve.length > 1 ? "start" : "middle";
        drawn.append(text(Math.min(x(at[i]), width - 24), y(accuracy.value) - 12, percent(accuracy.value), { "text-anchor": anchor, class: "point-label" }));
      }
    });
    drawn.append(text(left, 12, "accuracy", { "text-anchor": "start", class: "tick-label" }),
      text(left + (width - left - right) / 2, height - 6, "different photos per class (logarithmic)", { "text-anchor": "middle", class: "tick-label" }));
    return drawn;
  });
}
