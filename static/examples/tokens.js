// Shows a token's title at once: under the pointer, and by arrow keys inside a whole context. The
// steps of the colour scale do the same. Without this script the titles are there all the same.

import { hideTitle, showTitle } from "../base/tip.js";

const SPOT = ":is(.tok, .ramp) :is([title], .at)";
const CONTEXT = ".whole .tok";

let shown = null;

function hide() {
  if (shown) {
    hideTitle(shown);
    shown.classList.remove("at");
    if (!shown.classList.length) {
      shown.removeAttribute("class");
    }
  }
  shown = null;
}

const LONGEST = 60;

function parts(spot, title) {
  // A step of the scale has no text; the title of tokens that share a span names them.
  if (!spot.textContent || title.includes(" tokens together, ")) {
    return [title];
  }
  const text = document.createElement("b");
  const characters = [...spot.textContent.replaceAll("\n", "")];
  const start = characters.slice(0, LONGEST).join("") + (characters.length > LONGEST ? "…" : "");
  text.textContent = start.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  // Titles are short because a page has thousands of them; the tip has room for whole words.
  return [text, ` ${title.replace(/, at (\d+), id (\d+)$/, " · position $1 · id $2")}`];
}

function show(spot) {
  if (spot === shown) {
    return;
  }
  hide();
  shown = spot;
  spot.classList.add("at");
  showTitle(spot, (title) => parts(spot, title));
}

// To keep pages small, a token in a line has a short title, with value and id; a token without colour
// has no element but a comment in front of it with the same words. They are expanded when the pointer
// comes to the line: position and share of the neuron's maximum are added, as in a whole context.
const BRIEF = /^(.*), id (\d+)$/;
const SEVERAL = /^(\d+) tokens together, /;
const FULL = /, at \d+, id \d+$/;

function share(value, { max, min }) {
  const number = Number(value.replaceAll("−", "-").replaceAll(",", ""));
  if (Number.isNaN(number)) {
    return ""; // words: the position is not included, or its activation is not stored
  }
  const end = number < 0 ? -min : Number(max);
  const percent = end > 0 ? Math.min(100, Math.round((100 * Math.abs(number)) / end)) : 0;
  return `, ${percent}% of ${number < 0 ? "min" : "max"}`;
}

function expand(line) {
  const ends = line.closest("[data-max]").dataset;
  let at = Number(line.dataset.at);
  delete line.dataset.at;

  function full(brief) {
    const [, value, id] = BRIEF.exec(brief);
    return `${value}${share(value, ends)}, at ${at++}, id ${id}`;
  }

  function walk(parent) {
    let open = null;
    for (const node of [...parent.childNodes]) {
      if (node instanceof Comment) {
        open = document.createElement("span");
        open.title = full(node.data);
        node.replaceWith(open);
      } else if (node instanceof Element && node.title) {
        open = null;
        const several = SEVERAL.exec(node.title);
        if (several) {
          at += Number(several[1]);
        } else if (FULL.test(node.title)) {
          at += 1;
        } else {
          node.title = full(node.title);
        }
      } else if (open) {
        open.append(node);
      } else {
        walk(node);
      }
    }
  }

  walk(line);
}

addEventListener("pointerover", (event) => {
  let target = event.target;
  const line = target.closest(".tok[data-at]");
  if (line) {
    expand(line);
    target = document.elementFromPoint(event.clientX, event.clientY) ?? target;
  }
  const spot = target.closest(SPOT);
  if (spot) {
    show(spot);
  } else if (shown) {
    hide();
  }
});
addEventListener("scroll", () => shown && hide(), { capture: true, passive: true });

// A whole context is one stop for the Tab key; inside it the arrow keys move from token to token.
// A script that adds one to the page sends the event "whole".
function walkable(root) {
  for (const context of root.querySelectorAll(CONTEXT)) {
    context.tabIndex = 0;
    context.setAttribute("role", "group");
    context.setAttribute("aria-description", "Arrow keys read out tokens");
  }
}
walkable(document);
addEventListener("whole", (event) => walkable(event.target));

addEventListener("keydown", (event) => {
  const context = event.target.closest(CONTEXT);
  if (event.key === "Escape") {
    hide();
  }
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!context || !by || event.altKey || event.ctrlKey || event.metaKey) {
    return;
  }
  event.preventDefault();
  const tokens = [...context.querySelectorAll("[title], .at")];
  const at = tokens.indexOf(shown);
  const from = at < 0 ? tokens.findIndex((token) => token.classList.contains("k")) - by : at;
  const token = tokens[Math.max(0, Math.min(tokens.length - 1, from + by))];
  token?.scrollIntoView({ block: "nearest" });
  if (token) {
    show(token);
  }
});
// Only where the focus leaves the token: it may leave the line that was just opened.
addEventListener("focusout", (event) => {
  if (shown && event.target.contains(shown)) {
    hide();
  }
});
