// Asks while something is being drawn: not at every point, never two questions at once, and no answer to an older one counts.

import { service } from "./api.js";
import { state, whileOpen } from "./state.js";

const GAP = 120; // milliseconds between questions, at least
const SETTLED = 450; // without a change: time for what costs more
const LONG = 400; // after which it is said that an answer is on its way

/**
 * `sheet()` gives the sheet; `answered({answers, index, ms})` or `answered(null)`; `settled(query)`, with `{data, blob}` or
 * null, once nothing changes any more; `waiting()` where an answer takes its time; `failed(error)`.
 */
export function live({ sheet, answered, settled, waiting, failed }) {
  let asked = 0; // the number of the newest question
  let refused = false; // what is on the sheet
  let answering = null; // the newest question, until it is answered
  let running = null; // what stops the one that is under way
  let lastTime = 0; // when it was put
  let took = GAP; // how long an answer took
  let soon = 0;
  let calm = 0;

  /** Something changed; `busy` while the pen is down. */
  function changed(busy = false) {
    clearTimeout(soon);
    clearTimeout(calm);
    refused = false;
    asked += 1; // from now on an answer that is under way is late
    const gap = Math.max(GAP, 1.5 * took);
    soon = setTimeout(() => (answering = ask()), busy ? Math.max(0, lastTime + gap - performance.now()) : 0);
    if (!busy) calm = setTimeout(settle, SETTLED);
  }

  function stop() {
    running?.abort(new DOMException("a newer question", "AbortError"));
    running = null;
  }

  async function ask() {
    stop();
    const mine = asked;
    const items = await sheet().items();
    if (mine !== asked) return;
    if (!items.length || !state.task?.ready) return answered(null);
    const control = (running = new AbortController());
    const signal = whileOpen(control.signal);
    lastTime = performance.now();
    const long = setTimeout(() => signal.aborted || waiting(), LONG);
    try {
      const queries = items.map((item) => item.data);
      const { answers, promise } = await service.classify(state.task.id, queries, signal);
      took = performance.now() - lastTime;
      if (signal.aborted) return;
      const index = Math.max(0, sheet().index?.() ?? 0);
      answered({ answers, promise, index, ms: took });
    } catch (error) {
      if (signal.aborted) return;
      refused = true;
      answered(null);
      failed(error);
    } finally {
      clearTimeout(long);
      if (running === control) running = null;
    }
  }

  async function settle() {
    const mine = asked;
    await answering;
    if (mine !== asked) return;
    const items = await sheet().items();
    settled((!refused && items[Math.max(0, sheet().index?.() ?? 0)]) || null);
  }

  return { changed, stop };
}
