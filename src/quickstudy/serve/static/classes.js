// The classes and their examples: to look at, to rename, to remove, to drop files on.

import { $, count, h, keyed, say } from "./dom.js";
import { face } from "./face.js";
import { MODES } from "./modes.js";
import { clearNotices } from "./notices.js";
import { addClass, classes, colourOf, MOST_CLASSES, numberOf, state } from "./state.js";
import { drop, dropClass, rename } from "./undo.js";

/** A name as the service keeps it. */
const nameOf = (field) => field.value.trim().normalize("NFC");

/** `act(promise)` reports what fails; `teachFiles(label, files)`; `teachSheet(label)` adds what is on the sheet. */
export function setUpClasses({ act, teachFiles, teachSheet, complain }) {
  const form = $("new-class");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = $("new-label");
    const label = nameOf(field);
    if (!label) return field.focus();
    const why = addClass(label);
    if (why) return complain(why);
    field.value = "";
    teachSheet(label, { needed: false });
  });

  function chip(label) {
    return h("li", {}, h("button", { type: "button", class: "chip", on: { click: () => teachSheet(label, { needed: true }) } },
      h("span", { class: "number", "aria-hidden": "true" }), h("span", { class: "name", title: label }, label)));
  }

  function card(label) {
    const title = h("h3", {}, h("span", { class: "number", "aria-hidden": "true" }), h("span", { class: "name", title: label }, label));
    const field = h("input", { maxlength: 60, "aria-label": `New name of ${label}`, hidden: true });
    const renameButton = h("button", { type: "button", class: "quiet", "aria-label": `Rename ${label}` }, "Rename");
    const node = h("li", { class: "card" },
      h("div", { class: "card-head" }, title, field, renameButton,
        h("button", {
          type: "button", class: "quiet", "aria-label": `Remove ${label}`,
          on: { click: () => removed(node, () => dropClass(label)) },
        }, "Remove")),
      h("p", { class: "soft amount" }), h("ul", { class: "faces", role: "list" }));
    renaming({ label, title, field, renameButton });
    accept(node, label);
    return node;
  }

  function renaming({ label, title, field, renameButton }) {
    let open = false;
    const show = (now) => {
      open = now;
      title.hidden = now;
      field.hidden = !now;
    };
    const end = (save) => {
      if (!open) return;
      show(false);
      const name = nameOf(field);
      clearNotices();
      if (!save || !name || name === label) return;
      if (classes().includes(name)) return complain(`There is a class ${name} already. Choose another name.`);
      act(rename(label, name));
    };
    renameButton.addEventListener("click", () => {
      field.value = label;
      show(true);
      field.select();
    });
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      end(event.key === "Enter");
      renameButton.focus();
    });
  }

  function accept(node, label) {
    node.addEventListener("dragover", (event) => {
      event.preventDefault();
      event.stopPropagation();
      node.classList.add("over");
    });
    node.addEventListener("dragleave", () => node.classList.remove("over"));
    node.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      node.classList.remove("over");
      teachFiles(label, [...event.dataTransfer.files]);
    });
  }

  /** Focus goes on to a neighbour of what is removed, not to the top of the page. */
  function removed(node, act_) {
    const next = node.nextElementSibling ?? node.previousElementSibling;
    const inside = node.contains(document.activeElement);
    act(act_().then(() => {
      if (inside && !node.isConnected) (next?.querySelector("button") ?? $("new-label")).focus();
    }));
  }

  function small(example) {
    const [one] = MODES[state.mode].noun;
    const node = h("li", {}, face(example, `a ${one} of ${example.label}`), h("button", {
      type: "button", class: "remove", "aria-label": `Remove this ${one} of ${example.label}`,
      on: { click: () => removed(node, () => drop(state.examples.find(({ id }) => id === node.dataset.key))) },
    }, h("span", { "aria-hidden": "true" }, "×")));
    return node;
  }

  return function show() {
    const all = classes();
    keyed($("chips"), all, (label) => label, chip, (node, label) => {
      node.style.setProperty("--colour", colourOf(label));
      say(node.querySelector(".number"), String(numberOf(label)));
    });
    $("new-class").hidden = all.length >= MOST_CLASSES;
    $("classes-empty").hidden = all.length > 0;
    keyed($("classes"), all, (label) => label, card, (node, label) => {
      const mine = state.examples.filter((example) => example.label === label);
      node.style.setProperty("--colour", colourOf(label));
      say(node.querySelector(".number"), String(numberOf(label)));
      const amount = node.querySelector(".amount");
      say(amount, mine.length ? count(mine.length, MODES[state.mode].noun) : "No example yet.");
      amount.classList.toggle("hidden", mine.length > 0);
      keyed(node.querySelector(".faces"), mine, (example) => example.id, small, (item, example) => {
        item.classList.toggle("pending", Boolean(example.pending));
        item.querySelector(".remove").disabled = Boolean(example.pending);
      });
    });
  };
}
