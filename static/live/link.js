// Links to a custom text. The text stands in the address's fragment, which a browser never sends to a
// server: so no log has it, and a link opens the form and runs it.

const STATUS = "Link copied. It is in the address bar too.";
const REFUSED = "The link is in the address bar: copy it from there.";

// Fills the form from the address and returns whether there was a text in it.
export function fillFromAddress(form) {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.get("text")) {
    return false;
  }
  for (const name of new Set(given.keys())) {
    const field = form.elements.namedItem(name);
    if (field && name !== "at" && field.type !== "hidden") {
      field.value = given.get(name);
    }
  }
  return true;
}

// Lets a button copy a link to what the form was sent with. fields(): what the link is to say, as pairs.
export function offerLink(button, status, fields) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const link = new URL(location.href);
    link.hash = new URLSearchParams(fields()).toString();
    history.replaceState(null, "", link);
    let copied = true;
    try {
      await navigator.clipboard.writeText(link.href); // undefined on plain HTTP
    } catch {
      copied = false;
    }
    status.classList.remove("unseen");
    status.textContent = copied ? STATUS : REFUSED;
  });
}
