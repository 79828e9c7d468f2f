// What a dry run found: tokens, memory of every tier, time, and tasks as the models will read them.
import { html } from "../dom.js";
import { bytes, count, duration, number } from "../format.js";
import { Said } from "../said.js";
import { Badge } from "../ui.js";

export function Report({ report }) {
  const { tasks, tokens, memory, time, notes, preview } = report;
  const fits = memory.host_fits;
  return html`<section class="panel stack report" role="status">
    <h2>Dry run: this job can be queued</h2>
    ${notes.length > 0 && html`<ul class="plain">${notes.map((note) => html`<li><${Said} inline text=${note} /></li>`)}</ul>`}
    <div class="readings">
      <${Figure} name="Tasks" value=${count(tasks.train)} told=${`${count(tasks.holdout ?? 0)} held out`} />
      <${Figure} name="Prompt" value=${`${number(tokens.prompt.mean)} tokens`} told=${`${count(tokens.prompt.min)} to ${count(tokens.prompt.max)}`} />
      <${Figure} name="Completions" value=${`${count(tokens.completion_per_run_at_most)} tokens`} told="of the whole run, at their most" />
      <${Figure} name="Time" value=${time.seconds === null ? "not known" : duration(time.seconds)} told=${time.basis} />
      <${Figure} name="Parameters" value=${count(memory.parameters)} told=${memory.parameters_basis} />
    </div>
    <h3>Memory
      ${fits === true && html` <${Badge} kind="good">fits this machine<//>`}
      ${fits === false && html` <${Badge} kind="bad">does not fit this machine<//>`}
    </h3>
    <p class="soft small">
      ${bytes(memory.host_needed_bytes)} needed on CPUs${memory.host_bytes ? ` of ${bytes(memory.host_bytes)} there are` : ""}. ${memory.gpu_basis}
    </p>
    <div class="wide-table">
      <table>
        <thead><tr><th scope="col">Tier</th><th scope="col" class="numeric">Actors</th><th scope="col">On</th><th scope="col" class="numeric">Each</th><th scope="col">Of which</th></tr></thead>
        <tbody>
          ${memory.tiers.map(
            (tier) =>
              html`<tr>
                <th scope="row">${tier.tier}</th>
                <td class="numeric">${tier.replicas}</td>
                <td>${tier.device}${tier.gpus ? ` (${tier.gpus} GPUs)` : ""}</td>
                <td class="numeric">${bytes(tier.total_bytes)}</td>
                <td class="soft small">${Object.entries(tier.bytes).filter(([, value]) => value).map(([name, value]) => `${name} ${bytes(value)}`).join(", ")}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${preview.length > 0 && html`<h3>Tasks as the models read them</h3>`}
    ${preview.map(
      (task) =>
        html`<details class="preview"><summary><${Said} inline text=${task.id} /> <span class="soft small">${task.policy.tokens} tokens</span></summary>
          <h4 class="soft small">Policy</h4><${Laid} view=${task.policy} />
          <h4 class="soft small">Teacher</h4>
          ${task.teacher ? html`<${Laid} view=${task.teacher} />` : html`<p class="soft">${task.teacher_note}</p>`}
        </details>`,
    )}
  </section>`;
}

function Figure({ name, value, told }) {
  return html`<div class="reading"><p class="reading-name">${name}</p><p class="reading-value">${value}</p><p class="soft small">${told}</p></div>`;
}

/** A prompt, each span named for whose it is; what only the teacher reads stands out. */
function Laid({ view }) {
  return html`<div class="laid mono">
    ${view.spans.map((span) => html`<p class=${span.of === "privileged" ? "laid-privileged" : ""}><b class="soft small">${span.of}</b> <${Said} inline text=${span.text} /></p>`)}
  </div>`;
}
