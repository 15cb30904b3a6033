// The list of recordings, grouped by call.

import { api, pathOf } from "./api.js";
import { announce, byId, copyOf, message, toast } from "./dom.js";
import { bytes, moment, plural } from "./format.js";
import { Player } from "./player.js";
import { showWaveform } from "./waveform.js";

// The rows are kept while their recording exists, so that a new list does not stop what is playing.
const rows = new Map();
const details = new Map();
let changed = () => {};

// Waveforms are fetched when their row comes near the screen.
const nearby = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      nearby.unobserve(target);
      showDetails(target);
    }
  },
  { rootMargin: "200px" },
);

/** Return the content of the view. `onChange` is called after a deletion. */
export async function recordingsView(onChange) {
  changed = onChange;
  const { recordings, complete } = await api("GET", "api/recordings");
  dropRows(new Set(recordings.map(pathOf)));
  const calls = Map.groupBy ? Map.groupBy(recordings, ({ call }) => call) : grouped(recordings);
  suggestCalls([...calls.keys()]);
  if (!recordings.length) {
    return [message("No recordings yet", "Record from your microphone, or upload an audio file. It appears here a moment later.")];
  }
  const cards = [...calls].map(([call, members]) => {
    const card = copyOf("call");
    card.querySelector(".call-name").textContent = call;
    card.querySelector(".call-count").textContent = plural(members.length, "recording");
    card.querySelector(".rows").setAttribute("aria-label", `Recordings of ${call}`);
    card.querySelector(".rows").append(...members.map(row));
    return card;
  });
  if (!complete) cards.push(note(`Only the first ${recordings.length} recordings are shown.`));
  return cards;
}

export function pausePlayers() {
  for (const { player } of rows.values()) player.pause();
}

function dropRows(existing) {
  for (const [path, { player }] of rows) {
    if (existing.has(path)) continue;
    player.close();
    rows.delete(path);
  }
}

function row(recording) {
  const path = pathOf(recording);
  if (rows.has(path)) return rows.get(path).item;
  const item = copyOf("recording");
  item.querySelector(".row-title").textContent = recording.title;
  item.querySelector(".row-title").title = recording.title;
  item.querySelector("time").textContent = moment(recording.recorded_at);
  item.querySelector("time").dateTime = recording.recorded_at;
  item.querySelector(".row-size").textContent = bytes(recording.size);
  const download = item.querySelector(".row-download");
  download.href = `${path}?download=true`;
  download.setAttribute("aria-label", `Download ${recording.title}`);
  download.title = "Download";
  const remove = item.querySelector(".row-delete");
  remove.setAttribute("aria-label", `Delete ${recording.title}`);
  remove.title = "Delete";
  remove.addEventListener("click", () => deleteRecording(item, recording));
  const wave = item.querySelector(".wave");
  wave.dataset.state = "waiting";
  showWaveform(wave, []);
  rows.set(path, { item, player: new Player(item, recording) });
  item.dataset.path = path;
  nearby.observe(item);
  return item;
}

async function showDetails(item) {
  const { path } = item.dataset;
  if (!details.has(path)) details.set(path, api("GET", `${path}/details`));
  let found;
  try {
    found = await details.get(path);
  } catch {
    // The recording can be played without its waveform; the next visit tries again.
    details.delete(path);
    return;
  }
  const wave = item.querySelector(".wave");
  wave.dataset.state = "ready";
  showWaveform(wave, found.peaks);
  item.querySelector(".badge").hidden = !found.partial;
  const player = rows.get(path)?.player;
  if (player && found.duration) player.duration = found.duration;
}

async function deleteRecording(item, recording) {
  const button = item.querySelector(".row-delete");
  button.disabled = true;
  try {
    await api("DELETE", pathOf(recording));
  } catch (error) {
    button.disabled = false;
    item.querySelector(".row-error").textContent = error.message;
    return;
  }
  toast(`${recording.title} was deleted.`, "Undo", async () => {
    try {
      await restore(recording);
    } catch (error) {
      toast(error.message);
    }
  });
  changed();
  byId("view").focus({ preventScroll: true });
}

async function restore(recording) {
  await api("POST", `${pathOf(recording)}/restore`);
  announce(`${recording.title} was restored.`);
  changed();
}

function suggestCalls(names) {
  byId("calls").replaceChildren(...names.map((name) => new Option(name, name)));
}

function note(text) {
  const line = document.createElement("p");
  line.className = "note";
  line.textContent = text;
  return line;
}

function grouped(recordings) {
  const calls = new Map();
  for (const each of recordings) calls.set(each.call, [...(calls.get(each.call) ?? []), each]);
  return calls;
}
