// The one tip of a page: it says at once what a title would say after a while, and is read out.

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("role", "status");
tip.hidden = true;
document.body.append(tip);

// Above a box of the window, or below it where there is no room.
export function say(box, ...parts) {
  tip.replaceChildren(...parts);
  tip.hidden = false;
  const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(8, Math.min(box.left, room))}px`;
  tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
}

export function silence() {
  tip.hidden = true;
}
