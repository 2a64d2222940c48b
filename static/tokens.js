// What a token's title says, at once: under the pointer, and with the arrow keys in an open context.
// The titles are the source, so that nothing is lost without this script.

const TOKEN = ".tok [title]";
const LONGEST = 60;

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

let shown = null;

function hide() {
  if (shown) {
    shown.title = shown.dataset.title;
    delete shown.dataset.title;
    shown.classList.remove("at");
    if (!shown.classList.length) {
      shown.removeAttribute("class");
    }
  }
  shown = null;
  tip.hidden = true;
}

function show(token) {
  if (token === shown) {
    return;
  }
  hide();
  shown = token;
  const text = document.createElement("b");
  const characters = [...token.textContent.replaceAll("\n", "")];
  text.textContent = characters.slice(0, LONGEST).join("") + (characters.length > LONGEST ? "…" : "");
  tip.replaceChildren(text, ` ${token.title}`);
  // Taken off while it is shown, or the browser would show it a second time.
  token.dataset.title = token.title;
  token.removeAttribute("title");
  token.classList.add("at");
  tip.hidden = false;
  const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
}

addEventListener("pointerover", (event) => {
  const token = event.target.closest(`${TOKEN}, .tok .at`);
  if (token) {
    show(token);
  } else {
    hide();
  }
});
addEventListener("scroll", hide, { capture: true, passive: true });

// An open context is one stop for the Tab key; inside it the arrow keys walk from token to token.
for (const context of document.querySelectorAll(".whole .tok")) {
  context.tabIndex = 0;
  context.setAttribute("role", "group");
  context.setAttribute("aria-label", "Context; arrow keys read out tokens");
}

addEventListener("keydown", (event) => {
  const context = event.target.closest(".whole .tok");
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
