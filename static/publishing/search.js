// The search of a static site, over the index in neurons.js. A classic script: browsers load no module
// from a file's address.

"use strict";

(() => {
  const { tokens, columns, rows, shown, noun, names, listed } = globalThis.NEURARIUM;
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

  // The conditions of a query and what sorts it, or what is wrong with it.
  function parsed(text) {
    const all = [];
    let sort = { name: listed[0], down: true };
    for (const word of text.trim().split(/\s+/).filter(Boolean)) {
      const by = /^sort:(-?)([a-z_]+)$/i.exec(word);
      if (by && NUMBERS.includes(by[2])) {
        sort = { name: by[2], down: by[1] === "-" };
        continue;
      }
      const parts = /^([a-z_]+)(<=|>=|<|>|=|:)(-?[0-9.]+(?:e-?[0-9]+)?)(%?)$/i.exec(word);
      if (!parts || !NUMBERS.includes(parts[1])) {
        const names = NUMBERS.join(", ");
        return { wrong: `“${word}” cannot be read: write a condition such as max>3 or sort:-lookup, of ${names}.` };
      }
      const value = Number(parts[3]) / (parts[4] ? 100 : 1);
      all.push([place[parts[1]], SIGNS[parts[2] === ":" ? "=" : parts[2]], value]);
    }
    return { all, sort };
  }

  function idsOf(text) {
    const wanted = text.startsWith("#") && /^#\d+$/.test(text) ? [text.slice(1)] : null;
    const spellings = [text, ` ${text}`];
    return new Set(wanted ?? Object.keys(tokens).filter((id) => spellings.includes(tokens[id])));
  }

  function element(tag, text, css) {
    const made = document.createElement(tag);
    made.textContent = text;
    if (css) {
      made.className = css;
    }
    return made;
  }

  function spelled(name, value) {
    if (value === null) {
      return "—";
    }
    const digits = name === "density" ? `${(100 * value).toPrecision(3)}%` : value.toPrecision(3);
    return digits.replace("-", "−");
  }

  // The head of a column; pressed, it sorts by the column, the other way round if it does already.
  function column(name, sort) {
    const head = element("th", "", "num");
    head.scope = "col";
    const down = sort.name === name ? !sort.down : true;
    const button = element("button", name.replaceAll("_", " "));
    button.type = "button";
    button.addEventListener("click", () => {
      const rest = form.elements.q.value.split(/\s+/).filter((word) => word && !word.startsWith("sort:"));
      form.elements.q.value = [...rest, `sort:${down ? "-" : ""}${name}`].join(" ");
      search();
    });
    if (sort.name === name) {
      head.ariaSort = sort.down ? "descending" : "ascending";
      button.append(sort.down ? " ↓" : " ↑");
    }
    head.append(button);
    return head;
  }

  function line(row) {
    const made = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const link = element("a", `${row[place.layer]}/${row[place.neuron]}`, "name");
    link.href = `${row[place.layer]}/${row[place.neuron]}.html`;
    head.append(link);
    const called = names[rows.indexOf(row)];
    if (called) {
      head.append(" ", element("bdi", called, "unit-name"));
    }
    const peaks = row[place.peaks].slice(0, shown).map((id) => JSON.stringify(tokens[id])).join(" ");
    const numbers = listed.map((name) => element("td", spelled(name, row[place[name]]), "num"));
    made.append(head, element("td", peaks), ...numbers);
    return made;
  }

  function show(matches, sort) {
    const head = document.createElement("tr");
    for (const words of [noun, "peaks on"]) {
      const cell = element("th", words);
      cell.scope = "col";
      head.append(cell);
    }
    head.append(...listed.map((name) => column(name, sort)));
    found.tHead.replaceChildren(head);
    found.tBodies[0].replaceChildren(...matches.slice(0, MOST).map(line));
    found.parentElement.hidden = !matches.length;
  }

  function search() {
    const { token, q } = Object.fromEntries(new FormData(form));
    const { all, sort, wrong } = parsed(q);
    found.parentElement.hidden = true;
    said.textContent = wrong ?? "";
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
    const by = place[sort.name];
    // What has no value comes last, whichever way the others are sorted.
    matches.sort((a, b) => (
      (a[by] === null) - (b[by] === null) || (sort.down ? b[by] - a[by] : a[by] - b[by])
    ));
    show(matches, sort);
    const more = matches.length > MOST ? `, the first ${MOST} shown` : "";
    said.textContent = `${matches.length} ${noun}${matches.length === 1 ? "" : "s"}${more}.`;
  }

  function fromAddress() {
    const token = /^#t(\d+)$/.exec(location.hash);
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
