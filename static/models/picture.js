// A layer's picture: shows a cell's title at once, under the pointer or where the arrow keys are.
// The titles are the source, so nothing is lost without this script.

import { say, silence } from "../base/tip.js";

const grid = document.querySelector(".picture .grid");
const picture = grid.querySelector("svg");
const cells = [...picture.querySelectorAll("a")];
const columns = Number(picture.dataset.columns);
const rows = new Map();
for (const link of document.querySelectorAll(".neurons .name")) {
  rows.set(link.textContent, link.closest("tr"));
}

let shown = null;
let cursor = 0;

// "12 · token · 3.45" → number, token, value; a token can hold anything, also the separator.
function parts(title) {
  const first = title.indexOf(" · ");
  const last = title.lastIndexOf(" · ");
  return [title.slice(0, first), title.slice(first + 3, last), title.slice(last + 3)];
}

function row() {
  return shown && rows.get(parts(shown.dataset.title)[0]);
}

function hide() {
  if (shown) {
    row()?.classList.remove("here");
    const title = document.createElementNS(picture.namespaceURI, "title");
    title.textContent = shown.dataset.title;
    shown.prepend(title);
    delete shown.dataset.title;
    shown.classList.remove("at");
  }
  shown = null;
  silence();
}

function show(cell) {
  if (cell === shown) {
    return;
  }
  hide();
  shown = cell;
  cursor = cells.indexOf(cell);
  // Removed while the tip shows it, or the browser would show it as well.
  const title = cell.querySelector("title");
  cell.dataset.title = title.textContent;
  title.remove();
  cell.classList.add("at");
  row()?.classList.add("here");
  const [number, token, value] = parts(cell.dataset.title);
  const text = document.createElement("b");
  text.textContent = token;
  const box = cell.getBoundingClientRect();
  say(box, `${picture.dataset.noun} ${number} `, text, ` ${picture.dataset.stat} ${value}`);
}

addEventListener("pointerover", (event) => {
  const cell = event.target.closest(".grid a");
  if (cell) {
    if (event.pointerType !== "touch") {
      show(cell);
    }
  } else if (event.target !== picture) {
    hide(); // between two cells the tip stays
  }
});
addEventListener("scroll", hide, { capture: true, passive: true });

// A finger cannot hover, and cells are small: the first tap names a cell, the second opens it.
let touched = null;
grid.addEventListener("pointerdown", (event) => {
  touched = event.pointerType === "touch" ? { was: shown } : null;
}, { capture: true });
grid.addEventListener("click", (event) => {
  const cell = event.target.closest("a");
  if (cell && touched && touched.was !== cell) {
    event.preventDefault();
    show(cell);
  }
  touched = null;
});

// The picture is one stop for the Tab key; inside it the arrow keys move from cell to cell.
grid.tabIndex = 0;
grid.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown Home End Enter");

const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };

grid.addEventListener("focus", () => {
  if (grid.matches(":focus-visible") && cells.length) {
    show(cells[cursor]);
  }
});
grid.addEventListener("focusout", hide);
grid.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || !cells.length) {
    return;
  }
  if (event.key === "Escape") {
    hide();
  } else if (event.key === "Enter") {
    cells[cursor].querySelector("path").dispatchEvent(new MouseEvent("click", { bubbles: true }));
  } else if (event.key in STEPS || event.key === "Home" || event.key === "End") {
    event.preventDefault();
    const to = { Home: 0, End: cells.length - 1 }[event.key] ?? cursor + STEPS[event.key];
    // The first key shows where the cursor is; no step leaves the picture.
    const next = shown && cells[to] ? to : cursor;
    cells[next].scrollIntoView({ block: "nearest" });
    show(cells[next]);
  }
});
