// Completes a token while it is typed, in the browser's own list. A token picked from the list is
// searched by its id, because a field of one line cannot hold a token with a line break.

const box = document.querySelector("[data-tokens]");
const list = document.getElementById("tokens");
let asked = "";
let offered = new Map(); // token by its text in the list

// What a field cannot hold or show is written as in source code.
const ESCAPES = { "\n": "\\n", "\t": "\\t", "\r": "\\r" };
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

function escaped(token) {
  return token.replace(UNSEEN, (character) => {
    const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return ESCAPES[character] ?? `‹U+${code}›`;
  });
}

function unescaped(text) {
  return Object.entries(ESCAPES).reduce((result, [character, code]) => result.replaceAll(code, character), text);
}

async function beginning(prefix) {
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
    // First as it is typed: a vocabulary may have a backslash with an n, too.
    const items = (await Promise.all(Array.from(new Set([prefix, unescaped(prefix)]), beginning))).flat();
    if (box.value !== prefix) return; // more was typed meanwhile, and asks for its own
    offered = new Map();
    for (const item of items) {
      const text = escaped(item.token);
      offered.set(offered.has(text) ? `${text} (${item.token_id})` : text, item);
    }
    list.replaceChildren(
      ...Array.from(offered.keys(), (text) => {
        const option = document.createElement("option");
        option.value = text;
        return option;
      }),
    );
  } catch {
    // Without a list, what is typed can still be sent.
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
  // A token picked from the list comes as a replacement, in some browsers without an input type.
  const picked = (event.inputType ?? "insertReplacementText") === "insertReplacementText";
  if (picked && offered.has(box.value)) {
    go(offered.get(box.value));
    return;
  }
  waiting = setTimeout(complete, 80);
});
box?.form.addEventListener("submit", (event) => {
  const token = offered.get(box.value);
  if (!token || token.token === box.value) return;
  event.preventDefault();
  go(token);
});
