// An opened line fetches its whole context from the context's own page and shows it in place.

const texts = new Map();

function whole(address) {
  if (!texts.has(address)) {
    const text = fetch(address).then(async (response) => {
      if (!response.ok) {
        throw new Error(response.statusText);
      }
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      return page.querySelector(".whole");
    });
    text.catch(() => texts.delete(address));
    texts.set(address, text);
  }
  return texts.get(address);
}

async function open(details) {
  const link = details.querySelector(".fetch");
  if (!link || details.querySelector(".whole")) {
    return;
  }
  try {
    const context = await whole(link.href);
    if (context && !details.querySelector(".whole")) {
      details.querySelector(".opened").prepend(document.importNode(context, true));
      link.textContent = "open full page";
      details.dispatchEvent(new Event("whole", { bubbles: true }));
    }
  } catch {
    link.textContent = "the whole context cannot be fetched: open its own page";
  }
}

// The event "toggle" does not bubble, but it can be captured.
addEventListener("toggle", (event) => {
  if (event.target.matches?.(".example") && event.target.open) {
    open(event.target);
  }
}, { capture: true });

// What will probably be opened is fetched a little earlier.
addEventListener("pointerdown", (event) => {
  const link = event.target.closest?.(".example:not([open]) > summary")?.parentElement.querySelector(".fetch");
  if (link) {
    whole(link.href).catch(() => {});
  }
}, { passive: true });

// Lines can be open already, such as after going back.
for (const details of document.querySelectorAll(".example[open]")) {
  open(details);
}
