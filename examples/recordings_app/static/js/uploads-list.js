// The list of running uploads, below the place where files are dropped.

import { api } from "./api.js";
import { announce, byId, copyOf } from "./dom.js";
import { bytes } from "./format.js";
import { forgetUpload, keptUploadOf, keptUploads } from "./kept-uploads.js";
import { Upload } from "./upload.js";

const running = new Set();

/** Whether closing the page would lose an upload. */
export const isUploading = () => running.size > 0;

/** Show the uploads that a reload of the page has stopped; choosing their files again continues them. */
export function showStoppedUploads() {
  for (const kept of keptUploads()) {
    const row = copyOf("upload");
    row.dataset.state = "stopped";
    row.dataset.ticket = kept.ticket.ticket;
    row.querySelector(".upload-name").textContent = kept.filename;
    row.querySelector(".upload-status").textContent = "The page was reloaded. Choose this file again to continue.";
    row.querySelector(".progress").remove();
    const [pause, resume, cancel] = ["pause", "resume", "cancel"].map((name) => row.querySelector(`.upload-${name}`));
    pause.hidden = true;
    resume.hidden = false;
    resume.setAttribute("aria-label", `Choose ${kept.filename} again`);
    resume.addEventListener("click", () => byId("files").click());
    cancel.setAttribute("aria-label", `Cancel the upload of ${kept.filename}`);
    cancel.addEventListener("click", () => {
      forgetUpload(kept.ticket);
      row.remove();
      byId("files").focus();
      api("DELETE", `api/uploads/s3/multipart/${kept.ticket.ticket}`).catch(() => {});
    });
    byId("uploads").append(row);
  }
}

/** Upload a file that the user chose, or continue the upload of it that was stopped. */
export function uploadChosen(file, call, onDone) {
  const kept = keptUploadOf(file);
  const stopped = kept && [...byId("uploads").children].find(({ dataset }) => dataset.ticket === kept.ticket.ticket);
  stopped?.remove();
  // Without its row the upload is running, in this page: the user wants the file twice.
  if (stopped) upload(file, kept.call, file.name, () => onDone(kept.call), kept.ticket);
  else upload(file, call, file.name, () => onDone(call));
}

/** Upload a file and show its progress. `onDone` is called when it is stored. */
export function upload(file, call, filename, onDone, ticket = null) {
  const each = new Upload(file, call, filename, ticket);
  const row = copyOf("upload");
  row.querySelector(".upload-name").textContent = each.filename;
  row.querySelector(".upload-name").title = each.filename;
  const [pause, resume, cancel] = ["pause", "resume", "cancel"].map((name) => {
    const button = row.querySelector(`.upload-${name}`);
    button.setAttribute("aria-label", `${name[0].toUpperCase()}${name.slice(1)} the upload of ${each.filename}`);
    return button;
  });
  row.querySelector(".progress").setAttribute("aria-label", `Upload of ${each.filename}`);
  byId("uploads").append(row);

  let shown = "";
  each.addEventListener("change", () => {
    show(row, each, pause, resume);
    if (each.state === shown) return;
    shown = each.state;
    if (["paused", "offline", "failed", "done"].includes(shown)) announce(`${each.filename}: ${statusOf(each)}`);
    if (["done", "failed", "cancelled"].includes(shown)) running.delete(each);
    if (shown === "done") {
      row.remove();
      onDone(each);
    }
  });
  pause.addEventListener("click", () => {
    each.pause();
    resume.focus();
  });
  resume.addEventListener("click", () => {
    start();
    pause.focus();
  });
  cancel.addEventListener("click", () => {
    each.cancel();
    row.remove();
    announce(`The upload of ${each.filename} was cancelled.`);
    byId("files").focus();
  });

  function start() {
    running.add(each);
    each.run();
  }
  start();
}

function show(row, each, pause, resume) {
  row.dataset.state = each.state;
  const percent = each.size ? Math.round((100 * each.sent) / each.size) : 0;
  row.querySelector(".progress").setAttribute("aria-valuenow", percent);
  row.querySelector(".progress-bar").style.transform = `scaleX(${each.size ? each.sent / each.size : 0})`;
  row.querySelector(".upload-status").textContent = statusOf(each);
  resume.hidden = !["paused", "failed"].includes(each.state);
  pause.hidden = !resume.hidden;
  resume.hidden ||= each.final;
  pause.disabled = each.state === "checking";
}

function statusOf({ state, sent, size, error }) {
  const amount = `${bytes(sent)} of ${bytes(size)}`;
  if (state === "paused") return `Paused at ${amount}`;
  if (state === "offline") return `${amount}. Waiting for the network`;
  if (state === "checking") return "Checking";
  if (state === "done") return "Stored";
  if (state === "failed") return error;
  return amount;
}
