// Who writes notes types author and token once: they are remembered until the tab is closed, and only
// here. A token that the server refused is forgotten.

const KEPT = "neurarium-notes";
const forms = [...document.querySelectorAll(".notes form")];

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? {};
  } catch {
    return {}; // nothing kept, or it may not be asked
  }
}

function remember(kept) {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    // it is typed again then
  }
}

if (document.querySelector(".notes [data-refused]")) {
  remember({ ...remembered(), token: "" });
}
const kept = remembered();
for (const form of forms) {
  for (const name of ["author", "token"]) {
    const field = form.elements.namedItem(name);
    if (field && !field.value) {
      field.value = String(kept[name] ?? "");
    }
  }
  form.addEventListener("submit", () => {
    const typed = Object.fromEntries(new FormData(form));
    remember({ author: typed.author ?? remembered().author ?? "", token: typed.token });
  });
}
