// Opening a citation copies it. The line stays visible, because a browser may forbid copying.

for (const details of document.querySelectorAll(".cite")) {
  const line = details.querySelector("code");
  const status = details.querySelector("[role=status]");
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

  details.addEventListener("toggle", async () => {
    status.textContent = "";
    if (details.open) {
      status.textContent = (await copy()) ? "Copied" : "Selected: copy it with your keyboard";
    }
  });
}
