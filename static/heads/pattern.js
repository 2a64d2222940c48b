// Where a head looks from any token: point at a token, or focus a line and use the arrow keys. Keys it
// attends to take the warm colours, later tokens that attend to it the cool ones; an arrow leads to the
// strongest key that pairs can have. Without this script each line shows the row of its own query.

const STEPS = 10;
const PAIR = ".pair:is([data-pattern], [data-pattern-json])";
const patterns = new Map();

const step = (share) => Math.min(STEPS, Math.ceil(share * STEPS - 0.5));

async function patternOf(pair) {
  if (pair.dataset.patternJson) {
    return JSON.parse(pair.dataset.patternJson);
  }
  const address = pair.dataset.pattern;
  if (!patterns.has(address)) {
    const answer = fetch(address).then((response) => {
      if (!response.ok) {
        throw new Error(`${response.status}`);
      }
      return response.json();
    });
    answer.catch(() => patterns.delete(address));
    patterns.set(address, answer);
  }
  return patterns.get(address);
}

// Each token's own class and title, to come back to.
const own = new WeakMap();

function remember(token) {
  if (!own.has(token)) {
    own.set(token, [token.className, token.title]);
  }
}

function restore(pair) {
  for (const token of pair.querySelectorAll("[data-p]")) {
    if (own.has(token)) {
      [token.className, token.title] = own.get(token);
    }
  }
}

const SVG = "http://www.w3.org/2000/svg";
const RISE = 9; // of an arrow over its line, in pixels

function part(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  return made;
}

// An arrow from one token to another, over the text.
function point(pair, from, to) {
  const text = pair.querySelector(".pair-text");
  text.querySelector(".arrow")?.remove();
  if (!from || !to || from === to) {
    return;
  }
  const box = text.getBoundingClientRect();
  const [start, end] = [from, to].map((token) => {
    const place = token.getClientRects()[0] ?? box;
    return [place.left + place.width / 2 - box.left, place.top - box.top + 2];
  });
  const top = Math.min(start[1], end[1]) - RISE;
  const curve = `M${start} C${start[0]} ${top} ${end[0]} ${top} ${end}`;
  const head = `M${end[0] - 3} ${end[1] - 5}L${end}L${end[0] + 3} ${end[1] - 5}`;
  const arrow = part("svg", { class: "arrow", "aria-hidden": "true" });
  arrow.append(part("path", { d: `${curve} ${head}` }));
  text.append(arrow);
}

// The arrow of a line that nobody points at: from its query to its key.
function pointOwn(pair) {
  const [from, to] = ["u", "mark"].map((name) => pair.querySelector(`[data-p] > ${name}`)?.parentElement);
  point(pair, from, to);
}

function pointAll() {
  for (const pair of document.querySelectorAll(PAIR)) {
    pointOwn(pair);
  }
}

// The strongest key of a query, as pairs have it: an earlier token, no BOS in front, nothing special.
function strongest({ rows, included_from, special }, query) {
  const counts = (at) => at >= included_from && !special.includes(at);
  return counts(query) ? rows[query].map(([key]) => key).find((key) => key < query && counts(key)) : undefined;
}

let wanted = null;

async function show(token) {
  const pair = token.closest(PAIR);
  wanted = token;
  const pattern = await patternOf(pair).catch(() => null);
  if (!pattern || wanted !== token) {
    return;
  }
  const from = Number(token.dataset.p);
  const row = new Map(pattern.rows[from]);
  for (const other of pair.querySelectorAll("[data-p]")) {
    remember(other);
    const at = Number(other.dataset.p);
    const looked = at <= from ? row.get(at) : undefined;
    const looking = at > from ? new Map(pattern.rows[at]).get(from) : undefined;
    const share = looked ?? looking ?? 0;
    const colour = share && step(share) ? `${looked === undefined ? "n" : "p"}${step(share)}` : "";
    other.className = `${colour}${other === token ? " from" : ""}`.trim();
    other.title = share ? `${(100 * share).toFixed(1)}%` : "";
  }
  point(pair, token, pair.querySelector(`[data-p="${strongest(pattern, from)}"]`));
}

function leave(pair) {
  wanted = null;
  restore(pair);
  pointOwn(pair);
}

document.addEventListener("pointerover", (event) => {
  const token = event.target.closest?.(`${PAIR} [data-p]`);
  if (token) {
    show(token);
  } else if (wanted && !event.target.closest?.(PAIR)) {
    leave(wanted.closest(PAIR));
  }
});

document.addEventListener("pointerout", (event) => {
  const pair = event.target.closest?.(PAIR);
  if (pair && !pair.contains(event.relatedTarget)) {
    leave(pair);
  }
});

document.addEventListener("focusout", (event) => {
  const pair = event.target.closest?.(PAIR);
  if (pair) {
    leave(pair);
  }
});

document.addEventListener("keydown", (event) => {
  const text = event.target.closest?.(".pair-text[tabindex]");
  const back = event.key === "ArrowLeft";
  if (!text || !(back || event.key === "ArrowRight") || event.altKey || event.ctrlKey || event.metaKey) {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
  const tokens = [...text.querySelectorAll("[data-p]")];
  const now = tokens.indexOf(wanted);
  const start = tokens.findIndex((token) => token.querySelector("u"));
  const next = now < 0 ? Math.max(start, 0) : Math.min(tokens.length - 1, Math.max(0, now + (back ? -1 : 1)));
  show(tokens[next]);
}, true);

// Lines break elsewhere when the page gets another width.
new ResizeObserver(pointAll).observe(document.querySelector("main"));
