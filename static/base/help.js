// Shows the help page in a dialog. Its text is fetched when it is first needed.

const link = document.querySelector('a[data-key="?"]');

let loading = null;

async function fetchDialog() {
  const response = await fetch(link.href);
  if (!response.ok) {
    throw new Error(`${response.status} for ${link.href}`);
  }
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const element = document.createElement("dialog");
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.setAttribute("aria-label", "Close");
  close.textContent = "×";
  close.addEventListener("click", () => element.close());
  element.setAttribute("aria-labelledby", "help");
  element.setAttribute("closedby", "any");
  element.append(close, ...page.querySelector("main").childNodes);
  document.body.append(element);
  return element;
}

async function show() {
  loading ??= fetchDialog();
  let dialog;
  try {
    dialog = await loading;
  } catch {
    location.assign(link.href); // the browser shows best what is wrong
    return;
  }
  if (!dialog.open) {
    dialog.showModal();
    dialog.scrollTop = 0;
  }
}

link.addEventListener("click", (event) => {
  const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
  if (!elsewhere && location.pathname !== link.pathname) {
    event.preventDefault();
    show();
  }
});
