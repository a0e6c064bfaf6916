// Pictures: chosen, dropped or pasted. Large ones are made smaller here, so that an answer need not wait for them.

import { base64 } from "../content.js";
import { h } from "../dom.js";
import { tray } from "./tray.js";

const LONGEST = 1024; // pixels of a side
const LIGHT = 1 << 20; // bytes

async function small(file) {
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return file; // of a format that the browser does not know: the service says whether it does
  const scale = LONGEST / Math.max(picture.width, picture.height);
  if (file.size <= LIGHT && scale >= 1) return file;
  const [width, height] = [picture.width, picture.height].map((n) => Math.max(1, Math.round(n * Math.min(scale, 1))));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
  return canvas.convertToBlob({ type: file.type === "image/png" ? "image/png" : "image/jpeg", quality: 0.92 });
}

async function pictureItem(file) {
  const blob = await small(file);
  return { name: file.name, blob, data: { image: await base64(blob) } };
}

/** Files as items, `{name, blob, data}`. */
const read = (files) => Promise.all(files.map(pictureItem));

export function picturesSheet({ changed, complain }) {
  const held = tray({
    noun: ["picture", "pictures"],
    read, changed, complain,
    draw: (node, { item, name }) => node.append(h("img", { src: URL.createObjectURL(item.blob), alt: name })),
  });
  const file = h("input", {
    type: "file", accept: "image/*", multiple: true, class: "hidden", id: "picture-file",
    on: { change: chosen },
  });
  const clearButton = h("button", { type: "button", on: { click: held.clear } }, "Clear");
  const element = h("div", {},
    h("label", { class: "drop", for: "picture-file" },
      h("span", { class: "drop-title" }, "Choose pictures"), file,
      h("span", { class: "soft" }, "or drop them here, or paste one")),
    held.element, h("div", { class: "tools" }, clearButton));

  function chosen() {
    held.take([...file.files]);
    file.value = ""; // so that the same file can be chosen again
  }

  return { ...held, element, accepts: (type) => type.startsWith("image/"), focus: () => file.focus() };
}
