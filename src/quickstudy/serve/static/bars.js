// Probabilities as bars, a class each, always in the order of the classes: what moves is their length.

import { h, keyed, percent, say } from "./dom.js";
import { classes, colourOf } from "./state.js";

const bar = (label) =>
  h("li", {}, h("span", { class: "name", title: label }, label),
    h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill" })), h("span", { class: "value" }));

/** Fills a list; `probabilities` is `{label: p}`, or null for none. */
export function showBars(list, probabilities) {
  const all = probabilities ? classes().filter((label) => Object.hasOwn(probabilities, label)) : [];
  keyed(list, all, (label) => label, bar, (node, label) => {
    node.style.setProperty("--colour", colourOf(label));
    node.style.setProperty("--part", probabilities[label]);
    say(node.querySelector(".value"), percent(probabilities[label]));
  });
}
