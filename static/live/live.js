// The box for a visitor's text: sends it without leaving the page, and takes in examples.
// The server renders the result; without this script the form leads to a page of its own.

import { fillFromAddress, offerLink } from "./link.js";
import { sendByKeyboard, WAITING } from "./send.js";

const box = document.querySelector("#live");
const form = box.querySelector("form");
const field = form.elements.namedItem("text");
const status = form.querySelector(".status");
const linked = form.querySelector(".link");
const SLOW = 1500;

let latest = 0;
let shown = field.value; // the text of the result

async function read() {
  const mine = ++latest;
  const text = field.value;
  const old = box.querySelector("#live-result");
  old.setAttribute("aria-busy", "true");
  status.classList.remove("unseen");
  status.textContent = "Reading…";
  const slow = setTimeout(() => {
    status.textContent = WAITING;
  }, SLOW);
  let message = "";
  let done = false;
  try {
    const body = new URLSearchParams({ text });
    const response = await fetch(form.action, { method: "POST", body });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const result = page.querySelector("#live-result");
    if (mine !== latest) {
      return; // another text was sent meanwhile
    }
    if (result) {
      old.replaceWith(document.adoptNode(result));
      result.dispatchEvent(new Event("whole", { bubbles: true })); // for tokens.js
      result.scrollIntoView({ block: "nearest" }); // a long text may have pushed it out of view
      shown = text;
      linked.hidden = !result.querySelector(".read");
      const peak = result.querySelector("#live-peak");
      message = peak ? peak.textContent.replaceAll(/\s+/g, " ").trim() : "";
      done = true;
    } else {
      message = page.querySelector("h1")?.textContent ?? `The server answered ${response.status}.`;
    }
  } catch {
    message = "The server does not answer: try again in a moment.";
  } finally {
    clearTimeout(slow);
    if (mine === latest) {
      status.textContent = message;
      status.classList.toggle("unseen", done); // only read out: the result below shows it
      old.removeAttribute("aria-busy");
    }
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  read();
});
sendByKeyboard(form);
offerLink(linked, status, () => [["text", shown]]);
linked.hidden = !box.querySelector(".read");

function open() {
  if (fillFromAddress(form)) {
    box.scrollIntoView({ block: "start" });
    read();
  }
}
addEventListener("hashchange", open);
open();

// "Test this text" puts its whole text into the box.
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
  const contexts = [...root.querySelectorAll("[data-context]")];
  if (root.matches("[data-context]")) {
    contexts.push(root);
  }
  for (const whole of contexts) {
    if (whole.querySelector(":scope > .edit")) {
      continue;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "edit";
    button.textContent = "Test this text";
    button.addEventListener("click", () => take(whole.dataset.context));
    whole.append(button);
  }
}

offer(document.body);
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
