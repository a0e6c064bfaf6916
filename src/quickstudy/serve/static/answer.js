// The answer: a name, how sure, the other classes, and which examples are most alike.

import { showBars } from "./bars.js";
import { $, count, h, keyed, percent, say, seconds } from "./dom.js";
import { face } from "./face.js";
import { MODES, takes } from "./modes.js";
import { change, classes, colourOf, state } from "./state.js";

const RATES = [[0.01, "rarely"], [0.05, "now and then"], [0.2, "often"]];

const parts = {
  label: h("p", { class: "label" }),
  note: h("p", { class: "note" }),
  promise: h("p", { class: "soft" }),
  bars: h("ul", { class: "bars", role: "list", "aria-label": "Probabilities" }),
  nearest: h("ul", { class: "nearest", role: "list" }),
  alike: h("h3", {}, "Most alike"),
  learned: h("p", { class: "soft learned" }),
  learner: h("select", { id: "learner", on: { change: (event) => change({ learner: event.target.value }) } }),
  rate: h("select", { id: "rate", on: { change: (event) => change({ reject_unknown: Number(event.target.value) }) } }),
};
const settings = h("details", { class: "settings" }, h("summary", {}, "Settings"),
  h("div", { class: "row" },
    h("label", { for: "learner" }, "Learner"), parts.learner,
    h("label", { for: "rate" }, "“None of these”"), parts.rate), parts.promise);
parts.rate.append(...RATES.map(([value, word]) => h("option", { value }, word)));

/** Puts the panel into the page. */
export function setUp() {
  $("answer").append(parts.label, parts.note, parts.bars, parts.alike, parts.nearest, parts.learned, settings);
}

/** How long it took to learn; `ms` is from when the service had the last example to its first answer. */
export function showLearned(ms) {
  const n = state.examples.length;
  const what = `${count(n, MODES[state.mode].noun)} of ${count(new Set(state.examples.map(({ label }) => label)).size, ["class", "classes"])}`;
  say(parts.learned, ms === null ? "" : `Learned from ${what} in ${seconds(ms)}.`);
}

/** What to do next, while there is no answer. */
function guidance() {
  const [one] = MODES[state.mode].noun;
  const filled = new Set(state.examples.map(({ label }) => label)).size;
  if (filled === 0) return [MODES[state.mode].first, "What learns here practised on thousands of small tasks; of yours it has seen nothing. Two classes with one example each are enough to begin."];
  const { task } = state;
  if (filled > 1 && task && !task.ready && task.learner.why) return ["This cannot be learned.", task.learner.why];
  if (filled === 1) return [`Now a ${one} of something else.`, "Give it another name. From two classes on it answers."];
  return [`Ready. Show it a new ${one}.`, "Where it is wrong say what it is: it learns that at once."];
}

function nearest(answer) {
  const found = (answer?.nearest ?? []).filter(({ example }) => state.examples.some(({ id }) => id === example));
  keyed(parts.nearest, found, ({ example }) => example,
    ({ example, label }) => h("li", {},
      face({ id: example, kind: state.task.kind }, `a ${MODES[state.mode].noun[0]} of ${label}`), h("span", { class: "tag" })),
    (node, { label }) => {
      say(node.querySelector(".tag"), label);
      node.style.setProperty("--colour", colourOf(label));
    });
  parts.alike.hidden = parts.nearest.hidden = !found.length;
}

function note({ unknown, label, set }) {
  if (unknown) return `It is unlike all examples; closest is ${label}.`;
  const others = (set ?? []).filter((name) => name !== label);
  const alone = set?.length === 1 && set[0] === label;
  return others.length ? `Not ruled out: ${others.join(", ")}.` : alone ? "No other class comes into question." : "";
}

function promised(promise) {
  const rate = `${percent(state.task.reject_unknown ?? 0)} of what does belong here may be called “none of these”`;
  if (promise === "not guaranteed") return `About ${rate}; that is not guaranteed.`;
  return promise ? `${rate}. That holds for ${promise}.` : "";
}

/** The same in short, where the answer is out of sight. */
function peek(answer) {
  const node = $("peek");
  node.replaceChildren(...(answer ? [h("span", {}, answer.unknown ? "None of these" : answer.label),
    h("span", {}, answer.unknown ? "" : percent(answer.probability))] : []));
  node.style.setProperty("--colour", answer && !answer.unknown ? colourOf(answer.label) : "var(--soft)");
}

/** `found` as live.js gives it, or null. */
export function showAnswer(found) {
  const answer = found?.answers[found.index] ?? null;
  const [title, hint] = answer ? [] : guidance();
  say(parts.label, answer ? (answer.unknown ? "None of these" : answer.label) : title);
  say(parts.note, answer ? note(answer) : hint);
  if (answer) say(parts.promise, promised(found.promise));
  const sure = answer && !answer.unknown;
  parts.label.classList.toggle("said", Boolean(answer));
  parts.label.style.setProperty("--colour", sure ? colourOf(answer.label) : "var(--soft)");
  showBars(parts.bars, answer?.probabilities ?? null);
  nearest(answer);
  peek(answer);
}

/** While the first answer takes its time. */
export function showWaiting() {
  say(parts.label, "One moment …");
  say(parts.note, "The first answer after a change has the learning in it.");
}

/** In words, for those who listen. */
export const spoken = ({ label, unknown, probability }) =>
  unknown ? `None of these; closest is ${label}.` : `${label}, ${percent(probability)}.`;

/** The learners that can be chosen, and the one that is. */
export function showSettings() {
  const { task, learners } = state;
  settings.hidden = !task?.kind;
  if (settings.hidden) return;
  const names = ["auto", ...learners.filter((one) => takes(one, task.kind)).map(({ name }) => name)];
  if (!names.includes(task.learner.asked)) names.push(task.learner.asked);
  const word = (name) => (name === "auto" && task.learner.asked === "auto" && task.learner.name ? `auto: ${task.learner.name}` : name);
  keyed(parts.learner, names, (name) => name, (name) => h("option", { value: name }, name),
    (node, name) => say(node, word(name)));
  parts.learner.value = task.learner.asked;
  parts.learner.title = task.learner.why ?? "";
  const rate = task.reject_unknown ?? 0;
  if (!RATES.some(([value]) => value === rate) && ![...parts.rate.options].some(({ value }) => Number(value) === rate)) {
    parts.rate.append(h("option", { value: rate }, rate ? percent(rate) : "never"));
  }
  parts.rate.value = String(rate);
}
