// ← and → follow the page's own previous and next links, r its random link.

const LINKS = {
  ArrowLeft: ['a[rel="prev"]', "←"],
  ArrowRight: ['a[rel="next"]', "→"],
  r: ['a[data-key="r"]', "r"],
};

for (const [key, [selector, sign]] of Object.entries(LINKS)) {
  for (const link of document.querySelectorAll(selector)) {
    link.setAttribute("aria-keyshortcuts", key);
    link.title = `Key: ${sign}`;
  }
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) {
    return;
  }
  // Where arrow keys already mean something (typing, scrolling, walking over tokens) they keep it.
  if (event.target.closest("input, textarea, select, [contenteditable], [tabindex]:not(main)")) {
    return;
  }
  if (Object.hasOwn(LINKS, event.key)) {
    document.querySelector(LINKS[event.key][0])?.click();
  }
});
