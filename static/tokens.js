// What a token's title says, at once: under the pointer, and with the arrow keys in a whole context.
// So also for the bins of charts. The titles are the source: nothing is lost without this script.

const SPOT = ".tok [title], .tok .at, .chart :is(.columns rect, .band, .tops)";
const CONTEXT = ".whole .tok";

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

let shown = null;
let said = "";

function hide() {
  if (shown) {
    // Taken off while it is shown, or the browser would show it a second time.
    const inside = shown.querySelector(":scope > title");
    if (inside) {
      inside.textContent = said;
    } else {
      shown.title = said;
    }
    shown.classList.remove("at");
    if (!shown.classList.length) {
      shown.removeAttribute("class");
    }
  }
  shown = null;
  tip.hidden = true;
}

const LONGEST = 60;

function parts(spot, title) {
  // A bin of a chart has no text of its own, and tokens that share a span are named in its title.
  if (spot instanceof SVGElement || title.includes(" tokens together, ")) {
    return [title];
  }
  const text = document.createElement("b");
  const characters = [...spot.textContent.replaceAll("\n", "")];
  const shown = characters.slice(0, LONGEST).join("") + (characters.length > LONGEST ? "…" : "");
  text.textContent = shown.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
  // Titles are short, as a page has thousands of them; here is room for whole words.
  return [text, ` ${title.replace(/, at (\d+), id (\d+)$/, " · position $1 · id $2")}`];
}

function show(spot) {
  if (spot === shown) {
    return;
  }
  hide();
  const inside = spot.querySelector(":scope > title");
  said = inside ? inside.textContent : spot.title;
  shown = spot;
  tip.replaceChildren(...parts(spot, said));
  if (inside) {
    inside.textContent = "";
  } else {
    spot.removeAttribute("title");
  }
  spot.classList.add("at");
  tip.hidden = false;
  const box = spot.getClientRects()[0] ?? spot.getBoundingClientRect();
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
}

addEventListener("pointerover", (event) => {
  const spot = event.target.closest(SPOT);
  if (spot) {
    show(spot);
  } else {
    hide();
  }
});
addEventListener("scroll", hide, { capture: true, passive: true });

// A whole context is one stop for the Tab key; inside it the arrow keys walk from token to token.
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
// Focus that leaves something else, such as the line that was just opened, says nothing of the token.
addEventListener("focusout", (event) => {
  if (shown && event.target.contains(shown)) {
    hide();
  }
});
