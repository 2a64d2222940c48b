// The form of an ablation: the keyboard sends it, and its result can be linked.

import { fillFromAddress, offerLink } from "./link.js";
import { sendByKeyboard, WAITING } from "./send.js";

const form = document.querySelector("#ablation");
const status = form.querySelector(".status");

sendByKeyboard(form);
form.addEventListener("submit", () => {
  status.textContent = WAITING;
});
addEventListener("pageshow", () => {
  status.textContent = ""; // after going back
});

if (document.querySelector("#result")) {
  const sent = [...new FormData(form)].filter(([, value]) => value);
  offerLink(form.querySelector(".link"), status, () => sent);
}

// Ticked tokens have no boxes before the first result.
function tick() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "at" || name === "of") {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
  }
}

function open() {
  if (fillFromAddress(form)) {
    form.querySelector("[name=of]")?.remove();
    tick();
    history.replaceState(null, "", location.pathname + location.search);
    form.requestSubmit();
  }
}
addEventListener("hashchange", open);
open();
