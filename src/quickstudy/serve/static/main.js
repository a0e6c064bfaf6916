// The page: a sheet, the answer, the classes, several learners side by side, and a map. docs/service.md describes it.

import { service } from "./api.js";
import { setUp, showAnswer, showLearned, showSettings, showWaiting, spoken } from "./answer.js";
import { setUpClasses } from "./classes.js";
import { compare, showChoice } from "./compare.js";
import { $, count, say } from "./dom.js";
import { live } from "./live.js";
import { map, setUpMap } from "./map.js";
import { MODES } from "./modes.js";
import { announce, askForKeys, clearNotices, complain, report, watchConnection } from "./notices.js";
import { drawSheet } from "./sheets/draw.js";
import { picturesSheet } from "./sheets/pictures.js";
import { soundsSheet } from "./sheets/sounds.js";
import { textsSheet } from "./sheets/texts.js";
import { changes, classes, lastOpen, open, refresh, setMode, state, whileOpen } from "./state.js";
import { setUpTasks } from "./tasks.js";
import { teach, undo, undoable } from "./undo.js";

const SHEETS = { draw: drawSheet, pictures: picturesSheet, sounds: soundsSheet, texts: textsSheet };

let sheet = null;
let last = null; // the newest answer
let saidOf = ""; // what was announced last
let ready = Promise.resolve();

// --- asking ------------------------------------------------------------------------------------------

const asking = live({
  sheet: () => sheet,
  answered(found) {
    last = found;
    showAnswer(found);
    sheet.caption?.((found?.answers ?? []).map(({ label, unknown }) => (unknown ? "none of these" : label)));
  },
  settled(item) {
    const answer = last?.answers[last.index];
    const words = item && answer ? spoken(answer) : "";
    if (words && words !== saidOf) announce(words);
    saidOf = words;
    ready = Promise.all([compare(item, failed), map(item, failed)]);
  },
  waiting: () => last ?? showWaiting(),
  failed,
});

function failed(error) {
  complain(error.message);
}

function changed(busy) {
  if (!sheet) return; // it is being made
  const n = sheet.size();
  say($("teach-title"), n > 1 ? `What are these ${n}?` : "What is it?");
  asking.changed(busy);
}

function makeSheet() {
  sheet?.stop?.();
  sheet = null;
  sheet = SHEETS[state.mode]({ changed, announce, complain });
  $("sheet").replaceChildren(sheet.element);
  say($("sheet-title"), MODES[state.mode].title);
  last = null;
  saidOf = "";
  showAnswer(null);
  showLearned(null);
}

// --- teaching ----------------------------------------------------------------------------------------

/** Adds items to a class; if that is refused they are on their sheet again. */
async function teachItems(label, items, kept) {
  const mine = sheet;
  try {
    await teach(label, items);
  } catch (error) {
    if (kept && mine === sheet) sheet.restore(kept);
    throw error;
  }
  const [one] = MODES[state.mode].noun;
  announce(items.length === 1 ? `A ${one} of ${label} is added.` : `${count(items.length, MODES[state.mode].noun)} are added to ${label}.`);
  await learn(items.at(-1));
}

/** The first answer after a change has the learning in it: how long it takes is shown. */
async function learn(item) {
  const { task } = state;
  const begun = performance.now();
  if (!task?.ready) return showLearned(null);
  await service.classify(task.id, [item.data], whileOpen());
  if (state.task?.revision === task.revision) showLearned(performance.now() - begun);
}

async function teachSheet(label, { needed }) {
  clearNotices();
  const items = await sheet.items();
  if (!items.length) {
    if (needed) announce(`The sheet is empty: first ${MODES[state.mode].first.split(",")[0].toLowerCase()}.`);
    return sheet.focus();
  }
  const kept = sheet.keep();
  sheet.clear();
  await report(teachItems(label, items, kept));
}

const whole = (files) => files.filter((file) => file.size && (sheet.accepts(file.type) || !file.type));

