// A curve by step: uPlot on a canvas, with what a canvas lacks. The values under the cursor are
// text, the keyboard moves the cursor as it would a slider, and a table has every number.
import { html, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./dom.js";
import uPlot from "./vendor/uplot-1.6.32/uPlot.mjs";
import { number } from "./format.js";
import { ema } from "./smoothing.js";

const TABLE_ROWS = 500;
const HEIGHT = 190;

/**
 * `x` are steps; `series` are {name, values, colour, low?, high?, dash?}: `colour` is the name of
 * a CSS variable, null values are gaps, `low` and `high` are drawn as intervals. `smoothing` is
 * the weight of an EMA, `stacked` sums the series up, `range` is [low, high] of the y axis,
 * `format` writes a value, `sync` ties the cursors of charts. `onPick(step)` is a click or Enter.
 */
export function Chart({
  title,
  x,
  series,
  format = number,
  smoothing = 0,
  stacked = false,
  range = null,
  sync = null,
  onPick = null,
  pickHint = "Enter or a click shows this step's rollouts.",
  height = HEIGHT,
  note = null,
}) {
  const [hidden, setHidden] = useState(() => new Set());
  const [index, setIndex] = useState(null);
  const [table, setTable] = useState(false);
  const hint = useId();
  const host = useRef(null);
  const plot = useRef(null);
  const shown = series.filter((one) => !hidden.has(one.name));
  const drawn = useMemo(() => layers(shown, { smoothing, stacked }), [x, series, hidden, smoothing, stacked]);
  const pick = useRef(onPick);
  pick.current = onPick;
  const newest = useRef(drawn);
  newest.current = drawn;
  const theme = useTheme();

  // The plot is made anew when it looks different; new numbers alone are only handed to it.
  const look = JSON.stringify([
    shown.map((one) => [one.name, one.colour, one.dash, Boolean(one.low)]),
    smoothing > 0, stacked, range, table, height, theme,
  ]); // prettier-ignore
  useLayoutEffect(() => {
    if (table || !host.current) return undefined;
    const options = {
      width: host.current.clientWidth || 400,
      height,
      ...looks(newest, { format, range, sync, stacked, host: host.current }),
    };
    options.hooks = {
      draw: [(u) => intervals(u, newest.current)],
      setCursor: [(u) => setIndex(u.cursor.idx ?? null)],
    };
    const made = (plot.current = new uPlot(options, [x, ...drawn.map((layer) => layer.values)], host.current));
    made.drawn = drawn;
    const stop = clicks(made, (at) => pick.current?.(made.data[0][at]));
    const sized = new ResizeObserver(() => {
      const width = host.current?.clientWidth;
      if (width && width !== made.width) made.setSize({ width, height });
    });
    sized.observe(host.current);
    return () => {
      stop();
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [look]);
  useEffect(() => {
    const made = plot.current;
    if (!made || made.drawn === drawn) return;
    made.drawn = drawn;
    const { min, max } = made.scales.x;
    const whole = min === made.data[0][0] && max === made.data[0].at(-1);
    const data = [x, ...drawn.map((layer) => layer.values)];
    if (data.length === made.data.length) made.setData(data, whole || made.data[0].length < 2);
  }, [x, drawn]);

  const at = index ?? x.length - 1;
  const move = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -Math.ceil(x.length / 10), PageDown: Math.ceil(x.length / 10), Home: -x.length, End: x.length }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      const next = Math.max(0, Math.min(x.length - 1, at + by));
      setIndex(next);
      const u = plot.current;
      u?.setCursor({ left: u.valToPos(x[next], "x"), top: u.over.clientHeight / 2 });
    } else if (event.key === "Enter" && onPick) {
      event.preventDefault();
      onPick(x[at]);
    }
  };
  const told = shown.map((one) => `${one.name} ${format(one.values[at])}`).join(", ");
  const toggle = (name) => {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  };
  return html`<figure class="chart">
    <figcaption>
      <h2>${title}</h2>
      <span class="chart-at soft small">${x.length > 0 && `step ${x[at] ?? "–"}`}</span>
      <button type="button" class="quiet small" aria-pressed=${table} onClick=${() => setTable(!table)}>
        Table<span class="hidden-text"> of ${title}</span>
      </button>
    </figcaption>
    ${note && html`<p class="soft small">${note}</p>`}
    <ul class="chart-legend">
      ${series.map(
        (one) => html`<li>
          <button type="button" class="legend-item" aria-pressed=${!hidden.has(one.name)} onClick=${() => toggle(one.name)}>
            <i style=${{ background: hidden.has(one.name) ? "transparent" : `var(${one.colour})`, borderColor: `var(${one.colour})` }}></i>
            <span>${one.name}</span>
            <b>${format(one.values[at])}</b>
            ${one.low && one.low[at] != null && html`<span class="soft">[${format(one.low[at])}, ${format(one.high[at])}]</span>`}
          </button>
        </li>`,
      )}
    </ul>
    ${table
      ? html`<${Numbers} x=${x} series=${shown} format=${format} title=${title} />`
      : html`<div
            class="plot"
            ref=${host}
            tabindex="0"
            role="slider"
            aria-label=${`${title}, by step`}
            aria-orientation="horizontal"
            aria-valuemin=${x[0] ?? 0}
            aria-valuemax=${x.at(-1) ?? 0}
            aria-valuenow=${x[at] ?? 0}
            aria-valuetext=${`step ${x[at] ?? 0}: ${told}`}
            aria-describedby=${onPick ? hint : undefined}
            style=${{ minHeight: `${height}px`, cursor: onPick ? "pointer" : "crosshair" }}
            onKeyDown=${move}
          ></div>
          ${onPick && html`<span class="hidden-text" id=${hint}>${pickHint}</span>`}`}
  </figure>`;
}

