// Starts the page, and shows the view that the address names.

import { setUpCapture } from "./capture.js";
import { deletedView } from "./deleted-view.js";
import { byId, message, skeleton } from "./dom.js";
import { pausePlayers, recordingsView } from "./recordings-view.js";
import { setUpSession } from "./session.js";
import { showStoppedUploads } from "./uploads-list.js";
import { usageView } from "./usage-view.js";

const views = { recordings: recordingsView, deleted: deletedView, usage: usageView };
const tabs = new BroadcastChannel("recordings");
let shown = null;
let latest = 0;

/** Load the current view. Its old content stays until the new one is there. */
async function show() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "recordings";
  const turn = ++latest;
  const view = byId("view");
  for (const tab of document.querySelectorAll(".tab")) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  view.setAttribute("aria-busy", "true");
  view.setAttribute("aria-label", document.querySelector(".tab[aria-current]").textContent);
  if (shown !== name) view.replaceChildren(skeleton());
  let content;
  try {
    content = await views[name](changed);
  } catch (error) {
    content = [message("This could not be loaded", error.message, "Try again", show)];
  }
  // Another view was opened meanwhile.
  if (turn !== latest) return;
  if (name !== "recordings") pausePlayers();
  const focused = view.contains(document.activeElement) && document.activeElement;
  view.replaceChildren(...content);
  // Rows that are kept lose the focus while they are moved.
  if (focused?.isConnected) focused.focus({ preventScroll: true });
  view.setAttribute("aria-busy", "false");
  shown = name;
}

function changed() {
  tabs.postMessage("changed");
  return show();
}

setUpCapture(() => changed());
await setUpSession(() => {
  if (!byId("call").value) byId("call").value = "Demo call";
  showStoppedUploads();
  addEventListener("hashchange", show);
  tabs.addEventListener("message", show);
  // Recordings of telephone calls come without this page.
  addEventListener("visibilitychange", () => document.hidden || show());
  show();
});
