// Plays recordings: one at a time, with a slider that is the waveform.

import { pathOf } from "./api.js";
import { clock, spoken } from "./format.js";

const STEP_SECONDS = 5;
let active = null;

/** Makes one row of the list a player. */
export class Player {
  #row;
  #recording;
  #wave;
  #audio = null;
  #duration = 0;
  #position = 0;

  constructor(row, recording) {
    this.#row = row;
    this.#recording = recording;
    this.#wave = row.querySelector(".wave");
    this.#wave.setAttribute("aria-label", `Position in ${recording.title}`);
    row.querySelector(".play").addEventListener("click", () => this.toggle());
    this.#wave.addEventListener("keydown", (event) => this.#key(event));
    this.#wave.addEventListener("pointerdown", (event) => this.#drag(event));
    this.#show();
  }

  /** Set the length in seconds, which a recording of a browser does not always contain. */
  set duration(seconds) {
    this.#duration = seconds || 0;
    this.#show();
  }

  toggle() {
    if (this.#row.dataset.state === "paused") this.play();
    else this.pause();
  }

  play() {
    if (active !== this) active?.pause();
    active = this;
    const audio = this.#open();
    this.#state("loading");
    audio.play().catch((error) => {
      // Pausing before the first byte has come is no error.
      if (error.name !== "AbortError") this.#failed();
    });
  }

  pause() {
    this.#audio?.pause();
    this.#state("paused");
  }

  /** Stop and give up the connection, before the row goes away. */
  close() {
    this.pause();
    this.#audio?.removeAttribute("src");
    this.#audio = null;
    if (active === this) active = null;
  }

  seek(seconds) {
    this.#position = Math.min(Math.max(0, seconds), this.#duration || seconds);
    const audio = this.#open();
    if (audio.readyState) audio.currentTime = this.#position;
    this.#show();
  }

  #open() {
    if (this.#audio) return this.#audio;
    const audio = new Audio();
    audio.preload = "metadata";
    audio.src = pathOf(this.#recording);
    audio.addEventListener("loadedmetadata", () => {
      if (!this.#duration && Number.isFinite(audio.duration)) this.#duration = audio.duration;
      if (this.#position) audio.currentTime = this.#position;
      this.#show();
    });
    audio.addEventListener("timeupdate", () => {
      if (!audio.seeking && audio.readyState) this.#position = audio.currentTime;
      this.#show();
    });
    audio.addEventListener("playing", () => this.#state("playing"));
    audio.addEventListener("waiting", () => audio.paused || this.#state("loading"));
    audio.addEventListener("pause", () => this.#state("paused"));
    audio.addEventListener("ended", () => {
      this.#position = 0;
      audio.currentTime = 0;
      this.#state("paused");
    });
    audio.addEventListener("error", () => audio.src && this.#failed());
    this.#audio = audio;
    return audio;
  }

  #failed() {
    this.#state("paused");
    this.#audio = null;
    this.#row.querySelector(".row-error").textContent = navigator.onLine
      ? "This recording cannot be played here. Download it to play it elsewhere."
      : "You are offline. Try again when the network is back.";
  }

  #key(event) {
    const tenth = (this.#duration || 50) / 10;
    const moves = {
      ArrowRight: STEP_SECONDS, ArrowUp: STEP_SECONDS, ArrowLeft: -STEP_SECONDS, ArrowDown: -STEP_SECONDS,
      PageUp: tenth, PageDown: -tenth, Home: -Infinity, End: this.#duration,
    };
    if (event.key === " " || event.key === "Enter") this.toggle();
    else if (event.key in moves) this.seek(this.#position + moves[event.key]);
    else return;
    event.preventDefault();
  }

  #drag(event) {
    if (event.button || !this.#duration) return;
    const box = this.#wave.getBoundingClientRect();
    const move = ({ clientX }) => this.seek(((clientX - box.left) / box.width) * this.#duration);
    const stop = () => {
      this.#wave.removeEventListener("pointermove", move);
      this.#wave.removeEventListener("pointerup", stop);
      this.#wave.removeEventListener("pointercancel", stop);
    };
    this.#wave.setPointerCapture(event.pointerId);
    this.#wave.addEventListener("pointermove", move);
    this.#wave.addEventListener("pointerup", stop);
    this.#wave.addEventListener("pointercancel", stop);
    move(event);
  }

  #state(state) {
    this.#row.dataset.state = state;
    if (state !== "paused") this.#row.querySelector(".row-error").textContent = "";
    this.#show();
  }

  #show() {
    const [position, duration] = [this.#position, this.#duration];
    const playing = this.#row.dataset.state !== "paused";
    const touched = playing || position > 0;
    this.#row.dataset.touched = touched;
    this.#row.querySelector(".play").setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${this.#recording.title}`);
    this.#row.querySelector(".row-position").textContent = touched ? clock(position) : "";
    this.#row.querySelector(".row-duration").textContent = duration ? clock(duration) : "–:––";
    this.#wave.style.setProperty("--played", duration ? Math.min(1, position / duration) : 0);
    this.#wave.setAttribute("aria-valuemax", Math.round(duration));
    this.#wave.setAttribute("aria-valuenow", Math.round(position));
    this.#wave.setAttribute("aria-valuetext", `${spoken(position)} of ${spoken(duration)}`);
  }
}
