// Opening a citation copies it; code has a button that does. What is copied stays visible and selected,
// because a browser may forbid copying.

for (const details of document.querySelectorAll(".cite")) {
  const line = details.querySelector("code");
  const status = details.querySelector("[role=status]");
  const button = details.querySelector(".copy");
  // The server uses the host it was asked for, which a proxy may have changed.
  for (const address of line.querySelectorAll("[data-address]")) {
    const { pathname, search } = new URL(address.textContent, location.origin);
    address.textContent = location.origin + pathname + search;
  }

  const copy = async () => {
    getSelection().selectAllChildren(line);
    try {
      await navigator.clipboard.writeText(line.textContent); // undefined on plain HTTP
      return true;
    } catch {
      return document.execCommand("copy");
    }
  };

  const report = async () => {
    status.textContent = (await copy()) ? "Copied" : "Selected: copy it with your keyboard";
  };

  if (button) {
    button.hidden = false;
    button.addEventListener("click", report);
    continue;
  }
  details.addEventListener("toggle", () => {
    status.textContent = "";
    if (details.open) {
      report();
    }
  });
}
