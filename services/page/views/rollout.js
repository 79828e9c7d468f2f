// One rollout, token by token: what the verifier said, what the teacher had read, and a heat
// map of the completion with the numbers of each token beside it. The stream and the token
// are part of the address.

import { html, useMemo } from "../dom.js";
import { Evidence, VerdictStatus } from "../evidence.js";
import { count, duration, number } from "../format.js";
import { Messages } from "../messages.js";
import { address } from "../router.js";
import { Said } from "../said.js";
import { rolloutRequest, rolloutsPath, useSiblings } from "../siblings.js";
import { signed } from "../streams.js";
import { TokenMap } from "../token_map.js";
import { Empty, ErrorPanel, Loading, useLoad } from "../ui.js";

export function View({ api, route, go }) {
  const { id: job, rollout: id } = route.params;
  const { data, error, reload } = useLoad(
    ({ signal }) => api.get(rolloutRequest(job, id), { signal }),
    [job, id],
  );
  const { siblings } = useSiblings(api, job, data ? id : null);
  const list = rolloutsPath(job);
  const step = data?.step ?? id.split("-")[0];
  return html`<div class="stack">
    <nav class="crumbs" aria-label="Where this is">
      <a href=${address("/jobs")}>Jobs</a> › <a href=${address(`/jobs/${encodeURIComponent(job)}`)}><${Said} inline text=${job} /></a>${" "}
      › <a href=${address(list, { step, at: id })}>Rollouts of step ${step}</a> ›
    </nav>
    ${error ? html`<${ErrorPanel} error=${error} retry=${reload} />` : !data && html`<${Loading} what="Loading the tokens" />`}
    ${data && html`<${Head} rollout=${data} siblings=${siblings} list=${list} query=${route.query} />
      <${Background} rollout=${data} />
      ${data.token_texts?.length
        ? html`<${TokenMap} key=${id} rollout=${data} query=${route.query}
            remember=${(query) => go(route.path, query, { replace: true })} />`
        : html`<${Untold} rollout=${data} />`}`}
  </div>`;
}

/** A completion of which the trace does not say where its tokens begin and end. */
function Untold({ rollout }) {
  if (!rollout.text) return html`<${Empty} title="The completion is empty" />`;
  return html`<section class="panel stack">
    <h2>Completion</h2>
    <p class="soft">The trace was written by an earlier release and does not tell what its tokens say.</p>
    <${Said} text=${rollout.text} />
  </section>`;
}

function Head({ rollout, siblings, list, query }) {
  const place = siblings.findIndex((one) => one.id === rollout.id);
  const neighbour = (step, word) => {
    const one = place < 0 ? undefined : siblings[place + step];
    return one
      ? html`<a class="button" href=${address(`${list}/${one.id}`, { stream: query.stream })}>${word}</a>`
      : html`<button type="button" disabled>${word}</button>`;
  };
  return html`<header class="head">
    <h1>Rollout ${rollout.id}</h1>
    <${VerdictStatus} status=${rollout.status} />
    <dl class="measures">
      <div><dt>Task</dt><dd><${Said} inline text=${rollout.task_id} /></dd></div>
      <div><dt>Verifier</dt><dd><${Said} inline text=${rollout.verifier} /></dd></div>
      <div><dt>Reward</dt><dd>${number(rollout.score)}</dd></div>
      <div><dt>Advantage</dt><dd>${signed(rollout.advantage)}</dd></div>
      <div><dt>Tokens</dt><dd>${count(rollout.tokens)}</dd></div>
      <div><dt>Ended by</dt><dd>${rollout.finish_reason}</dd></div>
      <div><dt>Policy version</dt><dd>${rollout.version}</dd></div>
      <div><dt>Verified in</dt><dd>${duration(rollout.wall_ms == null ? null : rollout.wall_ms / 1e3)}</dd></div>
    </dl>
    <div class="actions">${neighbour(-1, "‹ Sibling")}${neighbour(1, "Sibling ›")}</div>
  </header>`;
}

/** The verdict, and, folded, what the policy and the teacher had read. */
function Background({ rollout }) {
  return useMemo(() => html`<div class="background">
    <section class="panel verdict-panel" aria-labelledby="verdict-title">
      <h2 id="verdict-title">Verdict</h2>
      <${Evidence} evidence=${rollout.evidence} text=${rollout.text} />
    </section>
    <div class="folds">
      <details class="panel fold">
        <summary>Prompt</summary>
        <${Messages} messages=${rollout.messages} />
      </details>
      <${Privileged} privileged=${rollout.privileged} />
      <details class="panel fold">
        <summary>Verifier</summary>
        <div class="code"><${Said} text=${JSON.stringify(rollout.verifier_spec ?? null, null, 2)} /></div>
      </details>
    </div>
  </div>`, [rollout]);
}

function Privileged({ privileged }) {
  if (!privileged) return html`<p class="panel fold soft">This job has no teacher that reads more than the policy.</p>`;
  if (typeof privileged.text !== "string" || privileged.text === "") {
    return html`<p class="panel fold soft">No privileged context (${privileged.kind}) of this rollout is kept: the teacher had none, or an earlier release wrote the trace.</p>`;
  }
  return html`<details class="panel fold privileged">
    <summary>What only the teacher read
      <span class="soft"> ${[privileged.kind, privileged.tokens == null ? null : `${privileged.tokens} tokens`].filter(Boolean).join(", ")}</span>
    </summary>
    <${Said} text=${privileged.text} />
  </details>`;
}
