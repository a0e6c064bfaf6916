// What the examples are: fetched once each, a few at a time, and kept while their task is open.

import { service } from "./api.js";

const AT_ONCE = 4;
const kept = new Map(); // id -> promise of {blob, url}
let running = 0;
const waiting = [];

async function inLine(act) {
  if (running >= AT_ONCE) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await act();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

const of = (blob) => ({ blob, url: URL.createObjectURL(blob) });

/** What an example is, `{blob, url}`; `signal` ends the wait for it. */
export function content(task, example, signal) {
  if (!kept.has(example)) {
    const found = inLine(async () => of(await service.content(task, example, signal)));
    found.catch(() => kept.delete(example));
    kept.set(example, found);
  }
  return kept.get(example);
}

/** Notes what is known without asking. */
export function remember(example, blob) {
  kept.set(example, Promise.resolve(of(blob)));
}

/** Another task is opened. */
export function forget() {
  for (const found of kept.values()) found.then(({ url }) => URL.revokeObjectURL(url), () => {});
  kept.clear();
}

/** Bytes as base64, without a header. */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`Cannot read ${blob.name ?? "this file"}: ${reader.error.message}`));
    reader.readAsDataURL(blob);
  });
}

/** An item that can be asked about and added: `{data, blob}`, by the kind of the service. */
export async function itemOf(kind, blob) {
  if (kind === "texts") return { blob, data: { text: await blob.text() } };
  if (kind === "rows") return { blob, data: { row: JSON.parse(await blob.text()) } };
  return { blob, data: { [kind === "sounds" ? "audio" : "image"]: await base64(blob) } };
}
