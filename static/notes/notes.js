// Author and token of a note are typed once: this tab remembers them until it is closed. A token that
// the server refused is forgotten.

const KEY = "neurarium-notes";
const forms = [...document.querySelectorAll(".notes form")];

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // nothing stored, or storage is forbidden
  }
}

function remember(fields) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(fields));
  } catch {
    // they have to be typed again
  }
}

if (document.querySelector(".notes [data-refused]")) {
  remember({ ...remembered(), token: "" });
}
const stored = remembered();
for (const form of forms) {
  for (const name of ["author", "token"]) {
    const field = form.elements.namedItem(name);
    if (field && !field.value) {
      field.value = String(stored[name] ?? "");
    }
  }
  form.addEventListener("submit", () => {
    const typed = Object.fromEntries(new FormData(form));
    remember({ author: typed.author ?? remembered().author ?? "", token: typed.token });
  });
}
