// What went wrong, in a sentence, until it is put away; and what is said to those who listen.

import { connection, whenKeyIsWanted } from "./api.js";
import { $, h, say } from "./dom.js";

const LOST = "The service cannot be reached. What you made is kept here; it is sent as soon as the service is back.";

/** Says something to screen readers alone. */
export function announce(words) {
  say($("status"), words);
}

/** Shows a sentence; one of the same words is not shown twice. */
export function complain(sentence) {
  const box = $("notices");
  if ([...box.children].some((node) => node.dataset.words === sentence)) return;
  const node = h("div", { class: "notice" }, h("p", {}, sentence),
    h("button", { type: "button", class: "round", "aria-label": "Put away", on: { click: () => node.remove() } },
      h("span", { "aria-hidden": "true" }, "×")));
  node.dataset.words = sentence;
  box.append(node);
}

/** The sentences of an earlier try are no longer true. */
export const clearNotices = () => [...$("notices").querySelectorAll(".notice:not(.lost)")].forEach((node) => node.remove());

/** What a promise fails with is shown. */
export const report = (promise) => promise.catch((error) => error.name !== "AbortError" && complain(error.message));

export function watchConnection() {
  const lost = h("div", { class: "notice lost" }, h("p", {}),
    h("button", { type: "button", on: { click: () => connection.tryNow() } }, "Try now"));
  connection.addEventListener("lost", ({ detail }) => {
    say(lost.querySelector("p"), detail || LOST);
    $("notices").append(lost);
  });
  connection.addEventListener("back", () => {
    lost.remove();
    announce("The service is back.");
  });
}

export function askForKeys() {
  whenKeyIsWanted((why) => new Promise((resolve) => {
    const dialog = $("key");
    const form = $("key-form");
    say($("key-why"), why);
    $("key-field").value = "";
    dialog.showModal();
    form.onsubmit = (event) => {
      event.preventDefault(); // a strict policy lets no form be sent, not even to its dialog
      resolve($("key-field").value.trim());
      dialog.close();
    };
    dialog.onclose = () => resolve(null); // unless there is a key
  }));
}
