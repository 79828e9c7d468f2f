// Numbers, times and durations as people read them. Pure.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A number in few characters: 0.537, 12.3, 4,210, 1.3e-6; "–" for what is not there. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(1).replace("-", "−");
  const places = Math.max(0, digits - (size >= 1 ? Math.floor(Math.log10(size)) + 1 : 0));
  return new Intl.NumberFormat("en", {
    minimumFractionDigits: Number.isInteger(value) ? 0 : places,
    maximumFractionDigits: places,
  })
    .format(value)
    .replace("-", "−");
}

/** A count: 1,234 or 1.2 M. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value < 100_000) return new Intl.NumberFormat("en").format(value);
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

/** A share as a percentage: 0.5375 is 53.8 %. */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  return `${(100 * share).toFixed(digits)} %`;
}

/** Seconds as a duration: 42 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < MINUTE) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < HOUR) return two(whole, MINUTE, "min", 1, "s");
  if (whole < DAY) return two(whole, HOUR, "h", MINUTE, "min");
  return two(whole, DAY, "d", HOUR, "h");
}

function two(seconds, large, largeUnit, small, smallUnit) {
  const first = Math.floor(seconds / large);
  const rest = Math.floor((seconds % large) / small);
  return rest ? `${first} ${largeUnit} ${rest} ${smallUnit}` : `${first} ${largeUnit}`;
}

/** Seconds since the epoch as a local time. */
export function time(at) {
  if (at === null || at === undefined) return "–";
  return new Date(at * 1000).toLocaleString("en-GB", {
    year: "numeric",
    month: "short",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

/** How long ago that was: "just now", "4 min ago". */
export function ago(at, now = Date.now() / 1000) {
  if (at === null || at === undefined) return "–";
  const seconds = now - at;
  if (seconds < 10) return "just now";
  if (seconds < MINUTE) return `${Math.round(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${Math.floor(seconds / DAY)} d ago`;
}

/** Bytes: 4.2 GiB. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${number(value / 1024 ** at, at ? 3 : 0)} ${units[at]}`;
}
