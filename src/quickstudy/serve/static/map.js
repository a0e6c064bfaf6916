// The space in which the learner compares: examples and what is asked about, as points; and the same in words.

import { service } from "./api.js";
import { content } from "./content.js";
import { $, count, h, keyed, s, say } from "./dom.js";
import { MODES } from "./modes.js";
import { classes, colourOf, numberOf, state, whileOpen } from "./state.js";

const SIZE = 400;
const EDGE = 34;
const place = (value) => EDGE + ((value + 1) / 2) * (SIZE - 2 * EDGE);

let running = null;
const picture = s("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", hidden: true, "aria-describedby": "map-words" });
const words = h("ul", { id: "map-words", role: "list", "aria-label": "The map in words" });

export function setUpMap() {
  $("map").append(picture, words);
}

/** Asks where everything lies; the item may be null. */
export async function map(item, failed) {
  running?.abort();
  if (!state.task?.ready) return show([]);
  running = new AbortController();
  const signal = whileOpen(running.signal);
  try {
    const { points } = await service.map(state.task.id, item ? [item.data] : [], signal);
    if (!signal.aborted) show(points);
  } catch (error) {
    if (!signal.aborted) failed(error);
  }
}

const isQuery = (point) => point.example === undefined || point.example === null;

function show(points) {
  const there = points.filter((point) => isQuery(point) || state.examples.some(({ id }) => id === point.example));
  keyed(picture, there, (point) => (isQuery(point) ? "query" : point.example), make, (node, point) => {
    node.style.transform = `translate(${place(point.x)}px, ${place(-point.y)}px)`;
    if (isQuery(point)) return;
    node.style.setProperty("--colour", colourOf(point.label));
    say(node.querySelector("text"), String(numberOf(point.label)));
  });
  picture.toggleAttribute("hidden", !there.length);
  picture.setAttribute("aria-label", there.length ? `Map of ${count(state.examples.length, MODES[state.mode].noun)}` : "An empty map");
  tell(there);
}

function make(point) {
  if (isQuery(point)) {
    return s("g", { class: "point query" }, s("circle", { class: "halo", r: 9 }), s("circle", { r: 9 }), s("text", { x: 16, y: 4 }, "new"));
  }
  const node = s("g", { class: "point" });
  if (state.task.kind === "pictures") {
    const image = s("image", { x: -14, y: -14, width: 28, height: 28, preserveAspectRatio: "xMidYMid slice" });
    content(state.task.id, point.example, whileOpen()).then(({ url }) => image.setAttribute("href", url), () => {});
    node.append(s("rect", { x: -16, y: -16, width: 32, height: 32, rx: 5 }), image,
      s("circle", { class: "badge", cx: 15, cy: -15, r: 8 }), s("text", { x: 15, y: -11.5 }));
  } else {
    node.append(s("circle", { class: "badge", r: 12 }), s("text", { y: 4 }));
  }
  return node;
}

/** For each class how far its examples lie from each other, and from what is asked about. */
function tell(points) {
  const query = points.find(isQuery);
  const far = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const rows = classes().flatMap((label) => {
    const mine = points.filter((point) => !isQuery(point) && point.label === label);
    if (!mine.length) return [];
    const middle = { x: mean(mine.map(({ x }) => x)), y: mean(mine.map(({ y }) => y)) };
    const spread = mean(mine.map((point) => far(point, middle)));
    return [{ label, n: mine.length, spread, away: query ? far(query, middle) : null }];
  });
  rows.sort((a, b) => (a.away ?? 0) - (b.away ?? 0));
  keyed(words, rows, ({ label }) => label, () => h("li", {}, h("strong"), h("span"), h("span", { class: "soft" })), (node, { label, n, spread, away }) => {
    const [name, distance, together] = node.children;
    node.style.setProperty("--colour", colourOf(label));
    say(name, label);
    say(distance, away === null ? "" : `The new one lies ${away.toFixed(2)} from its middle.`);
    say(together, count(n, MODES[state.mode].noun) + (n > 1 ? `, ${spread.toFixed(2)} from the middle on average` : ""));
  });
}
