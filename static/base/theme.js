// Light or dark, if the reader chose with the header's button. It runs before the page is painted, so
// that no page flashes in the other colours; not a module, because modules wait for the whole page.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const other = () => (now() === "dark" ? "light" : "dark");

  function apply() {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // Storage is switched off: the system's colours hold.
    }
    if (chosen === "light" || chosen === "dark") {
      root.dataset.theme = chosen;
    } else {
      delete root.dataset.theme;
    }
  }

  function label(button) {
    button.setAttribute("aria-label", `Switch to ${other()} colours`);
    button.title = `Switch to ${other()} colours`;
    button.hidden = false;
  }

  apply();
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) {
      return;
    }
    label(button);
    button.addEventListener("click", () => {
      root.dataset.theme = other();
      try {
        // The system's own colours need no choice, and follow the system when it changes.
        if (root.dataset.theme === (system.matches ? "dark" : "light")) {
          localStorage.removeItem("theme");
        } else {
          localStorage.setItem("theme", root.dataset.theme);
        }
      } catch {
        // It holds for this page only.
      }
      label(button);
    });
    for (const [target, event] of [
      [system, "change"],
      [window, "storage"],
    ]) {
      target.addEventListener(event, () => {
        apply();
        label(button);
      });
    }
  });
})();
