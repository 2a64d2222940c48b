// The browser remembers the list that was opened last, and a neuron's page adds to it.

const KEY = "neurarium-list";
const LIMIT = 150;
const NAMED = /^(\/?)([^/]+)\/(\d+)\/(\d+)(\?run=\d+)?$/;

function remembered() {
  try {
    const { n, title } = JSON.parse(localStorage.getItem(KEY)) ?? {};
    return { n: String(n ?? ""), title: String(title ?? "") };
  } catch {
    return { n: "", title: "" }; // nothing stored, or storage is forbidden
  }
}

function remember(list) {
  try {
    localStorage.setItem(KEY, JSON.stringify(list));
    return true;
  } catch {
    return false;
  }
}

// Each neuron in full: an entry without a model takes model and run from the entry before it.
function neurons(n) {
  let [start, run] = ["", ""];
  return n.split(",").filter(Boolean).map((text) => {
    const [, slash, model, , , entryRun = ""] = NAMED.exec(text) ?? [];
    if (model !== undefined) {
      [start, run] = [`${slash}${model}/`, entryRun];
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

// Ticked neurons are added to that list.
const ticks = document.getElementById("ticks");
ticks?.addEventListener("submit", () => {
  const list = remembered();
  for (const name of ["n", "title"]) {
    const field = ticks.elements[name];
    field.value = list[name];
    field.disabled = !list[name];
  }
});

// A page without neurons offers it.
const last = document.querySelector(".last-list");
if (last && remembered().n) {
  last.querySelector("a").href = address(remembered());
  last.hidden = false;
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
      event.preventDefault(); // stay on this page; the next click leads to the list
      show();
    }
  });
  addEventListener("storage", show); // another tab has added a neuron
  addEventListener("pageshow", show);
  show();
}
