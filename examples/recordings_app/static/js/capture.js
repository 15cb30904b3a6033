// The card that records and uploads.

import { api, pathOf } from "./api.js";
import { announce, byId, toast } from "./dom.js";
import { clock } from "./format.js";
import { Meter } from "./meter.js";
import { Recorder, whyNot } from "./recorder.js";
import { isUploading, upload, uploadChosen } from "./uploads-list.js";

const NOTES = {
  idle: "Uploads while you speak.",
  asking: "Allow the microphone.",
  recording: "Saving as you speak.",
  paused: "Paused.",
  saving: "Saving…",
};

let recorder = null;
let timer = 0;

/** Prepare the card. `onStored` is called when there is a new recording. */
export function setUpCapture(onStored) {
  const meter = new Meter(byId("meter"));
  const [record, pause, stop] = ["record", "record-pause", "record-stop"].map(byId);

  record.addEventListener("click", async () => {
    const call = callName();
    if (!call) return;
    byId("recorder-error").textContent = whyNot();
    if (whyNot()) return;
    recorder = new Recorder(call);
    show("asking");
    try {
      await recorder.start();
    } catch (error) {
      recorder = null;
      byId("recorder-error").textContent = microphoneError(error);
      return show("idle");
    }
    meter.start(recorder.stream);
    recorder.addEventListener("change", () => show(byId("recorder").dataset.state));
    recorder.onEnded(() => stop.click());
    timer = setInterval(showTime, 250);
    show("recording");
    announce("Recording.");
    stop.focus();
  });

  pause.addEventListener("click", () => {
    const paused = byId("recorder").dataset.state === "recording";
    if (paused) recorder.pause();
    else recorder.resume();
    meter.pause(paused);
    show(paused ? "paused" : "recording");
    announce(paused ? "Paused." : "Recording.");
  });

  stop.addEventListener("click", async () => {
    if (!recorder || byId("recorder").dataset.state === "saving") return;
    const ended = recorder;
    clearInterval(timer);
    show("saving");
    meter.stop();
    const rest = await ended.stop();
    recorder = null;
    show("idle");
    record.focus();
    if (rest) recover(ended.call, rest, onStored);
    else {
      toast("The recording is stored.");
      onStored(ended.call);
    }
  });

  setUpFiles(onStored);
  addEventListener("beforeunload", (event) => {
    if (recorder || isUploading()) event.preventDefault();
  });
}

// The connection was lost: upload the whole recording, then drop what the server has of it.
function recover(call, { blob, filename, name }, onStored) {
  if (!blob.size) {
    byId("recorder-error").textContent = "The microphone sent no audio. Nothing was stored.";
    return;
  }
  toast("The connection was lost. The recording is being uploaded again.");
  upload(blob, call, filename, async () => {
    if (name) await api("DELETE", pathOf({ call, name })).catch(() => {});
    toast("The recording is stored.");
    onStored(call);
  });
}

function setUpFiles(onStored) {
  const drop = byId("drop");
  const send = (files) => {
    const call = callName();
    if (!call) return;
    for (const file of files) {
      uploadChosen(file, call, (stored) => {
        toast(`${file.name} is stored.`);
        onStored(stored);
      });
    }
  };
  byId("files").addEventListener("change", ({ target }) => {
    send([...target.files]);
    target.value = "";
  });
  const over = (event) => {
    event.preventDefault();
    drop.dataset.over = event.type === "dragover";
  };
  drop.addEventListener("dragover", over);
  drop.addEventListener("dragleave", over);
  drop.addEventListener("drop", (event) => {
    over(event);
    send([...event.dataTransfer.files]);
  });
  // A file that misses the box must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
}

/** Return the name of the call, or "" after showing what is wrong with it. */
function callName() {
  const input = byId("call");
  const name = input.value.trim();
  const wrong = !name
    ? "Give the call a name, or the number of a case."
    : /[/\\]|^\.{1,2}$/.test(name) ? "A call cannot have a slash in its name." : "";
  byId("call-error").textContent = wrong;
  input.setAttribute("aria-invalid", Boolean(wrong));
  if (wrong) input.focus();
  return wrong ? "" : name;
}

function show(state) {
  byId("recorder").dataset.state = state;
  const active = state === "recording" || state === "paused";
  byId("record").hidden = active || state === "saving";
  byId("record").disabled = state === "asking";
  byId("record-stop").hidden = !active && state !== "saving";
  byId("record-stop").disabled = state === "saving";
  byId("record-pause").hidden = !active;
  byId("record-pause").querySelector("span").textContent = state === "paused" ? "Resume" : "Pause";
  byId("record-pause").querySelector("use").setAttribute("href", state === "paused" ? "#icon-record" : "#icon-pause");
  byId("call").disabled = active || state === "saving";
  const note = byId("recorder-note");
  const offline = active && !recorder.online;
  note.textContent = offline ? "No connection: kept in this tab." : NOTES[state];
  note.dataset.kind = offline ? "warning" : "";
  if (offline) announce("The connection was lost. The recording goes on in this tab.");
  if (state === "idle") byId("recorder-time").textContent = clock(0);
}

function showTime() {
  byId("recorder-time").textContent = clock(recorder?.seconds ?? 0);
}

function microphoneError({ name }) {
  if (name === "NotAllowedError") return "The microphone is blocked. Allow it in the browser's settings for this page.";
  if (name === "NotFoundError") return "No microphone was found.";
  return "The microphone cannot be used. Is another program using it?";
}
