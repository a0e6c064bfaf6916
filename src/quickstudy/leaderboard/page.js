"use strict";
(() => {
  const form = document.getElementById("filters");
  const sections = [...document.querySelectorAll("section[data-data]")];
  const rowsOf = (part) => [...part.querySelectorAll("tr[data-learner]")];

  const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

  // --- filters: what is chosen stands in the address, so that it can be sent to somebody ---
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, tasks = 0;
    for (const section of sections) {
      const fits = ["data", "way", "shot"].every((name) => !wanted[name] || section.dataset[name] === wanted[name]);
      const title = ["h2", "thead [data-by=mean]"].map((part) => section.querySelector(part).textContent).join(" ").toLowerCase();
      let here = 0;
      for (const body of section.querySelectorAll(".board tbody")) {
        let inBody = 0;
        for (const row of rowsOf(body)) {
          const text = `${title} ${row.textContent.toLowerCase()}`;
          row.hidden = !(fits && (!wanted.setting || row.dataset.setting === wanted.setting)
            && (!wanted.learner || row.dataset.learner === wanted.learner) && words.every((word) => text.includes(word)));
          inBody += !row.hidden;
        }
        body.hidden = inBody === 0;
        here += inBody;
      }
      section.hidden = here === 0;
      shown += here;
      tasks += here > 0;
    }
    document.getElementById("shown").textContent = `${counted(shown, "row")} of ${counted(tasks, "task")}`;
    document.getElementById("none").hidden = shown > 0;
    const kept = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    history.replaceState(null, "", `#${kept}`);
  };

  // --- sorting: each part of a table by itself, so that published figures never stand among measured ones ---
  const numeric = new Set(["rank", "mean", "percentile", "worst", "calibration", "cost", "energy", "episodes", "seeds"]);
  const value = (row, column, by) => {
    const cell = row.children[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    if (!numeric.has(by)) return text.toLowerCase();
    const found = { inf: Infinity, "-inf": -Infinity }[text] ?? parseFloat(text);
    return text === "" ? NaN : found;
  };
  const compare = (a, b) => {
    const missing = [a, b].map((one) => one === "" || Number.isNaN(one));
    if (missing[0] || missing[1]) return (missing[0] - missing[1]) * 2; // last in both directions
    return a < b ? -1 : a > b ? 1 : 0;
  };
  const sort = (section, by, down) => {
    const heads = [...section.querySelectorAll(".board thead th")];
    const column = heads.findIndex((head) => head.dataset.by === by);
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    for (const body of section.querySelectorAll(".board tbody")) {
      const keyed = rowsOf(body).map((row, place) => ({ row, place, key: value(row, column, by) }));
      keyed.sort((a, b) => {
        const order = compare(a.key, b.key);
        return Math.abs(order) === 2 ? order : (down ? -order : order) || a.place - b.place;
      });
      body.append(...keyed.map((one) => one.row));
    }
  };
  for (const section of sections) {
    for (const head of section.querySelectorAll(".board thead th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const by = head.dataset.by;
        const first = by === "worst" || (["mean", "percentile"].includes(by) && section.dataset.better === "larger");
        const before = head.getAttribute("aria-sort");
        sort(section, by, before ? before === "ascending" : first);
      });
    }
  }

  const read = () => {
    form.reset();
    for (const [name, wanted] of new URLSearchParams(location.hash.slice(1))) {
      if (form.elements[name]) form.elements[name].value = wanted;
    }
  };
  read();
  window.addEventListener("hashchange", () => { read(); filter(); }); // an address that was sent, in a page that is open
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
})();
