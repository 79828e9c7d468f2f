// The curves of a run: which numbers of its steps belong together, and how they are written.
import { bytes, duration, number, percent } from "./format.js";

const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6", "--line-7", "--line-8"];

/** What each chart shows: `lines` are [column, name], `parts` all parts of a nested number. */
const CHARTS = [
  { id: "reward", title: "Reward by verifier", parts: "rewards", lines: [["reward_mean", "mean"]], mean: true },
  { id: "holdout", title: "Accuracy on held-out tasks", evaluations: true, format: percent },
  { id: "entropy", title: "Entropy (nats per token)", lines: [["entropy", "policy"]] },
  { id: "length", title: "Completion length (tokens)", lines: [["completion_length_mean", "mean"]] },
  {
    id: "evidence",
    title: "Evidence by the sign of the advantage (nats)",
    lines: [["evidence_rewarded", "rewarded"], ["evidence_blamed", "blamed"]],
  },
  {
    id: "weights",
    title: "Credit: share that evidence moves, and that clips",
    lines: [["mix", "mix"], ["weight_clip_share", "at the clip"]],
    format: percent,
  },
  { id: "phases", title: "Time of a step by phase", parts: "phase_seconds", format: duration, stacked: true },
  { id: "idle", title: "Bubbles: idle share by tier", parts: "idle_share", format: percent, range: [0, 1] },
  {
    id: "leaks",
    title: "Leaks of privileged context",
    lines: [
      ["leak_reference", "refers to it"],
      ["leak_early_answer", "answers first"],
      ["leak_overlap", "5-gram overlap"],
      ["leak_rise", "rise since step 1"],
    ],
    format: percent,
  },
  { id: "variance", title: "Groups without contrast", lines: [["zero_variance_share", "zero variance"]], format: percent, range: [0, 1] },
  { id: "kl", title: "KL to the start (nats)", lines: [["kl_start", "policy"]] },
  {
    id: "mismatch",
    title: "Engine against learner (nats)",
    lines: [["engine_mismatch", "log-prob gap"], ["canary_gap", "canary gap"]],
  },
  { id: "loss", title: "Loss", lines: [["loss", "loss"]] },
  { id: "grad", title: "Gradient norm before clipping", lines: [["grad_norm", "norm"]] },
  {
    id: "ratios",
    title: "Tokens held back by a bound",
    lines: [["clip_share", "policy ratio clipped"], ["importance_cap_share", "importance capped"]],
    format: percent,
  },
  { id: "speed", title: "Sampled tokens per second of rollout", lines: [["tokens_per_s", "tokens/s"]] },
  {
    id: "stale",
    title: "Staleness (versions) and what was lost",
    lines: [["staleness", "staleness"], ["dropped_stale", "dropped as stale"], ["infra_errors", "verifier errors"], ["refilled_groups", "refilled groups"]],
  },
  { id: "sync", title: "Weights published", lines: [["weight_bytes", "size"]], format: bytes },
];

/**
 * The charts of a run, those that it has numbers for:
 * [{id, title, x, series, format, range, stacked, pick}].
 */
export function curves(history) {
  return CHARTS.map((chart) => (chart.evaluations ? heldOut(chart, history) : bySteps(chart, history))).filter(Boolean);
}

/** The names of the charts that runs are compared by, and the column of each. */
export const COMPARED = [
  ["reward_mean", "Reward", number],
  ["entropy", "Entropy (nats per token)", number],
  ["completion_length_mean", "Completion length (tokens)", number],
  ["kl_start", "KL to the start (nats)", number],
  ["evidence_rewarded", "Evidence of rewarded tokens (nats)", number],
  ["evidence_blamed", "Evidence of blamed tokens (nats)", number],
  ["weight_clip_share", "Weights at the clip", percent],
  ["zero_variance_share", "Groups without contrast", percent],
  ["leak_rise", "Rise of the leak rate", percent],
  ["grad_norm", "Gradient norm before clipping", number],
  ["tokens_per_s", "Sampled tokens per second of rollout", number],
];

export function colour(at) {
  return LINES[at % LINES.length];
}

function bySteps(chart, history) {
  const parts = (chart.parts ? history.parts(chart.parts) : []).map((part) => [`${chart.parts}/${part}`, part]);
  // With one verifier its reward is the mean: one line says it.
  const own = chart.mean && parts.length === 1 ? [] : parts;
  const lines = [...own, ...(chart.lines ?? [])];
  const series = lines
    .map(([column, name]) => [history.column(column), column, name])
    .filter(([values]) => values)
    .map(([values, column, name], at) => ({
      name,
      values: values.slice(),
      colour: column === "reward_mean" && own.length ? "--ink" : colour(at),
    }));
  if (!series.length) return null;
  return { format: number, range: null, stacked: false, pick: true, ...chart, x: history.steps.slice(), series };
}

function heldOut(chart, history) {
  const found = history.evaluations;
  if (!found.length) return null;
  const values = (name) => found.map((one) => one[name]);
  const line = { name: `n = ${found.at(-1).n}, 95 % interval`, values: values("accuracy"), low: values("low"), high: values("high"), colour: "--line-3" };
  return { format: number, range: null, ...chart, x: values("step"), series: [line], pick: false };
}
