// Several learners, one question: what each says, how long it took, and how the loss of one falls while it learns.

import { service } from "./api.js";
import { showBars } from "./bars.js";
import { $, h, keyed, s, say, seconds } from "./dom.js";
import { KNOWN, MODES, takes } from "./modes.js";
import { colourOf, state, whileOpen } from "./state.js";

const [WIDE, TALL, EDGE] = [240, 84, 10];
const chosen = new Map(); // kind -> names
let running = null;

function known() {
  return state.learners.filter((one) => takes(one, MODES[state.mode].kind));
}

function names() {
  const there = known().map(({ name }) => name);
  const asked = chosen.get(state.mode) ?? MODES[state.mode].compared;
  const found = asked.filter((name) => there.includes(name));
  return found.length ? found : there.slice(0, 3);
}

/** Asks all of them; null takes the answers away. */
export async function compare(item, failed) {
  running?.abort();
  if (!item || !state.task?.ready || !names().length) return show(null);
  running = new AbortController();
  const signal = whileOpen(running.signal);
  try {
    const { learners } = await service.compare(state.task.id, item.data, names(), signal);
    if (!signal.aborted) show(learners);
  } catch (error) {
    if (!signal.aborted) failed(error);
  }
}

/** `null`: who would answer, and what each does. */
function show(found) {
  const shown = found ?? names().map((name) => known().find((one) => one.name === name));
  keyed($("compare"), shown, ({ name }) => name, make, fill);
}

function make({ name, summary }) {
  const [title, about] = KNOWN[name] ?? [name, summary];
  return h("li", { class: "learner" },
    h("h3", {}, title, title === name ? null : h("span", { class: "soft" }, name)), h("p", { class: "soft" }, about), h("p", { class: "says" }, h("span", { class: "label" }), h("span", { class: "ms soft" })), h("p", { class: "trouble" }),
    h("ul", { class: "bars", role: "list", "aria-label": `Probabilities by ${name}` }), h("div", { class: "losses" }));
}

function fill(node, { label, probabilities, milliseconds, losses, error }) {
  node.classList.toggle("idle", !probabilities);
  say(node.querySelector(".trouble"), error ?? "");
  const says = node.querySelector(".says");
  says.style.setProperty("--colour", probabilities ? colourOf(label) : "");
  say(says.querySelector(".label"), probabilities ? label : "");
  say(says.querySelector(".ms"), probabilities ? seconds(milliseconds) : "");
  showBars(node.querySelector(".bars"), probabilities ?? null);
  const place = node.querySelector(".losses");
  const words = (losses ?? []).map((loss) => loss.toFixed(2)).join(", ");
  if (place.dataset.words === words) return;
  place.dataset.words = words;
  place.replaceChildren(...(words ? chart(losses, words) : []));
}

/** The loss before each step and after the last, as a falling line. */
function chart(losses, words) {
  const most = Math.max(...losses, 1e-9);
  const steps = losses.length - 1;
  const x = (step) => EDGE + (steps ? (step * (WIDE - 2 * EDGE)) / steps : 0);
  const y = (loss) => TALL - EDGE - (loss / most) * (TALL - 2 * EDGE);
  const points = losses.map((loss, step) => `${x(step)},${y(loss)}`).join(" ");
  const picture = s("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", "aria-label": `Loss by steps: ${words}` },
    s("line", { class: "axis", x1: EDGE, x2: WIDE - EDGE, y1: TALL - EDGE, y2: TALL - EDGE }),
    s("polyline", { points, pathLength: 1 }),
    ...losses.map((loss, step) => s("circle", { cx: x(step), cy: y(loss), r: 3 })));
  const last = losses.at(-1);
  return [picture, h("p", { class: "soft" },
    `Its loss on the examples: ${losses[0].toFixed(2)} before it learns, ${last.toFixed(2)} after ${steps} steps.`)];
}

/** Which learners can be put side by side. `again` is called when others are chosen. */
export function showChoice(again) {
  const all = known();
  $("compare-choice").hidden = all.length < 2;
  keyed($("compare-names"), all, ({ name }) => name,
    ({ name }) => h("label", {}, h("input", { type: "checkbox", value: name, on: { change: () => (pick(), again()) } }), ` ${name}`),
    (node, { name }) => (node.querySelector("input").checked = names().includes(name)));
}

function pick() {
  chosen.set(state.mode, [...$("compare-names").querySelectorAll("input:checked")].map(({ value }) => value));
}
