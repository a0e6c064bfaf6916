// The service, as docs/service.md describes it. What was refused throws `Refused` with the service's own sentence; while it
// cannot be reached a call waits and tries again.

import { pause } from "./dom.js";

const ROOT = new URL("v1/", document.baseURI);
const KEY = "quickstudy-key";
const LONGEST_WAIT = 8000;

/** The service said no; `message` is its sentence. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { name: "Refused", status, code });
  }
}

/** Tells "lost" and "back" of the connection. `tryNow()` ends a wait. */
export const connection = Object.assign(new EventTarget(), {
  lost: false,
  tryNow() {
    this.dispatchEvent(new Event("now"));
  },
  set(lost, why) {
    if (this.lost === lost) return;
    this.lost = lost;
    this.dispatchEvent(new CustomEvent(lost ? "lost" : "back", { detail: why }));
  },
});
addEventListener("online", () => connection.tryNow());

let askForKey = async () => null;
let asking = null;
/** `ask(sentence)` resolves to a key, or null. */
export const whenKeyIsWanted = (ask) => (askForKey = ask);

/** Several calls may be refused at once: one question for all of them. */
function wantKey(why) {
  asking ??= askForKey(why).then((key) => {
    asking = null;
    if (key) sessionStorage.setItem(KEY, key);
    return key;
  });
  return asking;
}

/** What is said otherwise to who uses the page than to who writes a program. */
const PLAIN = {
  no_such_task: "This task is gone: it was deleted elsewhere. Open another one, or a new one, from the menu at the top.",
};

async function refusal(response) {
  const said = await response.json().catch(() => null);
  const message = PLAIN[said?.error?.code] ?? said?.error?.message ?? `The service answered ${response.status} ${response.statusText}.`;
  return new Refused(response.status, said?.error?.code ?? "", message);
}

function untilNextTry(wait, signal) {
  const now = new Promise((resolve) => connection.addEventListener("now", resolve, { once: true }));
  return Promise.race([pause(wait, signal), now]);
}

/** One try: a response, or null where the service cannot be reached or has no time; then `wait` says how long. */
async function attempt(method, path, { json, body, type, signal, headers }) {
  const sent = { ...headers };
  const key = sessionStorage.getItem(KEY);
  if (key) sent.Authorization = `Bearer ${key}`;
  if (json !== undefined || type) sent["Content-Type"] = type ?? "application/json";
  try {
    const response = await fetch(new URL(path, ROOT), {
      method,
      headers: sent,
      body: json === undefined ? body : JSON.stringify(json),
      signal,
      cache: "no-store",
    });
    const later = response.status === 429 || response.status === 503;
    return later ? { busy: response, wait: 1000 * (Number(response.headers.get("Retry-After")) || 1) } : { response };
  } catch (error) {
    if (signal?.aborted) throw error;
    return { wait: 0 };
  }
}

async function call(method, path, options = {}) {
  for (let tries = 0; ; tries += 1) {
    const { response, busy, wait } = await attempt(method, path, options);
    if (!response) {
      if (busy?.status === 503 || !busy) connection.set(true, busy ? (await refusal(busy)).message : "");
      await untilNextTry(Math.min(wait || 500 * 2 ** tries, LONGEST_WAIT), options.signal);
      continue;
    }
    connection.set(false);
    if (response.status === 401) {
      const why = await refusal(response);
      if (await wantKey(why.message)) continue;
      throw why;
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}

const json = async (...args) => (await call(...args)).json();
const at = (task, ...parts) => ["tasks", task, ...parts].map(encodeURIComponent).join("/");
/** A browser makes `..` in a path, written in whatever way, the folder above. */
const ofLabel = (task, label) => `${at(task, "classes")}?label=${encodeURIComponent(label)}`;

export const service = {
  learners: async () => (await json("GET", "learners")).learners,
  tasks: (after) => json("GET", `tasks?limit=50${after ? `&after=${encodeURIComponent(after)}` : ""}`),
  task: (id) => json("GET", at(id)),
  create: (body) => json("POST", "tasks", { json: body }),
  change: (id, body) => json("PATCH", at(id), { json: body }),
  discard: (id) => call("DELETE", at(id)),
  /** All labelled examples of a task, page after page. */
  async examples(id) {
    const found = [];
    for (let after = ""; ; ) {
      const page = await json("GET", `${at(id, "examples")}?limit=100${after && `&after=${encodeURIComponent(after)}`}`);
      found.push(...page.examples);
      after = page.next;
      if (!after) return found;
    }
  },
  content: async (id, example, signal) => (await call("GET", at(id, "examples", example, "content"), { signal })).blob(),
  /** With a key of its own, so that what is sent twice counts once. */
  add: (id, examples) =>
    json("POST", at(id, "examples"), { json: { examples }, headers: { "Idempotency-Key": once() } }),
  removeExample: (id, example) => json("DELETE", at(id, "examples", example)),
  renameClass: (id, label, name) => json("PUT", ofLabel(id, label), { json: { label: name } }),
  removeClass: (id, label) => json("DELETE", ofLabel(id, label)),
  classify: (id, queries, signal) => json("POST", at(id, "classify"), { json: { queries }, signal }),
  compare: (id, query, learners, signal) => json("POST", at(id, "compare"), { json: { query, learners }, signal }),
  map: (id, queries, signal) => json("POST", at(id, "map"), { json: { queries }, signal }),
  export: async (id) => (await call("GET", at(id, "export"))).blob(),
  import: (zip) => json("POST", "tasks/import", { body: zip, type: "application/zip" }),
};

/** 128 random bits. `crypto.randomUUID` is missing where a page is not served over HTTPS or from this machine. */
export const once = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
