// The picture of layers and tokens: what a cell's title says, at once, under the pointer or where the
// arrow keys are; and the form, which is sent by the keyboard too. All of it works without this script.

import { say, silence } from "../base/tip.js";

const form = document.querySelector("form.behaviour");
const status = form.querySelector(".status");

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});
form.addEventListener("submit", () => {
  status.textContent = "Reading… (the first text waits until the model is loaded)";
});
addEventListener("pageshow", () => {
  status.textContent = ""; // come back to
});

const region = document.querySelector("[data-walk]");
if (region) {
  walk(region);
}

function walk(region) {
  const rows = [...region.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  let shown = null;
  let said = "";
  let at = [0, 0];

  function spot(cell) {
    return cell?.querySelector("a") ?? cell;
  }

  function hide() {
    if (shown) {
      shown.title = said;
    }
    shown = null;
    silence();
  }

  function show(cell) {
    const target = spot(cell);
    if (target === shown) {
      return;
    }
    hide();
    // Taken off while it is shown, or the browser would show it a second time.
    said = target.title;
    shown = target;
    target.removeAttribute("title");
    say(target.getBoundingClientRect(), said);
  }

  // Hundreds of cells are one stop for the Tab key; inside it the arrow keys walk.
  for (const cell of rows.flat()) {
    spot(cell).tabIndex = -1;
  }

  function focus(row, column) {
    const cell = rows[row]?.[column];
    if (cell) {
      spot(rows[at[0]][at[1]]).tabIndex = -1;
      at = [row, column];
      spot(cell).tabIndex = 0;
      spot(cell).focus();
    }
  }
  spot(rows[0][0]).tabIndex = 0;

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  region.querySelector("tbody").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    if (event.key === "Escape") {
      hide();
    } else if (event.key in STEPS) {
      event.preventDefault();
      event.stopPropagation();
      focus(at[0] + STEPS[event.key][0], at[1] + STEPS[event.key][1]);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      focus(at[0], event.key === "Home" ? 0 : rows[at[0]].length - 1);
    }
  });
  region.addEventListener("focusin", (event) => {
    const cell = event.target.closest("tbody td");
    if (cell && event.target.matches(":focus-visible")) {
      show(cell);
    }
  });
  region.addEventListener("focusout", hide);
  region.addEventListener("pointerover", (event) => {
    const cell = event.target.closest("tbody td");
    if (cell && event.pointerType !== "touch") {
      show(cell);
    } else if (!cell) {
      hide();
    }
  });
  region.addEventListener("pointerleave", hide);
  addEventListener("scroll", () => {
    if (shown && shown === document.activeElement) {
      say(shown.getBoundingClientRect(), said); // the arrow keys moved it into sight
    } else {
      hide();
    }
  }, { capture: true, passive: true });
}
