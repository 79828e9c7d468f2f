// What may be done to a job: pause, resume, cancel, retry. Shown where the key allows it.
import { html, useState } from "./dom.js";
import { go } from "./router.js";
import { Confirm } from "./ui.js";

/** Whether the caller has a scope; nobody knows before the service has told. */
export function may(me, scope) {
  return me?.scopes.includes(scope) ?? false;
}

const PAUSABLE = ["queued", "running"];
const ENDED = ["succeeded", "failed", "cancelled"];

export function JobActions({ job, api, me, onDone, compact = false }) {
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  if (!may(me, "jobs:write")) return null;
  async function act(what) {
    setBusy(true);
    setError(null);
    try {
      const answer = await api.post(`/v1/fine_tuning/jobs/${job.id}/${what}`);
      if (what === "retry") go(`/jobs/${answer.id}`);
      else await onDone();
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  }
  const button = (what, text, kind = "") =>
    html`<button
      type="button"
      class=${`${kind} ${compact ? "small" : ""}`}
      disabled=${busy}
      aria-label=${`${text} ${job.spec.name}`}
      onClick=${() => (what === "cancel" ? setAsking(true) : act(what))}
    >
      ${text}
    </button>`;
  const ended = ENDED.includes(job.status);
  return html`<span class="actions job-actions">
    ${PAUSABLE.includes(job.status) && !job.pause_requested && !job.cancel_requested && button("pause", "Pause")}
    ${job.status === "paused" && button("resume", "Resume")}
    ${ended && button("retry", "Retry")}
    ${!ended && !job.cancel_requested && button("cancel", "Cancel", "danger")}
    ${error && html`<span class="field-problem" role="alert">${error.message}</span>`}
    ${asking &&
    html`<${Confirm}
      question=${`Cancel ${job.spec.name}?`}
      detail="It stops after what it is doing now and cannot be resumed. Its checkpoints and rollouts stay."
      yes="Cancel the job"
      onYes=${() => (setAsking(false), act("cancel"))}
      onNo=${() => setAsking(false)}
    />`}
  </span>`;
}
