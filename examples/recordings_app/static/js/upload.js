// Uploads one file straight to the bucket, in parts, and goes on after pauses and lost networks.
//
// The app's server decides what may be uploaded: it gives a ticket, signs each request to the
// bucket, and checks at the end what the bucket holds.

import { api, ApiError } from "./api.js";
import { forgetUpload, keepUpload } from "./kept-uploads.js";

const AT_ONCE = 2;
const MOST_ATTEMPTS = 6;
const TYPES = {
  flac: "audio/flac", m4a: "audio/mp4", mp3: "audio/mpeg", mp4: "audio/mp4",
  oga: "audio/ogg", ogg: "audio/ogg", opus: "audio/ogg", wav: "audio/wav", webm: "audio/webm",
};

/**
 * Fires "change". `state` is waiting, uploading, offline, paused, checking, done, failed or
 * cancelled; `sent` and `size` are bytes; `error` says why it failed, and
 * `final` whether it would fail again; `key` names the stored file.
 */
export class Upload extends EventTarget {
  #file;
  #call;
  #ticket = null;
  #isContinued = false;
  #etags = new Map();
  #loaded = new Map();
  #requests = new Set();
  #wake = null;

  /** `ticket` is that of an upload of this file which the bucket holds a part of. */
  constructor(file, call, filename = file.name, ticket = null) {
    super();
    this.#ticket = ticket;
    this.#isContinued = Boolean(ticket);
    this.#file = file;
    this.#call = call;
    this.filename = filename;
    this.size = file.size;
    this.state = "waiting";
    this.error = "";
    this.final = false;
    this.key = null;
  }

  get sent() {
    let sum = 0;
    for (const count of this.#loaded.values()) sum += count;
    return Math.min(sum, this.size);
  }

  /** Upload until it is done, paused, failed or cancelled. */
  async run() {
    if (!this.size) return this.#fail(new ApiError("The file is empty.", 422));
    let failures = 0;
    this.#set("uploading");
    while (this.state === "uploading") {
      const before = this.sent;
      try {
        await this.#attempt();
      } catch (error) {
        if (this.state !== "uploading" && this.state !== "checking") return;
        failures = this.sent > before ? 1 : failures + 1;
        // A lost network is waited out, however long it takes; a server that fails is not.
        const offline = error.status === 0;
        if (!error.temporary || (!offline && failures > MOST_ATTEMPTS)) return this.#fail(error);
        this.#set(offline ? "offline" : "uploading");
        await this.#pauseBeforeRetry(failures);
        if (this.state === "offline" || this.state === "checking") this.#set("uploading");
      }
    }
  }

  pause() {
    this.#stop("paused");
  }

  resume() {
    return this.run();
  }

  /** Stop, and drop what the bucket holds of it. */
  async cancel() {
    const finished = this.state === "done";
    this.#stop("cancelled");
    this.#forget();
    if (this.#ticket && !finished) await api("DELETE", this.#at).catch(() => {});
  }

  get #at() {
    return `api/uploads/s3/multipart/${this.#ticket.ticket}`;
  }

  async #attempt() {
    if (this.#isContinued) await this.#findParts();
    if (!this.#ticket) {
      this.#ticket = await api("POST", "api/uploads/create", {
        filename: this.filename, type: typeOf(this.#file), size: this.size, metadata: { call_id: this.#call },
      });
      // What the page recorded is no file that could be chosen again.
      if (this.#ticket.multipart && this.#file instanceof File) keepUpload(this.#call, this.#file, this.#ticket);
    }
    if (this.#ticket.multipart) await this.#sendParts();
    else if (!this.#etags.has(1)) await this.#send(1, () => api("POST", "api/uploads/s3/presign", { ticket: this.#ticket.ticket, method: "PUT" }), this.#file);
    this.#set("checking");
    this.key = (await this.#complete()).key;
    this.#forget();
    this.#set("done");
  }

  // Begins anew if the ticket has expired, or the bucket no longer holds the upload.
  async #findParts() {
    try {
      for (const { PartNumber, ETag, Size } of await api("GET", this.#at)) {
        this.#etags.set(PartNumber, ETag);
        this.#loaded.set(PartNumber, Size);
      }
      this.#changed();
    } catch (error) {
      if (error.temporary) throw error;
      this.#forget();
      this.#ticket = null;
    }
    this.#isContinued = false;
  }

  #forget() {
    if (this.#ticket) forgetUpload(this.#ticket);
  }

  async #complete() {
    const parts = [...this.#etags].map(([PartNumber, ETag]) => ({ PartNumber, ETag }));
    try {
      return await api("POST", `${this.#at}/complete`, this.#ticket.multipart ? { parts } : {});
    } catch (error) {
      if (error.status !== 409) throw error;
      // The bucket lacks some parts: send these again.
      const missing = error.body?.missing?.length ? error.body.missing : [...this.#etags.keys()];
      for (const number of missing) {
        this.#etags.delete(number);
        this.#loaded.delete(number);
      }
      throw new ApiError(error.message, 503);
    }
  }

  async #sendParts() {
    const { partCount, partSize } = this.#ticket;
    const numbers = Array.from({ length: partCount }, (_, at) => at + 1).filter((number) => !this.#etags.has(number));
    const worker = async () => {
      for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
        const start = (number - 1) * partSize;
        await this.#send(number, () => api("GET", `${this.#at}/${number}`), this.#file.slice(start, start + partSize));
      }
    };
    const workers = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, numbers.length) }, worker));
    const failed = workers.find(({ status }) => status === "rejected");
    if (failed) throw failed.reason;
  }

  async #send(number, sign, blob) {
    const signed = await sign();
    if (this.state !== "uploading") throw new ApiError("The upload was stopped.", 0);
    const etag = await this.#put(number, signed, blob);
    this.#etags.set(number, etag);
    this.#progress(number, blob.size);
  }

  // Only XMLHttpRequest reports how much of a body was sent.
  #put(number, { url, headers }, blob) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("PUT", url);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => this.#progress(number, event.loaded);
      request.onload = () => {
        if (request.status === 200) resolve(request.getResponseHeader("ETag"));
        // A signature that expired during a pause is a 403, too: the next attempt has a new one.
        else reject(new ApiError(`The bucket refused a part (${request.status}).`, request.status === 403 ? 503 : request.status));
      };
      request.onerror = () => reject(new ApiError("The network failed.", 0));
      request.onabort = () => reject(new ApiError("The upload was stopped.", 0));
      request.onloadend = () => {
        this.#requests.delete(request);
        if (!this.#etags.has(number) && request.status !== 200) this.#progress(number, 0);
      };
      this.#requests.add(request);
      request.send(blob);
    });
  }

  #progress(number, count) {
    this.#loaded.set(number, count);
    this.#changed();
  }

  // Wait a little longer each time, or until the browser reports a network again.
  #pauseBeforeRetry(failures) {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        removeEventListener("online", wake);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(wake, Math.min(30_000, 500 * 2 ** failures));
      addEventListener("online", wake);
      this.#wake = wake;
    });
  }

  #stop(state) {
    this.#set(state);
    for (const request of this.#requests) request.abort();
    this.#wake?.();
  }

  #fail(error) {
    this.error = error.message;
    this.final = !error.temporary;
    this.#stop("failed");
  }

  #set(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function typeOf(file) {
  const ending = file.name?.split(".").pop().toLowerCase() ?? "";
  return TYPES[ending] || file.type || "application/octet-stream";
}
