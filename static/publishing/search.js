// The search of a static site, over the index in neurons.js. A classic script: browsers load no module
// from a file's address.

"use strict";

(() => {
  const { tokens, columns, rows, shown, noun, names } = globalThis.NEURARIUM;
  const form = document.querySelector(".static-search");
  const said = document.querySelector(".static-said");
  const found = document.querySelector(".static-found");
  const MOST = 200;
  const SIGNS = {
    "<": (a, b) => a < b,
    "<=": (a, b) => a <= b,
    ">": (a, b) => a > b,
    ">=": (a, b) => a >= b,
    "=": (a, b) => a === b,
  };
  const NUMBERS = columns.filter((name) => name !== "peaks" && name !== "promotes");
  const place = Object.fromEntries(columns.map((name, index) => [name, index]));

  // The conditions of a query, or what is wrong with it.
  function conditions(text) {
    const made = [];
    for (const word of text.trim().split(/\s+/).filter(Boolean)) {
      const parts = /^([a-z_]+)(<=|>=|<|>|=|:)(-?[0-9.]+(?:e-?[0-9]+)?)(%?)$/i.exec(word);
      if (!parts || !NUMBERS.includes(parts[1])) {
        return [[], `“${word}” cannot be read: write a condition such as max>3, of ${NUMBERS.join(", ")}.`];
      }
      const value = Number(parts[3]) / (parts[4] ? 100 : 1);
      made.push([place[parts[1]], SIGNS[parts[2] === ":" ? "=" : parts[2]], value]);
    }
    return [made, ""];
  }

  function idsOf(text) {
    const wanted = text.startsWith("#") && /^#\d+$/.test(text) ? [text.slice(1)] : null;
    const spellings = [text, ` ${text}`];
    return new Set(wanted ?? Object.keys(tokens).filter((id) => spellings.includes(tokens[id])));
  }

  function show(row) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = `${row[place.layer]}/${row[place.neuron]}.html`;
    link.textContent = `${row[place.layer]}/${row[place.neuron]}`;
    const called = document.createElement("bdi");
    called.className = "unit-name";
    called.textContent = names[rows.indexOf(row)] ?? "";
    const words = document.createElement("span");
    words.className = "quiet";
    const peaks = row[place.peaks].slice(0, shown).map((id) => JSON.stringify(tokens[id])).join(" ");
    words.textContent = ` max ${row[place.max].toPrecision(3)} · ${peaks}`;
    item.append(link, " ", called, words);
    return item;
  }

  function search() {
    const { token, q } = Object.fromEntries(new FormData(form));
    const [all, wrong] = conditions(q);
    found.replaceChildren();
    said.textContent = wrong;
    if (wrong || !(token || q.trim())) {
      return;
    }
    const ids = token ? idsOf(token) : null;
    const has = (list) => list.some((id) => ids.has(String(id)));
    const name = token.trim().toLowerCase();
    const isCalled = (index) => name !== "" && (names[index] ?? "").toLowerCase().includes(name);
    const matches = rows.filter((row, index) => (
      all.every(([at, sign, value]) => row[at] !== null && sign(row[at], value))
      && (!ids || has(row[place.peaks]) || has(row[place.promotes]) || isCalled(index))
    ));
    matches.sort((a, b) => b[place.max] - a[place.max]);
    found.append(...matches.slice(0, MOST).map(show));
    const more = matches.length > MOST ? `, the ${MOST} with the highest maximum shown` : "";
    said.textContent = `${matches.length} ${noun}${matches.length === 1 ? "" : "s"}${more}.`;
  }

  function fromAddress() {
    const token = /^#token=(\d+)$/.exec(location.hash);
    if (token) {
      form.elements.token.value = tokens[token[1]] ?? `#${token[1]}`;
      search();
      document.getElementById("search").scrollIntoView();
    }
  }

  document.querySelector(".static-none").hidden = true;
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  addEventListener("hashchange", fromAddress);
  fromAddress();
})();
