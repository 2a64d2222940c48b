// While a token is typed, those of the vocabulary that begin so, in the browser's own list.

const box = document.querySelector("[data-tokens]");
const list = document.getElementById("tokens");
let asked = "";

async function complete() {
  const prefix = box.value;
  if (!prefix || prefix === asked) return;
  asked = prefix;
  const address = new URL(box.dataset.tokens, location.href);
  address.searchParams.set("prefix", prefix);
  try {
    const answer = await fetch(address);
    if (!answer.ok) return;
    const { items } = await answer.json();
    if (box.value !== prefix) return; // what was typed meanwhile is asked for by itself
    list.replaceChildren(
      ...items.map(({ token }) => {
        const option = document.createElement("option");
        option.value = token;
        return option;
      }),
    );
  } catch {
    // No list then: what is typed can be sent all the same.
  }
}

let waiting;
box?.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(complete, 80);
});
