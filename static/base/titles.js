// Shows any element's title in the page's tip, at once: under the pointer, on focus and on a tap. Tokens
// and charts have scripts of their own, which say more.

import { hideTitle, showTitle } from "./tip.js";

const OTHERS = ".tok, .ramp, svg";

let shown = null;

function hide() {
  if (shown) {
    hideTitle(shown);
  }
  shown = null;
}

function show(target) {
  if (shown?.contains(target)) {
    return; // while it is shown, the element has no title
  }
  hide();
  const spot = target.closest?.("[title]");
  if (spot && !spot.closest(OTHERS)) {
    shown = spot;
    showTitle(spot);
  }
}

addEventListener("pointerover", (event) => event.pointerType === "mouse" && show(event.target));
addEventListener("pointerdown", (event) => event.pointerType !== "mouse" && show(event.target));
addEventListener("focusin", (event) => event.target.matches(":focus-visible") && show(event.target));
addEventListener("focusout", hide);
addEventListener("keydown", (event) => event.key === "Escape" && hide());
addEventListener("scroll", hide, { capture: true, passive: true });
