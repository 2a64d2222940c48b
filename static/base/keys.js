// Keys that follow the page's links: ← → previous and next, ↑ ↓ layers, r random, ? help; and /, which
// opens the go-to box.

const LINKS = {
  ArrowLeft: ['a[rel="prev"]', "←"],
  ArrowRight: ['a[rel="next"]', "→"],
  ArrowUp: ['a[data-key="up"]', "↑"],
  ArrowDown: ['a[data-key="down"]', "↓"],
  r: ['a[data-key="r"]', "r"],
  "?": ['a[data-key="?"]', "?"],
};
const box = document.getElementById("goto");
const field = document.getElementById("to");
const opener = document.querySelector("[popovertarget=goto]");

for (const [key, [selector, sign]] of Object.entries(LINKS)) {
  for (const link of document.querySelectorAll(selector)) {
    const others = link.getAttribute("aria-keyshortcuts");
    link.setAttribute("aria-keyshortcuts", others ? `${others} ${key}` : key);
    link.title = link.title ? `${link.title} ${sign}` : `Key: ${sign}`;
  }
}
field.setAttribute("aria-keyshortcuts", "/");

// In a wide window the box is in the header; in a narrow one it is a popover, which the browser closes
// on Escape and then gives the focus back.
let before = null;

function goTo() {
  if (opener.checkVisibility()) {
    box.showPopover();
    field.focus(); // at once, because the event below comes only after the next key
    field.select();
  } else {
    before = document.activeElement;
    field.focus();
    field.select();
  }
}

box.addEventListener("toggle", (event) => {
  // Text that was typed meanwhile must not be selected: the next key would replace it.
  if (event.newState === "open" && document.activeElement !== field) {
    field.focus();
    field.select();
  }
});

field.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !opener.checkVisibility()) {
    field.blur();
    before?.focus({ preventScroll: true });
    before = null;
  }
});

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) {
    return;
  }
  // On some keyboards / and ? need Shift; other keys with Shift do nothing here.
  if (event.shiftKey && event.key !== "/" && event.key !== "?") {
    return;
  }
  // Keys keep their meaning where they have one: in fields, scrolled regions and whole contexts.
  const taken = "input, textarea, select, [contenteditable], [tabindex]:not(main), dialog";
  if (event.target.closest(taken)) {
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    goTo();
  } else if (Object.hasOwn(LINKS, event.key)) {
    const link = document.querySelector(LINKS[event.key][0]);
    if (link) {
      event.preventDefault();
      link.click();
    }
  }
});
