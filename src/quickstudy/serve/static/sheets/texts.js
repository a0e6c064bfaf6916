// Sentences: one a line. The line with the cursor is what is asked about; all lines are added.

import { h } from "../dom.js";

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const item = (text) => ({ blob: new Blob([text], { type: "text/plain" }), data: { text } });

const read = async (files) => lines((await Promise.all(files.map((one) => one.text()))).join("\n")).map(item);

export function textsSheet({ changed }) {
  const area = h("textarea", {
    id: "text", rows: 5, spellcheck: "false", maxlength: 4000, "aria-describedby": "text-help",
    placeholder: "I would like a table for two",
  });
  const clearButton = h("button", { type: "button", on: { click: clear } }, "Clear");
  const element = h("div", { class: "texts" },
    h("label", { class: "hidden", for: "text" }, "Sentences"), area,
    h("p", { id: "text-help", class: "soft" }, "One sentence a line; the answer is that of the line with the cursor."),
    h("div", { class: "tools" }, clearButton));

  function clear() {
    area.value = "";
    changed();
  }

  /** Which of the lines that are not empty has the cursor. */
  function index() {
    const before = lines(area.value.slice(0, area.selectionStart)).length;
    const here = area.value.slice(area.value.lastIndexOf("\n", area.selectionStart - 1) + 1, area.selectionStart);
    return Math.min(lines(area.value).length - 1, here.trim() ? before - 1 : before);
  }

  let asked = "";
  area.addEventListener("input", () => changed());
  area.addEventListener("selectionchange", moved);
  area.addEventListener("keyup", moved);
  area.addEventListener("click", moved);

  function moved() {
    const now = `${area.value}|${index()}`;
    if (now === asked) return;
    asked = now;
    changed();
  }

  return {
    element, clear, index, read,
    items: async () => lines(area.value).map(item),
    size: () => lines(area.value).length,
    accepts: (type) => type.startsWith("text/"),
    take: async (files) => {
      area.value = (await Promise.all(files.map((one) => one.text()))).join("\n");
      changed();
    },
    focus: () => area.focus(),
    keep: () => area.value,
    restore: (kept) => ((area.value = [kept, area.value].filter(Boolean).join("\n")), changed()),
  };
}
