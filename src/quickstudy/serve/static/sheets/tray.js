// Several things at once, side by side: pictures or sounds that were chosen, each with what it was taken for.

import { h, keyed } from "../dom.js";

/** `draw(node, entry)` fills the node of an entry, `{id, name, item}`; `read(files)` makes items; `changed` is told. */
export function tray({ noun, draw, read, changed, complain }) {
  const entries = [];
  let shown = null; // the entry whose answer is shown
  let number = 0;
  let reading = Promise.resolve(); // files that were chosen and are not here yet
  const list = h("ul", { class: "tray", role: "list", hidden: true, "aria-label": "What is asked about" });

  function show() {
    list.hidden = !entries.length;
    keyed(list, entries, (entry) => entry.id, make, (node, entry) => {
      node.querySelector(".pick").setAttribute("aria-pressed", String(entry === shown));
    });
    changed();
  }

  function make(entry) {
    const pick = h("button", {
      type: "button", class: "pick", "aria-label": `Show the answer for ${entry.name}`,
      on: { click: () => ((shown = entry), show()) },
    });
    draw(pick, entry);
    return h("li", {}, pick, h("span", { class: "caption" }),
      h("button", {
        type: "button", class: "remove", "aria-label": `Take ${entry.name} away`, on: { click: () => take(entry) },
      }, h("span", { "aria-hidden": "true" }, "×")));
  }

  function take(entry) {
    const index = entries.indexOf(entry);
    entries.splice(index, 1);
    if (shown === entry) shown = entries[index] ?? entries.at(-1) ?? null;
    show();
    (list.children[index] ?? list.lastElementChild)?.querySelector(".pick").focus();
  }

  function put(items) {
    for (const { name, ...item } of items) {
      number += 1;
      entries.push({ id: number, name: name || `${noun[0]} ${number}`, item });
    }
    shown = entries.at(-1) ?? null;
    show();
  }

  return {
    element: list,
    put,
    read,
    take(files) {
      reading = read(files).then(put).catch((error) => complain(error.message));
      return reading;
    },
    clear() {
      entries.length = 0;
      shown = null;
      show();
    },
    size: () => entries.length,
    async items() {
      await reading;
      return entries.map((entry) => entry.item);
    },
    index: () => entries.indexOf(shown),
    /** Words below each: what it was taken for. */
    caption(words) {
      [...list.children].forEach((node, index) => (node.querySelector(".caption").textContent = words[index] ?? ""));
    },
    keep: () => entries.map((entry) => ({ name: entry.name, ...entry.item })),
    restore: put,
  };
}