/** Files that were dropped on a class. */
async function teachFiles(label, files) {
  clearNotices();
  const good = checked(files);
  if (good.length) await report(sheet.read(good).then((items) => items.length && teachItems(label, items, null)));
}

function checked(files) {
  const good = whole(files);
  const bad = files.filter((file) => !good.includes(file)).map(({ name }) => name);
  if (bad.length) complain(`Left out, because ${bad.length === 1 ? "it is no" : "they are no"} ${MODES[state.mode].noun[0]}: ${bad.join(", ")}.`);
  return good;
}

// --- the page ----------------------------------------------------------------------------------------

const showClasses = setUpClasses({ act: report, teachFiles, teachSheet: (...args) => report(teachSheet(...args)), complain });

function show({ detail }) {
  const { task, mode } = state;
  if (detail.mode) makeSheet();
  say($("task-name"), task?.name || "New task");
  document.title = task?.name ? `${task.name} · quickstudy` : "quickstudy";
  document.body.dataset.mode = mode;
  for (const input of document.querySelectorAll("#modes input")) {
    input.checked = input.value === mode;
  }
  const words = undoable();
  $("undo").disabled = !words;
  $("undo").title = words ? `Undo ${words}` : "";
  say($("undo-word"), "Undo");
  $("undo").setAttribute("aria-label", words ? `Undo ${words}` : "Undo");
  $("compare-part").hidden = $("map-part").hidden = !task?.ready;
  showClasses();
  showSettings();
  showChoice(changed);
  if (!last) showAnswer(null);
  changed();
}

function takeBack() {
  clearNotices();
  report(undo().then((words) => words && announce(`Undone: ${words}.`)));
}

function keys(event) {
  const typing = event.target.matches?.("input:not([type=radio], [type=checkbox], [type=file]), textarea, select");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey && !typing) {
    event.preventDefault();
    if (sheet.canUndo?.()) sheet.undo();
    else takeBack();
  }
  const onSheet = $("sheet").contains(event.target) && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (onSheet && /^[0-9]$/.test(event.key)) {
    const label = classes()[(Number(event.key) + 9) % 10];
    if (label) report(teachSheet(label, { needed: true }));
  }
}

function files(event) {
  const given = [...(event.clipboardData ?? event.dataTransfer).files];
  if (!given.length) {
    if (event.type === "drop" && !event.target.matches("input, textarea")) event.preventDefault(); // a link is not followed
    return;
  }
  event.preventDefault();
  clearNotices();
  const good = checked(given);
  if (good.length) report(Promise.resolve(sheet.take(good)));
}

function listen() {
  changes.addEventListener("changed", show);
  $("modes").addEventListener("change", ({ target }) => {
    clearNotices();
    report(setMode(target.value));
  });
  $("undo").addEventListener("click", takeBack);
  document.addEventListener("keydown", keys);
  document.addEventListener("paste", files);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", files);
  document.addEventListener("visibilitychange", () => document.hidden || report(refresh()));
  addEventListener("beforeunload", (event) => state.examples.some(({ pending }) => pending) && event.preventDefault());
  addEventListener("hashchange", () => lastOpen() !== (state.task?.id ?? null) && report(go(lastOpen())));
}

/** Opens a task, or a new one where it is gone. */
async function go(id) {
  const named = Boolean(location.hash);
  try {
    await open(id, id ? {} : { mode: "draw" });
  } catch (error) {
    await open(null, { mode: "draw" });
    if (error.status !== 404) throw error;
    if (named) complain("The task of this address is not there, or not any more. This is a new one.");
  }
}

async function start() {
  setUp();
  setUpMap();
  askForKeys();
  watchConnection();
  setUpTasks({ announce });
  listen();
  state.learners = await service.learners();
  await go(lastOpen());
  document.body.dataset.ready = "true";
  await ready;
}

report(start());
