// The list of deleted recordings, which can be restored.

import { api, pathOf } from "./api.js";
import { byId, copyOf, message, toast } from "./dom.js";
import { bytes, moment } from "./format.js";

export async function deletedView(onChange) {
  const { recordings } = await api("GET", "api/recordings/deleted");
  if (!recordings.length) {
    return [message("Nothing is deleted", "A deleted recording stays here until it is erased, so you can restore it.")];
  }
  const card = document.createElement("section");
  card.className = "call card";
  const list = document.createElement("ul");
  list.className = "rows";
  list.setAttribute("aria-label", "Deleted recordings");
  list.append(...recordings.map((recording) => row(recording, onChange)));
  card.append(list);
  return [card];
}

function row(recording, onChange) {
  const item = copyOf("deleted");
  item.querySelector(".row-title").textContent = recording.title;
  item.querySelector(".row-call").textContent = recording.call;
  item.querySelector("time").textContent = `Deleted ${lower(moment(recording.deleted_at))}`;
  item.querySelector("time").dateTime = recording.deleted_at;
  item.querySelector(".row-size").textContent = bytes(recording.size);
  const button = item.querySelector(".row-restore");
  button.setAttribute("aria-label", `Restore ${recording.title}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await api("POST", `${pathOf(recording)}/restore`);
    } catch (error) {
      button.disabled = false;
      toast(error.message);
      return;
    }
    toast(`${recording.title} was restored.`);
    onChange();
    byId("view").focus({ preventScroll: true });
  });
  return item;
}

const lower = (text) => text[0].toLowerCase() + text.slice(1);
