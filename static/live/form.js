// A form that is a page of its own: the keyboard sends it, its result can be linked, and an address that
// holds a text sends it.

import { fillFromAddress, offerLink } from "./link.js";
import { sendByKeyboard, WAITING } from "./send.js";

// `filled` is called when an address has filled the form, before it is sent.
export function pageForm(form, filled = () => {}) {
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

  function open() {
    if (fillFromAddress(form)) {
      filled();
      // Or going back would lead here, and send it again.
      history.replaceState(null, "", location.pathname + location.search);
      form.requestSubmit();
    }
  }
  addEventListener("hashchange", open);
  open();
}
