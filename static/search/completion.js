// While a token is typed, those of the vocabulary that begin so, in the browser's own list. One that
// is picked is gone to by its number: a box of one line cannot hold a token with a line break.

const box = document.querySelector("[data-tokens]");
const list = document.getElementById("tokens");
let asked = "";
let offered = new Map(); // by what stands in the list

// What a box cannot hold, or would not show, is written as in programs.
const WRITTEN = { "\n": "\\n", "\t": "\\t", "\r": "\\r" };
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

function seen(token) {
  return token.replace(UNSEEN, (one) => {
    const code = one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return WRITTEN[one] ?? `‹U+${code}›`;
  });
}

function meant(text) {
  return Object.entries(WRITTEN).reduce((so, [one, written]) => so.replaceAll(written, one), text);
}

async function begin(prefix) {
  const address = new URL(box.dataset.tokens, location.href);
  address.searchParams.set("prefix", prefix);
  const answer = await fetch(address);
  return answer.ok ? (await answer.json()).items : [];
}

async function complete() {
  const prefix = box.value;
  if (!prefix || prefix === asked) return;
  asked = prefix;
  try {
    // As it is typed first: a vocabulary may have a backslash and an n, too.
    const items = (await Promise.all(Array.from(new Set([prefix, meant(prefix)]), begin))).flat();
    if (box.value !== prefix) return; // what was typed meanwhile is asked for by itself
    offered = new Map();
    for (const one of items) {
      const text = seen(one.token);
      offered.set(offered.has(text) ? `${text} (${one.token_id})` : text, one);
    }
    list.replaceChildren(
      ...Array.from(offered.keys(), (text) => {
        const option = document.createElement("option");
        option.value = text;
        return option;
      }),
    );
  } catch {
    // No list then: what is typed can be sent all the same.
  }
}

function go({ token_id }) {
  const address = new URL(box.form.action);
  address.searchParams.set("token_id", token_id);
  const run = box.form.elements.run?.value;
  if (run) address.searchParams.set("run", run);
  location.assign(address);
}

let waiting;
box?.addEventListener("input", (event) => {
  clearTimeout(waiting);
  // What is picked out of the list comes as a replacement, in some browsers as nothing that is typed.
  const picked = (event.inputType ?? "insertReplacementText") === "insertReplacementText";
  if (picked && offered.has(box.value)) {
    go(offered.get(box.value));
    return;
  }
  waiting = setTimeout(complete, 80);
});
box?.form.addEventListener("submit", (event) => {
  const found = offered.get(box.value);
  if (!found || found.token === box.value) return;
  event.preventDefault();
  go(found);
});
