// The storage chart: what is stored, what is deleted but kept, and what it costs.

import { api } from "./api.js";
import { copyOf, message } from "./dom.js";
import { bytes, month, plural } from "./format.js";

export async function usageView() {
  const usage = await api("GET", "api/usage");
  if (!usage.stored && !usage.hidden) {
    return [message("Nothing is stored", "When there are recordings, this page shows how much they take and cost.")];
  }
  const view = copyOf("usage");
  const figures = {
    stored: bytes(usage.stored),
    files: plural(usage.files, "recording"),
    hidden: bytes(usage.hidden),
    cost: money(usage),
  };
  for (const [name, text] of Object.entries(figures)) view.querySelector(`[data-figure="${name}"]`).textContent = text;
  chart(view.querySelector('[data-chart="months"]'), "Month", usage.months.toReversed(), month);
  chart(view.querySelector('[data-chart="calls"]'), "Call", usage.calls, (label) => label);
  return [view];
}

// A table whose cells are drawn as bars, so that screen readers read the numbers.
function chart(table, heading, bars, nameOf) {
  const largest = Math.max(...bars.map(({ stored, hidden }) => stored + hidden), 1);
  const head = table.createTHead();
  head.className = "visually-hidden";
  head.insertRow().append(...[heading, "Share", "Bytes"].map((text) => cell("th", text)));
  const body = table.createTBody();
  for (const { label, stored, hidden } of bars) {
    const name = cell("th", nameOf(label));
    name.scope = "row";
    name.title = name.textContent;
    const track = document.createElement("div");
    track.className = "bar-track";
    track.append(part("stored", stored / largest), part("hidden-bytes", hidden / largest));
    const drawn = document.createElement("td");
    drawn.append(track);
    const text = hidden ? `${bytes(stored)} + ${bytes(hidden)}` : bytes(stored);
    body.insertRow().append(name, drawn, cell("td", text));
  }
}

function part(name, share) {
  const bar = document.createElement("div");
  bar.className = `bar-part ${name}`;
  bar.style.width = `${share * 100}%`;
  bar.hidden = !share;
  return bar;
}

function cell(tag, text) {
  const each = document.createElement(tag);
  each.textContent = text;
  return each;
}

function money({ cost, currency }) {
  const amount = Number(cost);
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return amount > 0 && amount < 0.01 ? `< ${format.format(0.01)}` : format.format(amount);
}
