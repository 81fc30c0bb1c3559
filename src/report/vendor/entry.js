// The parts of Observable Plot that page.js draws with.
export { areaY, dot, line, link, plot, ruleX, ruleY, text } from "@observablehq/plot";
