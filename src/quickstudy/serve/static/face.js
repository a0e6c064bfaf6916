// How one example looks, wherever it is shown: a picture, a waveform that can be played, words.

import { content } from "./content.js";
import { h } from "./dom.js";
import { state, whileOpen } from "./state.js";
import { drawWave, waveOf } from "./sheets/wave.js";

/** A node that fills itself once its content is there; `name` is what a screen reader calls it. */
export function face(example, name) {
  const node = h("span", { class: `face ${example.kind}` });
  const known = state.task?.id ?? "";
  content(known, example.id, whileOpen()).then(
    ({ blob, url }) => fill(node, example.kind, name, blob, url),
    () => node.replaceChildren(h("span", { class: "soft" }, "?")),
  );
  return node;
}

async function fill(node, kind, name, blob, url) {
  if (kind === "pictures") node.append(h("img", { src: url, alt: name, draggable: "false" }));
  else if (kind === "sounds") await player(node, name, blob, url);
  else node.append(h("span", { class: "words" }, await blob.text()));
}

async function player(node, name, blob, url) {
  const canvas = h("canvas", { width: 144, height: 72, "aria-hidden": "true" });
  node.append(h("button", {
    type: "button", class: "play", "aria-label": `Play ${name}`, on: { click: () => new Audio(url).play() },
  }, canvas));
  const wave = await waveOf(blob).catch(() => null);
  if (wave) drawWave(canvas, wave);
}
