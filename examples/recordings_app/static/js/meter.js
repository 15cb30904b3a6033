// Shows how loud the microphone is, as bars that move from right to left.

const BARS = 32;
const FRAME_MS = 60;

export class Meter {
  #bars;
  #levels = new Array(BARS).fill(0);
  #context = null;
  #timer = 0;

  constructor(box) {
    this.#bars = Array.from({ length: BARS }, () => {
      const bar = document.createElement("span");
      bar.className = "meter-bar";
      return bar;
    });
    box.append(...this.#bars);
  }

  start(stream) {
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const loudness = Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
      this.#push(Math.min(1, loudness * 4));
    }, FRAME_MS);
  }

  /** Stand still, or go on. */
  pause(paused) {
    if (paused) this.#context?.suspend();
    else this.#context?.resume();
  }

  stop() {
    clearInterval(this.#timer);
    this.#context?.close();
    this.#context = null;
    this.#levels.fill(0);
    this.#draw();
  }

  #push(level) {
    if (this.#context?.state !== "running") return;
    this.#levels.push(level);
    this.#levels.shift();
    this.#draw();
  }

  #draw() {
    this.#bars.forEach((bar, at) => {
      bar.style.transform = `scaleY(${Math.max(0.08, this.#levels[at])})`;
    });
  }
}
