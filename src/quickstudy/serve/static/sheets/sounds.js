// Sounds: recorded here, or chosen. What is sent is WAV, without the silence around it.

import { base64 } from "../content.js";
import { h } from "../dom.js";
import { tray } from "./tray.js";
import { drawWave, loudest, trimmed, wav, waveOf } from "./wave.js";

const LONGEST = 4000; // milliseconds of a recording
const SILENCE = 0.004; // the loudest sample of what holds nothing

const WHY = {
  NotAllowedError: "The microphone may not be used: allow it for this page in the browser, or choose sound files.",
  NotFoundError: "No microphone was found: connect one, or choose sound files.",
};

/** One file as an item, `{name, blob, data, wave}`; as it is where this browser cannot read it. */
async function soundItem(file) {
  const wave = await waveOf(file).catch(() => null);
  const blob = wave ? wav(trimmed(wave)) : file;
  return { name: file.name, blob, wave, data: { audio: await base64(blob) } };
}

const read = (files) => Promise.all(files.map(soundItem));

export function soundsSheet({ changed, complain, announce }) {
  const held = tray({ noun: ["sound", "sounds"], read, changed, complain, draw: drawSound });
  let recorder = null;
  const word = h("span", {}, "Record");
  const button = h("button", { type: "button", class: "record", "aria-pressed": "false", on: { click: press } },
    h("span", { class: "dot", "aria-hidden": "true" }), word);
  const meter = h("meter", { min: 0, max: 1, low: 0.05, optimum: 0.5, value: 0, "aria-label": "Loudness" });
  const file = h("input", {
    type: "file", accept: "audio/*", multiple: true, class: "hidden", id: "sound-file",
    on: { change: chosen },
  });
  const clearButton = h("button", { type: "button", on: { click: held.clear } }, "Clear");
  const element = h("div", { class: "sounds" },
    h("div", { class: "recorder" }, button, meter,
      h("p", { class: "soft" }, `A word, a whistle, a knock: up to ${LONGEST / 1000} seconds.`)),
    held.element,
    h("div", { class: "tools" }, clearButton,
      h("label", { class: "button quiet", for: "sound-file" }, "Use sound files", file)));

  async function press() {
    if (recorder) return recorder.stop();
    try {
      if (!navigator.mediaDevices) throw new DOMException("", "Insecure");
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
      record(stream);
    } catch (error) {
      const insecure = "A browser records on pages of this machine or over HTTPS alone. Choose sound files.";
      complain(error.name === "Insecure" ? insecure : (WHY[error.name] ?? `The microphone failed: ${error.message}.`));
    }
  }

  function record(stream) {
    const parts = [];
    recorder = new MediaRecorder(stream);
    const audio = new AudioContext();
    const ears = audio.createAnalyser();
    audio.createMediaStreamSource(stream).connect(ears);
    const heard = new Float32Array(ears.fftSize);
    const looking = setInterval(() => {
      ears.getFloatTimeDomainData(heard);
      meter.value = Math.min(1, 1.5 * loudest(heard));
    }, 50);
    const end = setTimeout(() => recorder?.stop(), LONGEST);
    recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
    recorder.addEventListener("stop", async () => {
      clearTimeout(end);
      clearInterval(looking);
      for (const track of stream.getTracks()) track.stop();
      await audio.close();
      show(false);
      await recorded(new Blob(parts, { type: parts[0]?.type }));
    });
    recorder.start();
    show(true);
  }

  function show(running) {
    if (!running) recorder = null;
    meter.value = 0;
    button.setAttribute("aria-pressed", String(running));
    word.textContent = running ? "Stop" : "Record";
    announce(running ? "Recording" : "Recorded");
  }

  async function recorded(blob) {
    const item = await soundItem(blob);
    if (!item.wave || loudest(item.wave) < SILENCE) complain("Nothing was heard: is the microphone muted? Record again.");
    else held.put([{ ...item, name: "" }]);
  }

  function chosen() {
    held.take([...file.files]);
    file.value = "";
  }

  return {
    ...held, element,
    accepts: (type) => type.startsWith("audio/"),
    focus: () => button.focus(),
    stop: () => recorder?.stop(),
  };
}

function drawSound(node, { item, name }) {
  const canvas = h("canvas", { width: 144, height: 72, role: "img", "aria-label": `Waveform of ${name}` });
  node.append(canvas);
  node.addEventListener("click", () => new Audio(URL.createObjectURL(item.blob)).play());
  if (item.wave) requestAnimationFrame(() => drawWave(canvas, trimmed(item.wave)));
}
