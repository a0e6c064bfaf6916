// The list of tasks: open one, begin another, rename, export, import, delete.

import { service } from "./api.js";
import { $, count, h, keyed, say } from "./dom.js";
import { MODES } from "./modes.js";
import { leave, open, shownAs, state } from "./state.js";

const list = { tasks: [], next: null };
let complain = () => {};

/** `announce(words)` is for those who listen. */
export function setUpTasks({ announce }) {
  const dialog = $("tasks");
  complain = (error) => say($("tasks-notice"), error?.message ?? "");
  const attempt = (act) => async (event) => {
    complain(null);
    try {
      await act(event);
    } catch (error) {
      complain(error);
    }
  };
  $("open-tasks").addEventListener("click", attempt(async () => {
    dialog.showModal();
    await read();
  }));
  $("close-tasks").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  $("more-tasks").addEventListener("click", attempt(() => read(list.next)));
  $("new-task").addEventListener("click", attempt(async () => {
    await open(null, { mode: state.mode, fresh: true });
    dialog.close();
    announce("A new task. Choose what its examples are.");
    document.querySelector("#modes input:checked").focus();
  }));
  $("import-file").addEventListener("change", attempt(async ({ target }) => {
    const [zip] = target.files;
    target.value = "";
    if (!zip) return;
    const task = await service.import(zip);
    await open(task.id);
    dialog.close();
    announce(`${task.name} is imported.`);
  }));

  async function read(after = null) {
    const page = await service.tasks(after);
    list.tasks = after ? [...list.tasks, ...page.tasks] : page.tasks;
    list.next = page.next;
    show();
  }

  function show() {
    $("more-tasks").hidden = !list.next;
    keyed($("task-list"), list.tasks, ({ id }) => id, row, (node, task) => {
      say(node.querySelector(".name"), task.name || "Without a name");
      say(node.querySelector(".about"), about(task));
      node.classList.toggle("current", task.id === state.task?.id);
      node.querySelector(".open").setAttribute("aria-current", String(task.id === state.task?.id));
    });
    if (!list.tasks.length) say($("tasks-notice"), "No task yet. One begins with its first example.");
  }

  const found = (id) => list.tasks.find((task) => task.id === id);

  function row({ id }) {
    const main = h("button", { type: "button", class: "open", on: { click: attempt(go) } },
      h("span", { class: "name" }), h("span", { class: "about soft" }));
    const field = h("input", { "aria-label": "New name", maxlength: 100, hidden: true });
    const sure = h("div", { class: "sure", hidden: true });
    const tools = h("div", { class: "row-tools" },
      h("button", { type: "button", class: "quiet", on: { click: begin } }, "Rename"),
      h("button", { type: "button", class: "quiet", on: { click: attempt(save) } }, "Export"),
      h("button", { type: "button", class: "quiet danger", on: { click: ask } }, "Delete"));
    const node = h("li", {}, main, field, tools, sure);

    async function go() {
      await open(id);
      dialog.close();
    }

    function begin() {
      [field.hidden, main.hidden] = [false, true];
      field.value = found(id).name;
      field.select();
    }

    const end = attempt(async (keep) => {
      if (field.hidden) return;
      [field.hidden, main.hidden] = [true, false];
      const name = field.value.trim();
      if (keep !== true || !name || name === found(id).name) return;
      const task = await service.change(id, { name });
      list.tasks = list.tasks.map((one) => (one.id === id ? task : one));
      show();
      if (id === state.task?.id) await open(id);
    });
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      end(event.key === "Enter");
      tools.firstElementChild.focus();
    });

    async function save() {
      const url = URL.createObjectURL(await service.export(id));
      const link = h("a", { href: url, download: `${fileName(found(id).name)}.zip` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      announce(`${found(id).name} is exported.`);
    }

    function ask() {
      const task = found(id);
      const keep = h("button", { type: "button", on: { click: () => ((sure.hidden = true), tools.lastElementChild.focus()) } }, "Keep it");
      sure.replaceChildren(
        h("span", {}, `Delete ${task.name} and its ${count(task.examples, ["example", "examples"])} for good?`),
        h("button", { type: "button", class: "danger main", on: { click: attempt(discard) } }, "Delete"), keep);
      sure.hidden = false;
      keep.focus();
    }

    async function discard() {
      const { name } = found(id);
      const current = id === state.task?.id;
      if (current) leave();
      try {
        await service.discard(id);
      } catch (error) {
        if (current) await open(id);
        throw error;
      }
      list.tasks = list.tasks.filter((task) => task.id !== id);
      show();
      if (current) await open(null, { mode: state.mode, fresh: true });
      announce(`${name} is deleted.`);
      $("new-task").focus();
    }
    return node;
  }
}

const fileName = (name) => name.replace(/[^\p{L}\p{N} _.-]+/gu, "-").trim() || "task";

function about(task) {
  if (!task.kind) return "empty";
  const noun = task.kind === "rows" ? ["row", "rows"] : MODES[shownAs(task)].noun;
  return `${count(task.examples, noun)} · ${count(task.classes.length, ["class", "classes"])}`;
}
