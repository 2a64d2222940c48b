// The box for a text of one's own: sends it without leaving the page, and takes examples in.
// The server renders what came of it; without this script the form leads to a page of its own.

const box = document.querySelector("#live");
const form = box.querySelector("form");
const field = form.elements.namedItem("text");
const status = form.querySelector(".status");
const SLOW = 1500;

let latest = 0;

async function read() {
  const mine = ++latest;
  const old = box.querySelector("#live-result");
  old.setAttribute("aria-busy", "true");
  status.classList.remove("unseen");
  status.textContent = "Reading…";
  const slow = setTimeout(() => {
    status.textContent = "Reading… (the first text waits until the model is loaded)";
  }, SLOW);
  let said = "";
  let done = false;
  try {
    const body = new URLSearchParams({ text: field.value });
    const response = await fetch(form.action, { method: "POST", body });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const result = page.querySelector("#live-result");
    if (mine !== latest) {
      return; // another text was sent meanwhile
    }
    if (result) {
      old.replaceWith(document.adoptNode(result));
      walkable(result);
      result.scrollIntoView({ block: "nearest" }); // a long text may have pushed it out of sight
      const peak = result.querySelector("#live-peak");
      said = peak ? peak.textContent.replaceAll(/\s+/g, " ").trim() : "";
      done = true;
    } else {
      said = page.querySelector("h1")?.textContent ?? `The server answered ${response.status}.`;
    }
  } catch {
    said = "The server does not answer: try again in a moment.";
  } finally {
    clearTimeout(slow);
    if (mine === latest) {
      status.textContent = said;
      status.classList.toggle("unseen", done); // read out, not shown: it stands below as well
      old.removeAttribute("aria-busy");
    }
  }
}

// As in an open example: one stop for the Tab key, the arrow keys walk from token to token.
function walkable(result) {
  for (const text of result.querySelectorAll(".whole .tok")) {
    text.tabIndex = 0;
    text.setAttribute("aria-label", "Your text; arrow keys read out tokens");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  read();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});

// "Edit this example": its whole text into the box.
async function take(context) {
  const address = new URL(form.dataset.neuron, location.href);
  address.pathname += `/contexts/${encodeURIComponent(context)}`;
  try {
    const response = await fetch(address);
    if (!response.ok) {
      throw new Error(response.statusText);
    }
    field.value = (await response.json()).text;
  } catch {
    status.textContent = "The example cannot be fetched: try again in a moment.";
    return;
  }
  box.scrollIntoView({ block: "start" });
  field.focus({ preventScroll: true });
  read();
}

function offer(root) {
  const found = [...root.querySelectorAll("[data-context]")];
  if (root.matches("[data-context]")) {
    found.push(root);
  }
  for (const whole of found) {
    if (whole.querySelector(":scope > .edit")) {
      continue;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "edit";
    button.textContent = "Edit this example";
    button.addEventListener("click", () => take(whole.dataset.context));
    whole.append(button);
  }
}

offer(document.body);
walkable(box);
// Whole contexts are fetched when they are opened.
new MutationObserver((changes) => {
  for (const change of changes) {
    for (const node of change.addedNodes) {
      if (node instanceof Element) {
        offer(node);
      }
    }
  }
}).observe(document.querySelector("main"), { childList: true, subtree: true });
