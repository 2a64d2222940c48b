// A layer's picture: what a cell's title says, at once, under the pointer or where the arrow keys are.
// The titles are the source, so that nothing is lost without this script.

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

// "12 · token · 3.45" → number, token, value; a token can hold anything, also what parts them.
function parts(said) {
  const first = said.indexOf(" · ");
  const last = said.lastIndexOf(" · ");
  return [said.slice(0, first), said.slice(first + 3, last), said.slice(last + 3)];
}

function row() {
  return shown && rows.get(parts(shown.dataset.said)[0]);
}

function hide() {
  if (shown) {
    row()?.classList.remove("here");
    const title = document.createElementNS(picture.namespaceURI, "title");
    title.textContent = shown.dataset.said;
    shown.prepend(title);
    delete shown.dataset.said;
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
  // Taken off while it is shown, or the browser would show it a second time.
  const title = cell.querySelector("title");
  cell.dataset.said = title.textContent;
  title.remove();
  cell.classList.add("at");
  row()?.classList.add("here");
  const [number, token, value] = parts(cell.dataset.said);
  const text = document.createElement("b");
  text.textContent = token;
  const box = cell.getBoundingClientRect();
  say(box, `neuron ${number} `, text, ` ${picture.dataset.stat} ${value}`);
}

addEventListener("pointerover", (event) => {
  const cell = event.target.closest(".grid a");
  if (cell) {
    if (event.pointerType !== "touch") {
      show(cell);
    }
  } else if (event.target !== picture) {
    hide(); // between two cells the last one stays
  }
});
addEventListener("scroll", hide, { capture: true, passive: true });

// A finger cannot hover, and cells are small: the first tap names one, the second opens it.
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

// The picture is one stop for the Tab key; inside it the arrow keys walk from cell to cell.
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
