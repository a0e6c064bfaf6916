// Making and keeping elements. Nodes that stay keep their focus: lists are changed, not made anew.

const NARROW = "\u202f"; // between a number and its unit, where no line ends
const SVG = "http://www.w3.org/2000/svg";

/** The element of an id. */
export const $ = (id) => document.getElementById(id);

function dress(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "vars") for (const [key, set] of Object.entries(value)) node.style.setProperty(key, set);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element of HTML: `h("p", {class: "soft", on: {click}}, "text", other)`. */
export const h = (tag, props, ...children) => dress(document.createElement(tag), props, children);

/** One of SVG. */
export const s = (tag, props, ...children) => dress(document.createElementNS(SVG, tag), props, children);

/** Sets a text only where it differs, so that screen readers hear it once. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` those of `items`, one each, in order; a child of a known key is kept and updated.
 * `make(item)` gives a node, `update(node, item, index)` changes it.
 */
export function keyed(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let next = parent.firstElementChild;
  items.forEach((item, index) => {
    const name = String(key(item));
    let node = known.get(name);
    known.delete(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    update?.(node, item, index);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
  });
  for (const node of known.values()) node.remove();
}

/** "1 drawing", "3 drawings". */
export const count = (n, [one, many]) => `${n} ${n === 1 ? one : many}`;

/** "97 %", and never 100 where it is not certain. */
export function percent(p) {
  if (p >= 0.995 && p < 0.9999) return `99${NARROW}%`;
  if (p > 0 && p < 0.005) return `<${NARROW}1${NARROW}%`;
  return `${Math.round(p * 100)}${NARROW}%`;
}

/** Seconds, from milliseconds: "0.04 s". */
export const seconds = (ms) => `${(ms / 1000).toFixed(ms < 100 ? 3 : 2)}${NARROW}s`;

/** Waits, or until `signal` is aborted. */
export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