/** Changes with the colours of the page. */
export function useTheme() {
  const [turns, setTurns] = useState(0);
  useEffect(() => {
    const turned = () => setTurns((before) => before + 1);
    window.addEventListener("themechange", turned);
    return () => window.removeEventListener("themechange", turned);
  }, []);
  return turns;
}

/** What a CSS variable stands for in the colours of now, as a canvas understands it. */
export function colourOf(variable, element = document.body) {
  const probe = document.createElement("i");
  probe.style.color = `var(${variable})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** The lines to draw: with smoothing the plain one too, pale; stacked ones as sums. */
function layers(series, { smoothing, stacked }) {
  if (stacked) {
    let below = null;
    return series.map((one) => {
      const values = one.values.map((value, at) => (value ?? 0) + (below?.[at] ?? 0));
      below = values;
      return { ...one, values, faint: false };
    });
  }
  return series.flatMap((one) => {
    if (!smoothing || one.low) return [{ ...one, faint: false }];
    return [
      { ...one, faint: true },
      { ...one, values: ema(one.values, smoothing), faint: false },
    ];
  });
}

/** `newest.current` are the layers of now: the plot outlives them. */
function looks(newest, { format, range, sync, stacked, host }) {
  const drawn = newest.current;
  const soft = colourOf("--soft", host);
  const rule = colourOf("--rule", host);
  const font = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
  const axis = { stroke: soft, font, grid: { stroke: rule, width: 1 }, ticks: { show: false } };
  return {
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: {
      sync: sync ? { key: sync, setSeries: false, scales: ["x", null] } : undefined,
      y: false,
      drag: { x: true, y: false },
      points: { size: 6 },
    },
    scales: {
      x: { time: false },
      y: { range: (u, low, high) => span(newest.current, range, low, high) },
    },
    axes: [
      { ...axis, size: 24, gap: 2, space: 60, incrs: STEPS, values: (u, ticks) => ticks.map(String) },
      { ...axis, size: wide, gap: 4, space: 32, values: (u, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...drawn.map((layer, at) => {
        const colour = colourOf(layer.colour, host);
        return {
          label: layer.name,
          stroke: layer.faint ? pale(colour, 0.3) : colour,
          width: layer.faint ? 1 : 1.75,
          dash: layer.dash,
          fill: stacked && at === 0 ? pale(colour, 0.35) : undefined,
          spanGaps: Boolean(layer.low),
          points: layer.low ? { show: true, size: 7, fill: colour } : { show: layer.values.length < 3, size: 6 },
        };
      }),
    ],
    bands: stacked
      ? drawn.slice(1).map((layer, at) => ({ series: [at + 2, at + 1], fill: pale(colourOf(layer.colour, host), 0.35) }))
      : undefined,
  };
}

/** Room for the widest label of the y axis. */
function wide(u, labels) {
  return Math.max(40, 12 + 6.4 * Math.max(0, ...(labels ?? []).map((label) => label.length)));
}

// A step is a whole number.
const STEPS = [1, 2, 5].flatMap((first) => [...Array(9).keys()].map((power) => first * 10 ** power)).sort((a, b) => a - b);

/** The reach of the y axis: as asked, else what is there with some air; never nothing. */
function span(drawn, range, low, high) {
  if (range) return range;
  for (const layer of drawn) {
    for (const value of layer.low ?? []) if (value != null) low = Math.min(low ?? value, value);
    for (const value of layer.high ?? []) if (value != null) high = Math.max(high ?? value, value);
  }
  if (low == null || high == null) return [0, 1];
  if (low === high) {
    const air = Math.abs(low) / 2 || 0.5;
    return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
  }
  const air = 0.08 * (high - low);
  return [low >= 0 && low < high / 2 ? 0 : low - air, high + air];
}

/** A colour as the browser computes it, `rgb(...)`, made to let so much of itself be seen. */
function pale(colour, alpha) {
  return colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
}

/** Draws `low` to `high` of every point that has them. */
function intervals(u, drawn) {
  const { ctx } = u;
  for (const layer of drawn) {
    if (!layer.low) continue;
    ctx.save();
    ctx.strokeStyle = colourOf(layer.colour, u.root);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    for (const [at, step] of u.data[0].entries()) {
      if (layer.low[at] == null) continue;
      const left = u.valToPos(step, "x", true);
      const [from, to] = [u.valToPos(layer.low[at], "y", true), u.valToPos(layer.high[at], "y", true)];
      const wing = 3 * devicePixelRatio;
      ctx.moveTo(left, from);
      ctx.lineTo(left, to);
      for (const end of [from, to]) {
        ctx.moveTo(left - wing, end);
        ctx.lineTo(left + wing, end);
      }
    }
    ctx.stroke();
    ctx.restore();
  }
}

/** Calls `onPick(index)` for a click that is no drag. Returns what ends it. */
function clicks(u, onPick) {
  let from = null;
  const down = (event) => (from = [event.clientX, event.clientY]);
  const up = (event) => {
    const still = from && Math.hypot(event.clientX - from[0], event.clientY - from[1]) < 4;
    if (still && u.cursor.idx != null) onPick(u.cursor.idx);
    from = null;
  };
  u.over.addEventListener("mousedown", down);
  u.over.addEventListener("click", up);
  return () => {
    u.over.removeEventListener("mousedown", down);
    u.over.removeEventListener("click", up);
  };
}

function Numbers({ x, series, format, title }) {
  const every = Math.max(1, Math.ceil(x.length / TABLE_ROWS));
  const rows = x.map((step, at) => [step, at]).filter(([, at]) => at % every === 0 || at === x.length - 1);
  return html`<div class="wide-table chart-table" tabindex="0" role="region" aria-label=${`Table of ${title}`}>
    <table>
      <thead>
        <tr><th scope="col" class="numeric">step</th>${series.map((one) => html`<th scope="col" class="numeric">${one.name}</th>`)}</tr>
      </thead>
      <tbody>
        ${rows.map(
          ([step, at]) =>
            html`<tr><th scope="row" class="numeric">${step}</th>${series.map((one) => html`<td class="numeric">${format(one.values[at])}</td>`)}</tr>`,
        )}
      </tbody>
    </table>
    ${every > 1 && html`<p class="soft small">Every ${every}th step of ${x.length}.</p>`}
  </div>`;
}
