// The rollouts of one group side by side: what the verifier told apart, and how.

import { html, useMemo, useRef, useState } from "./dom.js";
import { Evidence, VerdictStatus } from "./evidence.js";
import { number } from "./format.js";
import { Messages } from "./messages.js";
import { places } from "./places.js";
import { address } from "./router.js";
import { Said } from "./said.js";
import { signed } from "./streams.js";
import { Badge, Empty, ErrorPanel, Loading, useLoad } from "./ui.js";

const ID = /^(\d+)-(\d+)-\d+$/;

/** The view that lists the rollouts of a job. */
export function rolloutsPath(job) {
  return `/jobs/${encodeURIComponent(job)}/rollouts`;
}

/** The request for a list of them; what is empty is left out of the query. */
export function rolloutsRequest(job, query) {
  const pairs = Object.entries(query).filter(([, value]) => value != null && value !== "");
  return `/v1/fine_tuning${rolloutsPath(job)}?${new URLSearchParams(pairs)}`;
}

/** The request for one of them, token by token. */
export function rolloutRequest(job, id) {
  return `/v1/fine_tuning${rolloutsPath(job)}/${encodeURIComponent(id)}`;
}

/** The group of the rollout `at`: {siblings, loading, error}. Those of the group before stay
 * until it is there, and with them the keyboard's focus. */
export function useSiblings(api, job, at) {
  const [, step, group] = ID.exec(at ?? "") ?? [];
  const load = async ({ signal }) => {
    if (step === undefined) return [];
    return api.all(rolloutsRequest(job, { step, group }), { signal });
  };
  const { data, loading, error } = useLoad(load, [job, step, group]);
  const last = useRef([]);
  if (data || error) last.current = data ?? [];
  return { siblings: last.current, loading, error };
}

export function Siblings({ api, job, at, group, select }) {
  const { siblings, loading, error } = group;
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (!siblings.length) {
    if (loading) return html`<${Loading} what="Loading the group" />`;
    return html`<${Empty} title="This job has no such group"><p>The address names the rollout <${Said} inline text=${at} />; it is step-group-rollout, like 12-3-5.</p><//>`;
  }
  const [first] = siblings;
  const scores = siblings.filter((one) => one.score !== null).map((one) => one.score);
  const flat = scores.length > 1 && scores.every((score) => score === scores[0]);
  return html`<section class="siblings" aria-label="Siblings of the group" aria-busy=${loading}>
    <header>
      <h2>Step ${first.step}, group ${first.group}</h2>
      <p class="soft">task <${Said} inline text=${first.task_id} /> · ${siblings.length} ${siblings.length === 1 ? "rollout" : "rollouts"} ·
        ${" "}${scores.filter((score) => score === 1).length} right
        ${flat ? html` · <${Badge} kind="warn" title="Every rollout has the same reward, so none has an advantage: this group teaches nothing.">zero variance<//>` : null}</p>
    </header>
    <${Prompt} api=${api} job=${job} id=${first.id} key=${`${first.step}-${first.group}`} />
    <div class="columns" role="group" aria-label="Arrow keys: left and right between siblings, up and down between rows of the list; Enter opens the tokens">
      ${siblings.map((one) => html`<${Column} key=${one.id} one=${one} job=${job} chosen=${one.id === at} select=${select} />`)}
    </div>
  </section>`;
}

function Column({ one, job, chosen, select }) {
  const marks = useMemo(() => places(one.text, one.evidence), [one]);
  return html`<article class="column" data-sibling=${one.id} tabindex=${chosen ? 0 : -1} aria-current=${chosen ? "true" : null}
    aria-label=${`Rollout ${one.rollout}, ${one.status}`}
    onClick=${(event) => event.target.closest("a,button,summary,.said") || select(one.id, "sibling")}>
    <header>
      <h3>Rollout ${one.rollout}</h3>
      <${VerdictStatus} status=${one.status} />
      <a class="button quiet" href=${address(`${rolloutsPath(job)}/${one.id}`)} aria-label=${`Tokens of rollout ${one.rollout}`}>Tokens</a>
    </header>
    <dl class="measures">
      <div><dt>Reward</dt><dd>${number(one.score)}</dd></div>
      <div><dt>Advantage</dt><dd class=${one.advantage > 0 ? "praised" : one.advantage < 0 ? "blamed" : ""}>${signed(one.advantage)}</dd></div>
      <div><dt>Tokens</dt><dd>${one.tokens}</dd></div>
      <div><dt>Ended</dt><dd>${one.finish_reason}</dd></div>
    </dl>
    <h4>Verdict</h4>
    <${Evidence} evidence=${one.evidence} text=${one.text} />
    <h4>Completion</h4>
    <div class="completion" tabindex="0" role="region" aria-label=${`Completion of rollout ${one.rollout}`}>
      ${one.text ? html`<${Said} text=${one.text} marks=${marks} />` : html`<p class="soft">An empty completion.</p>`}
    </div>
  </article>`;
}

/** The prompt of the group, folded; it is fetched when it is opened. */
function Prompt({ api, job, id }) {
  const [opened, setOpened] = useState(false);
  return html`<details class="fold" onToggle=${(event) => event.currentTarget.open && setOpened(true)}>
    <summary>Prompt</summary>
    ${opened && html`<${Fetched} api=${api} job=${job} id=${id} />`}
  </details>`;
}

function Fetched({ api, job, id }) {
  const { data, error, reload } = useLoad(({ signal }) => api.get(rolloutRequest(job, id), { signal }), [job, id]);
  if (error) return html`<${ErrorPanel} error=${error} retry=${reload} />`;
  return data ? html`<${Messages} messages=${data.messages} />` : html`<${Loading} />`;
}
