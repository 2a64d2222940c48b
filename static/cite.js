// Opening a citation copies it. The line stays in sight, for where the browser forbids to copy.

for (const details of document.querySelectorAll(".cite")) {
  const line = details.querySelector("code");
  const status = details.querySelector("[role=status]");
  for (const path of line.querySelectorAll("[data-path]")) {
    path.textContent = new URL(path.textContent, location.origin).href;
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
