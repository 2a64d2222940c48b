// Another layout of the examples takes the place of the present one: the address changes, the history
// and the reader's place do not. A cookie tells the server which layout to send from then on.

const SECTIONS = ".examples > .kind";

function remember(view) {
  document.cookie = `neurarium-view=${view}; path=/; max-age=31536000; samesite=lax`;
}

function lines(section) {
  return [...section.querySelectorAll("ol > li")];
}

// The first example below the bar, if the reader has come so far, and where it is in the window.
function reached() {
  const top = document.querySelector(".bar-sticky").getBoundingClientRect().bottom;
  for (const section of document.querySelectorAll(SECTIONS)) {
    for (const [at, line] of lines(section).entries()) {
      const box = line.getBoundingClientRect();
      if (box.height && box.bottom > top) {
        return { id: section.getAttribute("aria-labelledby"), at, top: box.top };
      }
    }
  }
  return null;
}

function exchange(page, view) {
  const place = scrollY ? reached() : null;
  for (const section of page.querySelectorAll(SECTIONS)) {
    const id = section.getAttribute("aria-labelledby");
    const fresh = document.importNode(section, true);
    document.querySelector(`.kind[aria-labelledby="${id}"]`)?.replaceWith(fresh);
    fresh.dispatchEvent(new Event("whole", { bubbles: true }));
  }
  for (const link of document.querySelectorAll("[data-view]")) {
    link.toggleAttribute("aria-current", link.dataset.view === view);
    if (link.dataset.view === view) {
      link.setAttribute("aria-current", "true");
    }
  }
  if (place) {
    const all = lines(document.querySelector(`.kind[aria-labelledby="${place.id}"]`));
    const line = all[Math.min(place.at, all.length - 1)];
    scrollBy({ top: line.getBoundingClientRect().top - place.top, behavior: "instant" });
  }
}

// Other links that name the present view, and the form that goes to a unit, name the new one.
function rename(view) {
  for (const link of document.querySelectorAll("a[href], link[href]")) {
    const address = new URL(link.href);
    if (!link.dataset.view && address.origin === location.origin && address.searchParams.has("view")) {
      address.searchParams.set("view", view);
      link.href = address.pathname + address.search + address.hash;
    }
  }
  for (const field of document.querySelectorAll("input[type=hidden][name=view]")) {
    field.value = view;
  }
}

let wanted = null;

addEventListener("click", async (event) => {
  const link = event.target.closest("[data-view]");
  if (!link) {
    return;
  }
  const { view } = link.dataset;
  remember(view);
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) {
    return; // a new tab or window
  }
  event.preventDefault();
  wanted = view;
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (wanted === view) {
      exchange(page, view);
      rename(view);
      history.replaceState(history.state, "", link.href);
    }
  } catch {
    location.assign(link.href);
  }
});
addEventListener("auxclick", (event) => {
  const link = event.target.closest("[data-view]");
  if (link) {
    remember(link.dataset.view);
  }
});
