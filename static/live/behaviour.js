// The picture of layers and tokens: shows a cell's title at once, under the pointer or where the arrow
// keys are. And the form, which the keyboard can send. The page works without this script too.

import { hideTitle, place, showTitle } from "../base/tip.js";
import { pageForm } from "./form.js";

pageForm(document.querySelector("form.behaviour"));

const region = document.querySelector("[data-walk]");
if (region) {
  walk(region);
}

function walk(region) {
  const rows = [...region.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  let shown = null;
  let at = [0, 0];

  function spot(cell) {
    return cell?.querySelector("a") ?? cell;
  }

  function hide() {
    shown = null;
    hideTitle();
  }

  function show(cell) {
    const target = spot(cell);
    if (target === shown) {
      return;
    }
    shown = target;
    showTitle(target);
  }

  // Hundreds of cells are one stop for the Tab key; the arrow keys move inside it.
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
      place(shown.getBoundingClientRect()); // the arrow keys scrolled it into view
    } else {
      hide();
    }
  }, { capture: true, passive: true });
}
