// An address without ?view= leads to the layout of examples that was chosen last.

const KEY = "neurarium.view";
const DEFAULT = "peak";

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage can be forbidden
  }
}

function remember(event) {
  const link = event.target.closest("[data-reading]");
  if (link) {
    try {
      localStorage.setItem(KEY, link.dataset.reading);
    } catch {
      // Then nothing is remembered.
    }
  }
}

const here = new URL(location.href);
const wanted = remembered();
const known = document.querySelector(`[data-reading="${CSS.escape(wanted ?? "")}"]`);
if (known && wanted !== DEFAULT && !here.searchParams.has("view")) {
  here.searchParams.set("view", wanted);
  location.replace(here);
}

// Captured, because the page must not be left first. The middle button opens a new tab.
addEventListener("click", remember, { capture: true });
addEventListener("auxclick", remember, { capture: true });
