// Draws a waveform as bars that fill the width of their box. The CSS colours and clips it.

const SVG = "http://www.w3.org/2000/svg";
const NARROWEST_STEP = 5;
const watcher = new ResizeObserver((entries) => entries.forEach(({ target }) => draw(target)));
const peaksOf = new WeakMap();

/** Show these peaks (0 to 100) in a box; without peaks, a flat line. */
export function showWaveform(box, peaks) {
  peaksOf.set(box, peaks ?? []);
  if (!box.firstChild) {
    for (const name of ["wave-rest", "wave-played"]) {
      const image = document.createElementNS(SVG, "svg");
      image.setAttribute("class", name);
      image.setAttribute("aria-hidden", "true");
      image.append(document.createElementNS(SVG, "path"));
      box.append(image);
    }
    watcher.observe(box);
  }
  draw(box);
}

function draw(box) {
  const { clientWidth: width, clientHeight: height } = box;
  if (!width) return;
  const count = Math.max(1, Math.floor(width / NARROWEST_STEP));
  const step = width / count;
  const middle = height / 2;
  const line = fitted(peaksOf.get(box), count)
    .map((peak, at) => {
      const half = Math.max(0.5, (peak / 100) * (middle - 3));
      return `M${((at + 0.5) * step).toFixed(2)} ${(middle - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
    })
    .join("");
  for (const path of box.querySelectorAll("path")) path.setAttribute("d", line);
}

// The loudest peak of each bar's stretch.
function fitted(peaks, count) {
  return Array.from({ length: count }, (_, at) => {
    const from = Math.floor((at * peaks.length) / count);
    const to = Math.max(from + 1, Math.floor(((at + 1) * peaks.length) / count));
    return Math.max(0, ...peaks.slice(from, to));
  });
}
