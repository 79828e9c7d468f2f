// The checkpoints that are still there, and what can be done with one: chat with it, try again from it.
import { html, useState } from "../dom.js";
import { may } from "../actions.js";
import { number } from "../format.js";
import { address } from "../router.js";
import { Said } from "../said.js";
import { Empty, ErrorPanel, Loading, useLoad, When } from "../ui.js";

const ENDED = ["succeeded", "failed", "cancelled"];

export function Checkpoints({ api, job, me, go, version }) {
  const path = `/v1/fine_tuning/jobs/${job.id}/checkpoints`;
  const { data, error, reload } = useLoad(({ signal }) => api.all(path, { signal }), [path, job.status, version]);
  const [failed, setFailed] = useState(null);
  async function again(checkpoint) {
    setFailed(null);
    try {
      const created = await api.post(`/v1/fine_tuning/jobs/${job.id}/retry`, { checkpoint: checkpoint.id });
      go(`/jobs/${created.id}`);
    } catch (problem) {
      setFailed(problem);
    }
  }
  if (error) return html`<${ErrorPanel} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what="Loading checkpoints" />`;
  if (!data.length) {
    return html`<${Empty} title="No checkpoint yet">
      <p>One is written every ${job.spec.checkpoint.every || job.spec.steps} steps and when the job is paused; the newest ${job.spec.checkpoint.keep} are kept.</p>
    <//>`;
  }
  const infers = may(me, "models:infer");
  const writes = may(me, "jobs:write") && ENDED.includes(job.status);
  return html`<${ErrorPanel} error=${failed} />
    <div class="wide-table">
      <table>
        <thead>
          <tr>
            <th scope="col" class="numeric">Step</th>
            <th scope="col">Model</th>
            <th scope="col" class="numeric">Reward</th>
            <th scope="col" class="numeric">Loss</th>
            <th scope="col" class="numeric">KL to start</th>
            <th scope="col">Written</th>
            <th scope="col"><span class="hidden-text">Actions</span></th>
          </tr>
        </thead>
        <tbody>
          ${data.map(
            (one) =>
              html`<tr key=${one.id}>
                <td class="numeric">${one.step_number}</td>
                <td><code><${Said} inline text=${one.fine_tuned_model_checkpoint} /></code></td>
                <td class="numeric">${number(one.metrics.reward_mean)}</td>
                <td class="numeric">${number(one.metrics.loss)}</td>
                <td class="numeric">${number(one.metrics.kl_start)}</td>
                <td class="nowrap"><${When} at=${one.created_at} /></td>
                <td class="right nowrap">
                  <span class="actions job-actions">
                    ${infers && html`<a class="button small" href=${address("/chat", { model: one.fine_tuned_model_checkpoint, base: job.model })}>Chat</a>`}
                    ${writes && html`<button type="button" class="small" onClick=${() => again(one)}>Retry from here</button>`}
                  </span>
                </td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}
