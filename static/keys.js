// ← and → follow the page's own previous and next links, r its random link.

const LINKS = {
  ArrowLeft: 'link[rel="prev"]',
  ArrowRight: 'link[rel="next"]',
  r: 'a[data-key="r"]',
};

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) {
    return;
  }
  // Where arrow keys already mean something (typing, scrolling, walking over tokens) they keep it.
  if (event.target.closest("input, textarea, select, [contenteditable], [tabindex]:not(main)")) {
    return;
  }
  const link = Object.hasOwn(LINKS, event.key) && document.querySelector(LINKS[event.key]);
  if (link) {
    location.assign(link.href);
  }
});
