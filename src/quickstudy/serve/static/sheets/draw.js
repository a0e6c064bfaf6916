// A sheet to draw on: mouse, finger, pen, or the arrow keys. What is asked and kept is black ink on white paper.

import { base64 } from "../content.js";
import { h } from "../dom.js";

const SIDE = 280; // pixels of what is sent
const INK = 13; // width of a line
const STEP = 12; // of the keyboard's pen; a quarter with Shift
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function paint(context, strokes) {
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  Object.assign(context, { strokeStyle: "#000", lineWidth: INK, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    if (stroke.picture) inside(context, stroke.picture);
    else line(context, stroke);
  }
}

function inside(context, picture) {
  const scale = Math.min(SIDE / picture.width, SIDE / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  context.drawImage(picture, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
}

/** Through the middles of neighbouring points, so that a quick hand draws no corners. */
function line(context, points) {
  context.beginPath();
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i += 1) {
    const [[x, y], [nextX, nextY]] = [points[i], points[i + 1]];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...points.at(-1));
  context.stroke();
}

async function pictureOf(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can show. Choose a PNG or a JPEG.`);
  }
}

async function itemOf(canvas) {
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return { blob, data: { image: await base64(blob) } };
}

/** Files as they would be on the sheet, one each. */
async function read(files) {
  const items = [];
  for (const file of files) {
    const canvas = h("canvas", { width: SIDE, height: SIDE });
    paint(canvas.getContext("2d"), [{ picture: await pictureOf(file) }]);
    items.push(await itemOf(canvas));
  }
  return items;
}

/** `changed(busy)` is told of each change; busy while the pen is down. `announce` says what cannot be seen. */
export function drawSheet({ changed, announce, complain }) {
  const strokes = [];
  let pen = null; // the stroke that is being drawn
  const key = { at: [SIDE / 2, SIDE / 2], down: false };

  const canvas = h("canvas", {
    width: SIDE, height: SIDE, class: "paper drawn", tabindex: 0, role: "application", id: "paper",
    "aria-label": "Sheet to draw on", "aria-describedby": "paper-help", "aria-roledescription": "drawing sheet",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cross = h("span", { class: "cross", "aria-hidden": "true", hidden: true });
  const hint = h("p", { class: "hint", "aria-hidden": "true" }, "Draw here");
  const undoButton = h("button", { type: "button", on: { click: undo } }, "Undo stroke");
  const clearButton = h("button", { type: "button", on: { click: clear } }, "Clear");
  const file = h("input", { type: "file", accept: "image/*", class: "hidden", id: "draw-file", on: { change: chosen } });
  const element = h("div", { class: "draw" },
    h("div", { class: "frame" }, canvas, hint, cross),
    h("div", { class: "tools" }, undoButton, clearButton,
      h("label", { class: "button quiet", for: "draw-file" }, "Use a picture", file)),
    h("p", { id: "paper-help", class: "hidden" },
      "Draw with the arrow keys: the space bar puts the pen down and lifts it, Shift makes small steps, Backspace takes the ",
      "last stroke back, a number adds the drawing to that class. Or use a picture."),
  );

  function show(busy = false) {
    paint(context, strokes);
    hint.hidden = strokes.length > 0;
    undoButton.disabled = clearButton.disabled = strokes.length === 0;
    cross.classList.toggle("down", key.down);
    cross.style.setProperty("--x", key.at[0] / SIDE);
    cross.style.setProperty("--y", key.at[1] / SIDE);
    changed(busy);
  }

  function undo() {
    lift();
    strokes.pop();
    show();
  }

  function clear() {
    lift();
    strokes.length = 0;
    show();
  }

  function lift() {
    pen = null;
    key.down = false;
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * SIDE) / box.width, ((event.clientY - box.top) * SIDE) / box.height];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || pen) return;
    canvas.setPointerCapture(event.pointerId);
    key.down = false;
    cross.hidden = true;
    pen = { id: event.pointerId, points: [place(event)] };
    strokes.push(pen.points);
    show(true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen?.id) return;
    const every = event.getCoalescedEvents?.() ?? [];
    for (const one of every.length ? every : [event]) pen.points.push(place(one));
    show(true);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId !== pen?.id) return;
      pen = null;
      show();
    });
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) move(ARROWS[event.key], event.shiftKey ? STEP / 4 : STEP);
    else if (event.key === " ") press();
    else if (event.key === "Backspace" && strokes.length) undo();
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("focus", () => (cross.hidden = !canvas.matches(":focus-visible")));
  canvas.addEventListener("blur", () => {
    cross.hidden = true;
    if (key.down) press();
  });

  function move([x, y], step) {
    cross.hidden = false;
    key.at = [x, y].map((d, axis) => Math.min(SIDE - INK, Math.max(INK, key.at[axis] + d * step)));
    if (key.down) strokes.at(-1).push([...key.at]);
    show(key.down);
  }

  function press() {
    key.down = !key.down;
    if (key.down) strokes.push([[...key.at]]);
    announce(key.down ? "Pen down" : "Pen up");
    show(key.down);
  }

  async function chosen() {
    const [picked] = file.files;
    file.value = "";
    if (picked) await take([picked]);
  }

  async function take(files) {
    try {
      const picture = await pictureOf(files[0]);
      lift();
      strokes.push({ picture });
      show();
    } catch (error) {
      complain(error.message);
    }
  }

  show();
  return {
    element, clear, take, undo, read,
    items: async () => (strokes.length ? [await itemOf(canvas)] : []),
    accepts: (type) => type.startsWith("image/"),
    size: () => Math.min(1, strokes.length),
    canUndo: () => strokes.length > 0,
    focus: () => canvas.focus(),
    keep: () => [...strokes],
    restore: (kept) => (strokes.push(...kept), show()),
  };
}
