// The list that was looked at last is remembered here, and a neuron's page adds to it without leaving.

const KEPT = "neurarium-list";
const LIMIT = 150;
const NAMED = /^(\/?)([^/]+)\/(\d+)\/(\d+)(\?run=\d+)?$/;

function remembered() {
  try {
    const { n, title } = JSON.parse(localStorage.getItem(KEPT)) ?? {};
    return { n: String(n ?? ""), title: String(title ?? "") };
  } catch {
    return { n: "", title: "" }; // nothing kept, or it may not be asked
  }
}

function remember(list) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(list));
    return true;
  } catch {
    return false;
  }
}

// Each neuron in full: what names no model is of that before it, and of its run.
function neurons(n) {
  let [start, run] = ["", ""];
  return n.split(",").filter(Boolean).map((text) => {
    const [, slash, model, , , its = ""] = NAMED.exec(text) ?? [];
    if (model !== undefined) {
      [start, run] = [`${slash}${model}/`, its];
      return text;
    }
    return /^\d+\/\d+$/.test(text) ? `${start}${text}${run}` : text;
  });
}

function address({ n, title }) {
  const query = new URLSearchParams(title ? { n, title } : { n });
  return `/list?${String(query).replaceAll("%2F", "/").replaceAll("%2C", ",")}`;
}

const table = document.querySelector(".neuron-list");
if (table) {
  remember({ n: table.dataset.n, title: table.dataset.title });
}

const link = document.querySelector(".keep .add");
if (link) {
  const named = link.dataset.named;

  const show = () => {
    const list = remembered();
    const all = neurons(list.n);
    const inside = all.includes(named);
    const longer = { ...list, n: [...all, named].join(",") };
    link.href = address(inside || all.length >= LIMIT ? list : longer);
    link.dataset.adds = inside || all.length >= LIMIT ? "" : "yes";
    if (inside) {
      link.textContent = `In the list (${all.length})`;
    } else if (all.length >= LIMIT) {
      link.textContent = `The list is full (${all.length})`;
    } else {
      link.textContent = all.length ? `Add to list (${all.length})` : "Add to a list";
    }
    return longer;
  };

  link.setAttribute("aria-live", "polite");
  link.addEventListener("click", (event) => {
    const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
    if (plain && link.dataset.adds && remember(show())) {
      event.preventDefault(); // it stays on this page, and leads to the list from now on
      show();
    }
  });
  addEventListener("storage", show); // another tab has added one
  addEventListener("pageshow", show);
  show();
}
