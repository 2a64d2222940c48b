// The form of an ablation.

import { pageForm } from "./form.js";

const form = document.querySelector("#ablation");

// Ticked tokens have no boxes before the first result.
pageForm(form, () => {
  form.querySelector("[name=of]")?.remove();
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (name === "at" || name === "of") {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
  }
});
