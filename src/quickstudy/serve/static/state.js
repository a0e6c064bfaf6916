// What is known of the task that is open. The service keeps it; this page keeps which one it is, and what has no example yet.

import { Refused, service } from "./api.js";
import { forget, remember } from "./content.js";
import { MODES, modeOf } from "./modes.js";

const OPEN = "quickstudy-task";
const DRAFT = "quickstudy-draft:";
const LATEST = "quickstudy-latest:"; // the task that was open last, of each mode
export const MOST_CLASSES = 10;

export const state = {
  task: null, // as the service describes it; null: none yet
  mode: "draw",
  examples: [], // {id, label, kind}; one that is on its way has {pending: true}
  empty: [], // names of classes without an example
  learners: [],
  fresh: false, // somebody asked for a new task: another mode is for that one
};

export const changes = new EventTarget();
/** Tells all parts of the page: "changed", `task` in its detail where it is another task, `mode` where another sheet. */
export const tell = (detail = {}) => changes.dispatchEvent(new CustomEvent("changed", { detail }));

// --- what the browser keeps ------------------------------------------------------------------------

function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // storage is switched off: it holds until the page is left
  }
}

const draftOf = (id) => JSON.parse(kept(DRAFT + id) ?? "{}");
const keepDraft = () =>
  keep(DRAFT + (state.task?.id ?? state.mode), JSON.stringify({ mode: state.mode, empty: state.empty }));

/** How a task is shown in lists. */
export const shownAs = (task) => modeOf(task, draftOf(task.id).mode);

/** The task that was open last: what the address says, else what the browser remembers. */
export const lastOpen = () => new URLSearchParams(location.hash.slice(1)).get("task") || kept(OPEN);

function setOpen(id) {
  keep(OPEN, id);
  if (id) keep(LATEST + state.mode, id);
  history.replaceState(null, "", id ? `#task=${encodeURIComponent(id)}` : location.pathname + location.search);
}

// --- while a task is open ------------------------------------------------------------------------------

let visit = new AbortController();

/** Questions about the open task end with it, or with `signal`: one that is left, or deleted, is asked nothing any more. */
export const whileOpen = (signal) => (signal ? AbortSignal.any([visit.signal, signal]) : visit.signal);

/** Nothing is asked from now on, until a task is opened. */
export const leave = () => visit.abort(new DOMException("another task", "AbortError"));

// --- classes, in an order and with colours that stay --------------------------------------------------

const places = new Map();

/** Names of all classes in the order of their first examples, which a reload keeps; those without one last. */
export function classes() {
  const known = state.task?.classes.map(({ label }) => label) ?? [];
  const coming = state.examples.map(({ label }) => label);
  const all = [...new Set([...coming, ...known, ...state.empty])];
  for (const label of all) if (!places.has(label)) places.set(label, free());
  return all.sort((a, b) => places.get(a) - places.get(b));
}

function free() {
  const taken = new Set(places.values());
  let place = 0;
  while (taken.has(place)) place += 1;
  return place;
}

/** The number of a class, from 1; its colour and its key. */
export const numberOf = (label) => (classes(), (places.get(label) ?? 0) + 1);
export const colourOf = (label) => `var(--c${(numberOf(label) - 1) % 10})`;

function settle() {
  const filled = new Set(state.examples.map(({ label }) => label));
  state.empty = state.empty.filter((label) => !filled.has(label));
  const there = new Set([...filled, ...state.empty]);
  for (const label of places.keys()) if (!there.has(label)) places.delete(label);
  keepDraft();
}

// --- one change after the other ----------------------------------------------------------------------

let last = Promise.resolve();

/** Runs changes in the order in which they were asked for. */
export function inTurn(act) {
  const mine = last.then(act);
  last = mine.catch(() => {});
  return mine;
}

/** Takes what the service says of the task; null: it has to be asked. Another task may be open by now. */
async function took(id, task) {
  const known = task ?? (await service.task(id));
  if (state.task?.id === id) state.task = known;
  settle();
  tell();
}

// --- tasks -------------------------------------------------------------------------------------------

/** Opens a task; null: a new one, of which the service hears with its first example. */
export const open = (id, { mode, fresh = false } = {}) =>
  inTurn(async () => {
    const task = id === null ? null : await service.task(id);
    const examples = task?.examples ? await service.examples(id) : [];
    const draft = fresh ? {} : draftOf(id ?? mode);
    leave();
    visit = new AbortController();
    places.clear();
    forget();
    Object.assign(state, { task, examples, fresh, empty: draft.empty ?? [], mode: modeOf(task, mode ?? draft.mode) });
    setOpen(id);
    settle();
    tell({ task: true, mode: true });
  });

