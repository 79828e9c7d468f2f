// What of a job calls for attention, by the same bounds as the alerts of deploy/prometheus. Pure.

const FLAT_SHARE = 0.8; // of a step's groups
const STALLED_S = 1800;

/** [{name, kind, told}] of one job. */
export function warnings(job, now = Date.now() / 1000) {
  const found = [];
  const at = job.progress;
  const quiet = now - (job.last_progress_at ?? now);
  if (job.status === "running" && quiet > STALLED_S) {
    found.push({ name: "stalled", kind: "bad", told: `No phase and no step for ${Math.round(quiet / 60)} minutes.` });
  }
  if (at?.leak_rise > (job.spec.leakage?.alarm ?? Infinity)) {
    found.push({ name: "leak", kind: "bad", told: "Completions repeat what only the teacher should see." });
  }
  if (at?.zero_variance_share > FLAT_SHARE) {
    found.push({
      name: "zero variance",
      kind: "warn",
      told: `In ${Math.round(100 * at.zero_variance_share)} % of the step's groups all completions have one reward: they teach nothing.`,
    });
  }
  if (at?.infra_errors > 0) {
    found.push({ name: "verifier errors", kind: "warn", told: `${at.infra_errors} verdicts of the newest step were lost to faults of the service.` });
  }
  if (job.attempts > 1 && job.status === "running") {
    found.push({ name: `attempt ${job.attempts}`, kind: "plain", told: "It was started again since its last step." });
  }
  return found;
}

/** The algorithm's name, with what the teacher sees. */
export function algorithmOf(job) {
  const view = job.spec.privileged?.kind;
  return view ? `${job.spec.algorithm.kind} (${view})` : job.spec.algorithm.kind;
}
