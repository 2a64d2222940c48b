// What the forms for a visitor's text share: the keyboard sends them, and the first text takes longer.

export const WAITING = "Reading… (the first text waits until the model is loaded)";

export function sendByKeyboard(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}
