// The layout of examples that was chosen last is the one an address without ?view= leads to.

const KEY = "neurarium.view";
const USUAL = "peak";

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
if (known && wanted !== USUAL && !here.searchParams.has("view")) {
  here.searchParams.set("view", wanted);
  location.replace(here);
}

// On the way down: the page must not be left before. Also for the middle button's new tab.
addEventListener("click", remember, { capture: true });
addEventListener("auxclick", remember, { capture: true });
