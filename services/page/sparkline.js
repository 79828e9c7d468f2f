// A curve as small as a word: where the reward came from and where it is.
import { html } from "./dom.js";

const WIDTH = 92;
const HEIGHT = 24;

/** `points` are [x, y] in order of x. */
export function Sparkline({ points, label }) {
  if (points.length < 2) return html`<svg class="spark" width=${WIDTH} height=${HEIGHT} aria-hidden="true"></svg>`;
  const ys = points.map(([, y]) => y);
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const x = (value) => 2 + ((WIDTH - 6) * (value - first)) / (last - first || 1);
  const y = (value) => HEIGHT - 3 - ((HEIGHT - 6) * (value - low)) / (high - low || 1);
  const path = points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(" ");
  return html`<svg class="spark" width=${WIDTH} height=${HEIGHT} role="img" aria-label=${label}>
    <polyline points=${path} />
    <circle cx=${x(last).toFixed(1)} cy=${y(ys.at(-1)).toFixed(1)} r="2" />
  </svg>`;
}
