// Shows any element's title in the page's tip, at once: under the pointer, on focus and on a tap. Also the
// <title> of a part of a picture. Tokens and charts have scripts of their own, which say more.

import { hideTitle, say, showTitle, silence } from "./tip.js";

const OTHERS = ".tok, .ramp, svg";

let shown = null;
const parts = new WeakMap(); // what parts of pictures say
let part = null;

// The part of a picture with a <title>, which is removed: or the browser would show it as well.
function partOf(target) {
  for (let at = target; at instanceof SVGElement && at.localName !== "svg"; at = at.parentElement) {
    const title = [...at.children].find((child) => child.localName === "title");
    if (title) {
      parts.set(at, title.textContent);
      if (at.localName === "a") {
        at.setAttribute("aria-label", title.textContent);
      }
      title.remove();
    }
    if (parts.has(at)) {
      return at;
    }
  }
  return null;
}

function hide() {
  if (shown) {
    hideTitle(shown);
  }
  if (part) {
    silence();
  }
  part = null;
  shown = null;
}

function show(target) {
  if (shown?.contains(target)) {
    return; // while it is shown, the element has no title
  }
  const over = target.closest?.("svg:not([data-bins], [data-columns])") ? partOf(target) : null;
  if (over && over === part) {
    return;
  }
  hide();
  if (over) {
    part = over;
    say(over.getBoundingClientRect(), parts.get(over));
    return;
  }
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
