// Waveforms: read from any file that the browser plays, cut to where the sound is, written as WAV, drawn.

const RATE = 16000;
const MARGIN = 0.08; // seconds of silence that are kept on both sides
const SILENT = 0.06; // of the loudest sample

/** One channel at 16 kHz, `Float32Array`. Throws where the browser cannot read the file. */
export async function waveOf(blob) {
  const offline = new OfflineAudioContext(1, 1, RATE); // decodes at its own rate
  const sound = await offline.decodeAudioData(await blob.arrayBuffer());
  const wave = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    sound.getChannelData(channel).forEach((sample, index) => (wave[index] += sample / sound.numberOfChannels));
  }
  return wave;
}

export const loudest = (wave) => wave.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);

/** Without the silence before and after. */
export function trimmed(wave) {
  const least = loudest(wave) * SILENT;
  const first = wave.findIndex((sample) => Math.abs(sample) > least);
  const last = wave.findLastIndex((sample) => Math.abs(sample) > least);
  const margin = Math.round(MARGIN * RATE);
  return wave.slice(Math.max(0, first - margin), last + margin);
}

/** A WAV file of 16-bit samples. */
export function wav(wave) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * wave.length));
  const text = (at, word) => [...word].forEach((letter, i) => bytes.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * wave.length, true);
  text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); // length of what describes the samples
  bytes.setUint16(20, 1, true); // plain samples
  bytes.setUint16(22, 1, true); // channels
  bytes.setUint32(24, RATE, true);
  bytes.setUint32(28, 2 * RATE, true); // bytes a second
  bytes.setUint16(32, 2, true); // bytes of a sample
  bytes.setUint16(34, 16, true); // bits of a sample
  text(36, "data");
  bytes.setUint32(40, 2 * wave.length, true);
  wave.forEach((sample, i) => bytes.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true));
  return new Blob([bytes], { type: "audio/wav" });
}

/** Draws the loudness over time as upright lines, in the colour of the text around. */
export function drawWave(canvas, wave) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const most = loudest(wave) || 1;
  const bars = Math.floor(width / 4);
  context.fillStyle = getComputedStyle(canvas).color;
  for (let bar = 0; bar < bars; bar += 1) {
    const from = Math.floor((bar * wave.length) / bars);
    const part = wave.subarray(from, Math.max(from + 1, Math.floor(((bar + 1) * wave.length) / bars)));
    const tall = Math.max(2, (loudest(part) / most) * (height - 4));
    context.fillRect(bar * 4 + 1, (height - tall) / 2, 2, tall);
  }
}
