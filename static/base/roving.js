// A list of chips, statistics, colours or explained numbers is one stop for the Tab key; the arrow keys
// move inside it. The value of data-roving, if any, is the selector of its items.

const ITEMS = "a, abbr, .steps-of-colour > li";

function rove(list) {
  const items = [...list.querySelectorAll(list.dataset.roving || ITEMS)];
  // The tip takes an element's title while it shows it, so an item may no longer match.
  const at = (target) => items.findIndex((item) => item.contains(target));

  const stop = (item) => {
    for (const each of items) {
      each.tabIndex = each === item ? 0 : -1;
    }
  };

  if (items.length === 0) {
    return;
  }
  stop(items.find((item) => item.ariaCurrent) ?? items[0]);
  list.addEventListener("focusin", (event) => {
    if (at(event.target) >= 0) {
      stop(items[at(event.target)]);
    }
  });
  list.addEventListener("keydown", (event) => {
    const seen = items.filter((item) => item.checkVisibility());
    const from = seen.indexOf(items[at(event.target)]);
    const to = {
      ArrowRight: from + 1,
      ArrowDown: from + 1,
      ArrowLeft: from - 1,
      ArrowUp: from - 1,
      Home: 0,
      End: seen.length - 1,
    }[event.key];
    if (from < 0 || to === undefined || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    seen[Math.max(0, Math.min(seen.length - 1, to))].focus();
  });
}

function roveIn(root) {
  root.querySelectorAll("[data-roving]").forEach(rove);
}
roveIn(document);
// A script that adds some to the page sends this event.
addEventListener("whole", (event) => roveIn(event.target));
