// Changes of the task, and how each is taken back. What was removed is kept here until then.

import { content, itemOf } from "./content.js";
import {
  addClass, addExamples, changes, classes, removeClass, removeExamples, renameClass, state, tell,
} from "./state.js";
import { count } from "./dom.js";
import { MODES } from "./modes.js";

const MOST = 50;
const done = [];
const now = new Map(); // what came back got a new id: old -> new

const current = (id) => {
  let found = id;
  while (now.has(found)) found = now.get(found);
  return found;
};

function note(words, back) {
  done.push({ words, back });
  if (done.length > MOST) done.shift();
  tell();
}

changes.addEventListener("changed", ({ detail }) => {
  if (detail.task) done.length = 0;
});

/** What would be undone, in words; "" for nothing. */
export const undoable = () => done.at(-1)?.words ?? "";

export async function undo() {
  const step = done.pop();
  if (!step) return "";
  tell();
  try {
    await step.back();
  } catch (error) {
    done.push(step);
    tell();
    throw error;
  }
  return step.words;
}

export async function teach(label, items) {
  const isNew = !classes().includes(label);
  const ids = await addExamples(label, items);
  note(`adding ${count(items.length, MODES[state.mode].noun)} to ${label}`, async () => {
    await removeExamples(ids.map(current));
    if (isNew && !state.examples.some((one) => one.label === label)) await removeClass(label);
  });
}

const fetched = (examples) =>
  Promise.all(examples.map(async ({ id, kind }) => itemOf(kind, (await content(state.task.id, id)).blob)));

async function back(label, examples, items) {
  const ids = await addExamples(label, items);
  examples.forEach(({ id }, index) => now.set(current(id), ids[index]));
}

export async function drop(example) {
  const items = await fetched([example]);
  await removeExamples([example.id]);
  note(`removing a ${MODES[state.mode].noun[0]} of ${example.label}`, () => back(example.label, [example], items));
}

export async function dropClass(label) {
  const examples = state.examples.filter((one) => one.label === label);
  const items = await fetched(examples);
  await removeClass(label);
  note(`removing ${label}`, () => (items.length ? back(label, examples, items) : addClass(label)));
}

export async function rename(label, name) {
  await renameClass(label, name);
  note(`renaming ${label} to ${name}`, () => renameClass(name, label));
}
