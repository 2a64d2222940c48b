// The page's one tip: it shows a title at once rather than after a while, and is read out.

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

// Above a box of the window, or below it where there is no room above.
export function place(box) {
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
}

export function say(box, ...parts) {
  tip.replaceChildren(...parts);
  tip.hidden = false;
  place(box);
}

export function silence() {
  tip.hidden = true;
}

let titled = null;
let title = "";

// While the tip shows an element's title the element has none, or the browser would show it as well.
export function showTitle(element, parts = (text) => [text]) {
  hideTitle();
  titled = element;
  title = element.title;
  element.removeAttribute("title");
  say(element.getClientRects()[0] ?? element.getBoundingClientRect(), ...parts(title));
}

// Nothing happens if the tip has gone on to another element than `of`.
export function hideTitle(of = titled) {
  if (of !== titled) {
    return;
  }
  if (titled) {
    titled.title = title;
  }
  titled = null;
  silence();
}
