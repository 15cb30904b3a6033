// Records the microphone and sends the audio to the server while it is being made.

const CHUNK_MS = 500;
const TYPES = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];
const ENDINGS = { "audio/webm": "webm", "audio/ogg": "ogg", "audio/mp4": "m4a" };
// The server gives a long recording its index before it replies.
const REPLY_MS = 120_000;

/** Why this browser cannot record here, or "". */
export function whyNot() {
  if (!window.isSecureContext) return "Browsers allow the microphone on https pages only.";
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return "This browser cannot record audio.";
  return "";
}

/**
 * One recording. Every chunk goes to the server at once, and is kept here until the server has
 * confirmed the whole: if the connection is lost, nothing of the recording is.
 *
 * Fires "change" when `online` changes.
 */
export class Recorder extends EventTarget {
  #stream;
  #media;
  #socket = null;
  #chunks = [];
  #started = 0;
  #before = 0;
  #reply = null;
  #name = null;

  constructor(call) {
    super();
    this.call = call;
    this.online = true;
  }

  get stream() {
    return this.#stream;
  }

  /** Seconds of audio so far, without the pauses. */
  get seconds() {
    return (this.#before + (this.#started ? performance.now() - this.#started : 0)) / 1000;
  }

  /** Ask for the microphone and begin. */
  async start() {
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.#media = new MediaRecorder(this.#stream, { mimeType });
    this.#connect();
    this.#media.addEventListener("dataavailable", ({ data }) => this.#keep(data));
    this.#media.start(CHUNK_MS);
    this.#started = performance.now();
  }

  /** Call `run` when the microphone goes away, as when a headset is unplugged. */
  onEnded(run) {
    for (const track of this.#stream.getTracks()) track.addEventListener("ended", run);
  }

  pause() {
    this.#media.pause();
    this.#before += performance.now() - this.#started;
    this.#started = 0;
  }

  resume() {
    this.#media.resume();
    this.#started = performance.now();
  }

  /**
   * End the recording. Returns null when the server has stored it. Otherwise it returns what is to
   * be uploaded, {blob, filename}, and the `name` of what the server has of it, if anything.
   */
  async stop() {
    if (this.#started) this.#before += performance.now() - this.#started;
    this.#started = 0;
    if (this.#media.state !== "inactive") {
      const stopped = new Promise((resolve) => this.#media.addEventListener("stop", resolve, { once: true }));
      this.#media.stop();
      await stopped;
    }
    for (const track of this.#stream.getTracks()) track.stop();
    if (await this.#confirmed()) return null;
    const type = this.#media.mimeType.split(";")[0];
    const blob = new Blob(this.#chunks, { type });
    return { blob, filename: `microphone.${ENDINGS[type] ?? "webm"}`, name: this.#name };
  }

  #connect() {
    const url = new URL(`api/live/${encodeURIComponent(this.call)}`, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("content_type", this.#media.mimeType || "audio/webm");
    const socket = new WebSocket(url);
    this.#reply = new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => {
        const { name, stored } = JSON.parse(data);
        if (name) this.#name = name;
        if (stored !== undefined) resolve(stored);
      });
      socket.addEventListener("close", () => {
        this.#online(false);
        resolve(false);
      });
    });
    socket.addEventListener("open", () => this.#chunks.forEach((chunk) => socket.send(chunk)));
    this.#socket = socket;
  }

  #keep(chunk) {
    if (!chunk.size) return;
    this.#chunks.push(chunk);
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(chunk);
  }

  async #confirmed() {
    if (this.#socket.readyState > WebSocket.OPEN) return false;
    if (this.#socket.readyState === WebSocket.CONNECTING) {
      await new Promise((resolve) => ["open", "close"].forEach((name) => this.#socket.addEventListener(name, resolve, { once: true })));
    }
    if (this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send("end");
    const late = new Promise((resolve) => setTimeout(resolve, REPLY_MS, false));
    const stored = await Promise.race([this.#reply, late]);
    this.#socket.close();
    return stored;
  }

  #online(online) {
    if (this.#media.state === "inactive") return;
    this.online = online;
    this.dispatchEvent(new Event("change"));
  }
}
