// Shows what a chart's bin holds where it is pointed at, in the words of the page's list of bins.

import { say, silence } from "../base/tip.js";

function describeBins(chart) {
  const [left, wide, top, foot] = chart.dataset.bins.split(" ").map(Number);
  const name = chart.getAttribute("aria-labelledby").split("-t ")[0];
  const bins = document.getElementById(`${name}-bins`)?.children ?? [];
  const column = document.createElementNS(chart.namespaceURI, "rect");
  column.classList.add("at");
  column.setAttribute("y", top);
  column.setAttribute("width", Math.max(2, wide - 0.6));
  column.setAttribute("height", foot - top);
  // Removed, or the browser would show them as well.
  const titles = new Map();
  for (const title of chart.querySelectorAll(":scope > * > title")) {
    titles.set(title.parentElement, title.textContent);
    title.remove();
  }

  function hide() {
    column.remove();
    silence();
  }

  function point(event) {
    const { a, d, e, f } = chart.getScreenCTM();
    const x = (event.clientX - e) / a;
    const y = (event.clientY - f) / d;
    const bin = Math.floor((x - left) / wide);
    const words = y >= top && y <= foot ? bins[bin]?.textContent : undefined;
    hide();
    if (words && !words.includes(": 0 (")) {
      column.setAttribute("x", left + bin * wide);
      chart.append(column);
      say(column.getBoundingClientRect(), words);
    } else if (titles.has(event.target)) {
      say(event.target.getBoundingClientRect(), titles.get(event.target));
    }
  }

  chart.addEventListener("pointermove", point);
  chart.addEventListener("pointerdown", point); // a finger does not move
  chart.addEventListener("pointerleave", hide);
  addEventListener("scroll", () => column.isConnected && hide(), { capture: true, passive: true });
}

for (const chart of document.querySelectorAll(".chart[data-bins]")) {
  describeBins(chart);
}
