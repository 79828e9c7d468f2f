// A stream along the whole completion, in a strip: where the credit lies, seen at one glance.
// A column of pixels shows the lowest and the highest of its tokens; a click jumps there.

import { html, useLayoutEffect, useRef } from "./dom.js";

const HEIGHT = 56;

export function Trail({ values, scale, current, onJump }) {
  const canvas = useRef(null);
  useLayoutEffect(() => {
    const element = canvas.current;
    const redraw = () => draw(element, values, scale, current);
    redraw();
    let drawn = element.clientWidth;
    const size = new ResizeObserver(() => {
      if (element.clientWidth === drawn) return;
      drawn = element.clientWidth;
      redraw();
    });
    size.observe(element);
    window.addEventListener("themechange", redraw);
    return () => {
      size.disconnect();
      window.removeEventListener("themechange", redraw);
    };
  }, [values, scale, current]);
  const jump = (event) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    onJump(Math.floor(((event.clientX - left) / width) * values.length));
  };
  return html`<canvas class="trail" ref=${canvas} onClick=${jump} aria-hidden="true"></canvas>`;
}

function draw(canvas, values, scale, current) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(HEIGHT * ratio);
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const colour = (name) => style.getPropertyValue(name).trim();
  pen.scale(ratio, ratio);
  const bottom = HEIGHT - 2;
  const zero = scale.signed ? HEIGHT / 2 : bottom;
  const reach = scale.signed ? HEIGHT / 2 - 2 : HEIGHT - 4;
  const y = (value) => {
    const place = Math.max(-1, Math.min(1, (value - scale.origin) / scale.edge));
    return zero - (scale.signed ? place : Math.abs(place)) * reach;
  };
  pen.fillStyle = colour("--trail-axis");
  pen.fillRect(0, zero - 0.5, width, 1);
  const columns = Math.max(1, Math.min(Math.floor(width), values.length));
  const wide = width / columns;
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column * values.length) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * values.length) / columns));
    let [top, low] = [zero, zero];
    for (let index = from; index < to; index++) {
      if ((values[index] ?? null) === null) continue;
      top = Math.min(top, y(values[index]));
      low = Math.max(low, y(values[index]));
    }
    const gap = wide > 4 ? 1 : 0;
    pen.fillStyle = colour(scale.signed ? "--trail-up" : "--trail-much");
    if (top < zero) pen.fillRect(column * wide, top, wide - gap, zero - top);
    pen.fillStyle = colour("--trail-down");
    if (low > zero) pen.fillRect(column * wide, zero, wide - gap, low - zero);
  }
  const here = ((current + 0.5) / values.length) * width;
  pen.fillStyle = colour("--trail-here");
  pen.fillRect(here - 1, 0, 2, HEIGHT);
}