/** Other examples: those of the same kind in this task, others in their own task, the one that was open last. */
export async function setMode(mode) {
  const here = !state.task?.kind ? state.fresh || Boolean(state.task) : MODES[mode].kind === state.task.kind;
  if (!here) {
    const id = kept(LATEST + mode);
    return open(id, { mode }).catch((error) => {
      if (error.status !== 404) throw error;
      keep(LATEST + mode, null);
      return open(null, { mode });
    });
  }
  state.mode = mode;
  keepDraft();
  tell({ mode: true });
}

/** Looks whether somebody else changed the task. */
export async function refresh() {
  const id = state.task?.id;
  if (!id) return;
  const task = await service.task(id);
  if (state.task?.id !== id || task.revision === state.task.revision) return;
  const examples = await service.examples(id);
  if (state.task?.id !== id) return;
  state.examples = [...examples, ...state.examples.filter((one) => one.pending)];
  await took(id, task);
}

async function existing() {
  if (state.task) return state.task.id;
  const mode = MODES[state.mode];
  const learner = state.learners.some(({ name }) => name === mode.learner) ? mode.learner : "auto";
  state.task = await service.create({ name: mode.task, learner });
  keep(DRAFT + state.mode, null);
  keepDraft();
  setOpen(state.task.id);
  return state.task.id;
}

/** Its name, learner, or how often "none of these" may be said in error. */
export const change = (body) =>
  inTurn(async () => {
    if (!state.task && !body.name) return;
    const id = await existing();
    await took(id, await service.change(id, body));
  });

// --- examples and classes ------------------------------------------------------------------------------

/** Adds a class without an example; returns a sentence where that cannot be. */
export function addClass(label) {
  const all = classes();
  if (all.includes(label)) return "";
  if (all.length >= MOST_CLASSES) return `${MOST_CLASSES} classes are the most that this page shows. Remove one first.`;
  state.empty.push(label);
  keepDraft();
  tell();
  return "";
}

/** Adds examples, `[{data, blob}]`, to a class. They are shown at once; returns their ids when the service has them. */
export function addExamples(label, items) {
  const coming = items.map((item, index) => {
    const id = `coming-${performance.now()}-${index}`;
    remember(id, item.blob);
    return { id, label, kind: MODES[state.mode].kind, pending: true };
  });
  state.examples.push(...coming);
  settle();
  tell();
  return inTurn(async () => {
    try {
      const id = await existing();
      const made = await service.add(id, items.map((item) => ({ label, ...item.data })));
      made.examples.forEach((one, index) => remember(one.id, items[index].blob));
      const ids = new Map(coming.map((one, index) => [one, made.examples[index].id]));
      state.examples = state.examples.map((one) =>
        ids.has(one) ? { id: ids.get(one), label, kind: one.kind } : one,
      );
      await took(id, made.task);
      return made.examples.map((one) => one.id);
    } catch (error) {
      state.examples = state.examples.filter((one) => !coming.includes(one));
      if (!state.examples.some((one) => one.label === label)) state.empty.push(label);
      settle();
      tell();
      throw error;
    }
  });
}

/** What is gone already need not be removed: a first try may have come through though its answer did not. */
async function unlessGone(act) {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

export const removeExamples = (ids) =>
  inTurn(async () => {
    const id = state.task.id;
    let task = null;
    for (const one of ids) {
      task = await unlessGone(() => service.removeExample(id, one));
      const label = state.examples.find((example) => example.id === one)?.label;
      state.examples = state.examples.filter((example) => example.id !== one);
      if (label !== undefined && !state.examples.some((example) => example.label === label)) state.empty.push(label);
    }
    await took(id, task);
  });

export const removeClass = (label) =>
  inTurn(async () => {
    state.empty = state.empty.filter((name) => name !== label);
    if (state.examples.some((example) => example.label === label)) {
      const id = state.task.id;
      const task = await unlessGone(() => service.removeClass(id, label));
      state.examples = state.examples.filter((example) => example.label !== label);
      await took(id, task);
    } else {
      settle();
      tell();
    }
  });

export const renameClass = (label, name) =>
  inTurn(async () => {
    const renamed = (one) => (one === label ? name : one);
    const filled = state.examples.some((example) => example.label === label);
    const task = filled ? await service.renameClass(state.task.id, label, name) : null;
    places.set(name, places.get(label));
    places.delete(label);
    state.empty = state.empty.map(renamed);
    state.examples = state.examples.map((example) => ({ ...example, label: renamed(example.label) }));
    if (task) await took(task.id, task);
    else settle();
    tell();
  });
