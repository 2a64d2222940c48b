// A list of chips, statistics or colours is one stop for the Tab key; the arrow keys move inside it.

const ITEMS = "a, abbr, .steps-of-colour > li";

for (const list of document.querySelectorAll("[data-roving]")) {
  const items = [...list.querySelectorAll(ITEMS)];

  const stop = (item) => {
    for (const each of items) {
      each.tabIndex = each === item ? 0 : -1;
    }
  };

  if (items.length === 0) {
    continue;
  }
  stop(items[0]);
  list.addEventListener("focusin", (event) => stop(event.target.closest(ITEMS)));
  list.addEventListener("keydown", (event) => {
    const seen = items.filter((item) => item.checkVisibility());
    const at = seen.indexOf(event.target.closest(ITEMS));
    const to = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: seen.length - 1,
    }[event.key];
    if (at < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    seen[Math.max(0, Math.min(seen.length - 1, to))].focus();
  });
}
