// The numbers that run along a completion, and how a number becomes one of a few shades.
// Signed streams have a scale that is symmetric around their neutral value, with blue above
// and orange below it; the others run from pale to strong in one hue. Pure.

import { number } from "./format.js";

/** Shades of each side of a signed scale; a one-sided scale has as many. */
export const SHADES = 7;
/** Values are far to one side where the nearest is this share of the furthest away. */
const FAR = 0.25;

const nats = (value) => `${number(value)} nats`;

/** Every stream that may be shown, with what it means in one line. `centre` makes it signed. */
export const STREAMS = [
  { key: "credit", label: "Credit", centre: 0, say: signed,
    help: "advantage × weight: how much the token is reinforced (above 0) or blamed (below 0)" },
  { key: "evidence", label: "Evidence", centre: 0, say: (v) => `${signed(v)} nats`,
    help: "log p of the teacher − log p of the student (with a contrast: of the teacher under wrong answers); above 0 the privileged context speaks for the token" },
  { key: "weight", label: "Token weight", centre: 1, say: (v) => `×${number(v)}`,
    help: "credit ÷ advantage: 1 leaves the token as the verifier has it" },
  { key: "teacher_logprob", label: "Teacher log-prob", best: 0, down: true, say: nats,
    help: "log p of the sampled token under the teacher's prompt, with the privileged context" },
  { key: "contrast_logprob", label: "Contrast log-prob", best: 0, down: true, say: nats,
    help: "log p of the sampled token under the teacher's prompt with wrong answers" },
  { key: "student_logprob", label: "Student log-prob", best: 0, down: true, say: nats,
    help: "log p of the sampled token under the policy, as the learner computes it" },
  { key: "engine_logprob", label: "Engine log-prob", best: 0, down: true, say: nats,
    help: "log p of the sampled token as the rollout engine sampled it" },
  { key: "mismatch", label: "Engine mismatch", centre: 0, say: (v) => `${signed(v)} nats`,
    help: "log p of the engine − log p of the learner for the same token and weights" },
  { key: "entropy", label: "Entropy", best: 0, say: nats,
    help: "of the policy's next-token distribution: 0 where only one token was thinkable" },
];

/** The streams that a rollout has, as a Map from key to values (numbers or null). */
export function streamsOf(rollout) {
  const given = rollout.streams ?? {};
  const found = new Map();
  for (const { key } of STREAMS) {
    const values = key === "mismatch" ? mismatch(given) : given[key];
    if (Array.isArray(values) && values.some((value) => value !== null)) found.set(key, values);
  }
  return found;
}

function mismatch({ engine_logprob: engine, student_logprob: student }) {
  if (!Array.isArray(engine) || !Array.isArray(student)) return null;
  return engine.map((value, i) => (value === null || (student[i] ?? null) === null ? null : value - student[i]));
}

/**
 * The scale of a stream over these values: `bin(value)` is an integer in [-SHADES, SHADES]
 * (0 is neutral), null for no value. Shades end at the distance `edge` from `origin`, the 98th
 * percentile, so that outliers do not pale the rest (`beyond` says that there are some). Where
 * all values lie far to one side, as the credit of one completion does, the shades are spread
 * over what they span, from the distance `floor` on, and the scale is `oneSided`.
 */
export function scaleOf(stream, values) {
  const origin = stream.centre ?? stream.best;
  const given = values.filter((value) => value !== null);
  const distances = Float64Array.from(given, (value) => Math.abs(value - origin)).sort();
  const at = (share) => distances[Math.min(distances.length - 1, Math.floor(distances.length * share))] ?? 0;
  const edge = at(0.98) || at(1) || 1;
  const isSigned = stream.centre !== undefined;
  const above = given.every((value) => value > origin);
  const oneSided = isSigned && at(0) > FAR * edge && (above || given.every((value) => value < origin));
  const floor = oneSided ? at(0) : 0;
  const direction = isSigned ? (oneSided && !above ? -1 : 1) : stream.down ? -1 : 1;
  const lowest = oneSided ? 1 : 0;
  const bin = (value) => {
    if (value === null || value === undefined) return null;
    const distance = Math.abs(value - origin);
    const place = edge > floor ? Math.max(0, Math.min(1, (distance - floor) / (edge - floor))) : 0.5;
    const shade = lowest + Math.round(place * (SHADES - lowest));
    return isSigned && value < origin ? -shade : shade;
  };
  return { origin, edge, floor, bin, signed: isSigned, oneSided, direction, beyond: at(1) > edge };
}

/** The shades that a scale uses, from the lowest value to the highest shown, with the value
 * that each stands for. */
export function legend(scale) {
  const { origin, edge, floor, direction } = scale;
  if (scale.signed && !scale.oneSided) {
    return Array.from({ length: 2 * SHADES + 1 }, (_, i) => i - SHADES)
      .map((shade) => ({ shade, value: origin + (edge * shade) / SHADES }));
  }
  const lowest = scale.oneSided ? 1 : 0;
  const sign = scale.signed ? direction : 1;
  return Array.from({ length: SHADES + 1 - lowest }, (_, i) => {
    const share = i / (SHADES - lowest);
    return { shade: sign * (lowest + i), value: origin + direction * (floor + share * (edge - floor)) };
  });
}

/** The class of a shade: `up-3`, `down-7`, `much-2`; none for neutral or no value. */
export function shadeClass(scale, shade) {
  if (!shade) return "";
  if (!scale.signed) return `much-${Math.abs(shade)}`;
  return shade > 0 ? `up-${shade}` : `down-${-shade}`;
}

/** Positions of the values furthest from neutral, furthest first. */
export function strongest(scale, values, count) {
  const far = Float64Array.from(values, (value) => (value == null ? -1 : Math.abs(value - scale.origin)));
  const least = Math.max(0, far.toSorted().at(-count) ?? 0);
  return [...far.keys()]
    .filter((i) => far[i] >= least)
    .sort((i, j) => far[j] - far[i] || i - j)
    .slice(0, count);
}

/** A number with its sign always shown. */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : number(value);
}
