// All jobs of the tenant, newest first: state, progress, the reward so far, what calls for attention.
import { html, useCallback, useEffect, useRef, useState } from "../dom.js";
import { JobActions, may } from "../actions.js";
import { duration, number, percent } from "../format.js";
import { algorithmOf, warnings } from "../health.js";
import { address } from "../router.js";
import { Said } from "../said.js";
import { Sparkline } from "../sparkline.js";
import { Badge, Empty, ErrorPanel, Loading, Progress, Status, useLoad, When } from "../ui.js";

const PAGE = 25;
const EVERY_MS = 5000;
const STATES = ["running", "queued", "paused", "succeeded", "failed", "cancelled"];

export function View({ api, route, go, me }) {
  const { status = "", after = "" } = route.query;
  const path = `/v1/fine_tuning/jobs?limit=${PAGE}${status && `&status=${status}`}${after && `&after=${after}`}`;
  const { data, error, reload } = useLoad(({ signal }) => api.get(path, { signal }), [path], {
    every: EVERY_MS,
  });
  useEffect(() => {
    document.title = "Jobs · Strop";
  }, []);
  const writes = may(me, "jobs:write");
  return html`<div class="head">
      <h1>Jobs</h1>
      <nav class="chips" aria-label="Jobs by state">
        ${["", ...STATES].map(
          (one) =>
            html`<a href=${address("/jobs", { status: one })} aria-current=${one === status ? "true" : undefined}>
              ${one || "all"}
            </a>`,
        )}
      </nav>
      ${writes && html`<div class="actions"><a class="button primary" href="#/jobs/new">New job</a></div>`}
    </div>
    <${ErrorPanel} error=${error} retry=${reload} />
    ${!data && !error && html`<${Loading} what="Loading jobs" />`}
    ${data?.data.length === 0 && html`<${Nothing} status=${status} after=${after} writes=${writes} />`}
    ${data?.data.length > 0 &&
    html`<${Table} jobs=${data.data} api=${api} me=${me} reload=${reload} go=${go} />`}
    ${data && (after || data.has_more) &&
    html`<nav class="pages" aria-label="Pages of jobs">
      ${after && html`<a class="button" href=${address("/jobs", { status })}>Newest</a>`}
      ${data.has_more &&
      html`<a class="button" href=${address("/jobs", { status, after: data.last_id })}>Older</a>`}
    </nav>`}`;
}

function Nothing({ status, after, writes }) {
  if (status || after) {
    return html`<${Empty} title=${status ? `No job is ${status}` : "No older jobs"}>
      <a class="button" href="#/jobs">Show all jobs</a>
    <//>`;
  }
  return html`<${Empty} title="No jobs yet">
    <p>A job trains a model on a file of tasks whose answers can be checked.</p>
    ${writes && html`<a class="button primary" href="#/jobs/new">Make the first one</a>`}
    <p class="small">Or from a shell: <code>strop jobs create job.yaml</code></p>
  <//>`;
}

function Table({ jobs, api, me, reload, go }) {
  const body = useRef(null);
  const writes = may(me, "jobs:write");
  /** Up and down move from job to job, as in a list. */
  const move = useCallback((event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by || !event.target.matches("a.job-name")) return;
    const links = [...body.current.querySelectorAll("a.job-name")];
    links[links.indexOf(event.target) + by]?.focus();
    event.preventDefault();
  }, []);
  const open = (event, job) => {
    if (event.target.closest("a, button, dialog") || getSelection().toString()) return;
    go(`/jobs/${job.id}`);
  };
  return html`<div class="wide-table">
    <table class="jobs">
      <thead>
        <tr>
          <th scope="col">Job</th>
          <th scope="col">State</th>
          <th scope="col">Progress</th>
          <th scope="col">Reward</th>
          <th scope="col" class="numeric">Held-out</th>
          <th scope="col">Look at</th>
          <th scope="col">Created</th>
          ${writes && html`<th scope="col"><span class="hidden-text">Actions</span></th>`}
        </tr>
      </thead>
      <tbody ref=${body} onKeyDown=${move}>
        ${jobs.map(
          (job) => html`<tr key=${job.id} onClick=${(event) => open(event, job)}>
            <td>
              <a class="job-name" href=${address(`/jobs/${job.id}`)}><${Said} inline text=${job.spec.name} /></a>
              <div class="soft small"><${Said} inline text=${job.model} /> · ${algorithmOf(job)}</div>
            </td>
            <td><${Status} status=${job.status} />${note(job)}</td>
            <td><${HowFar} job=${job} /></td>
            <td><${Reward} job=${job} /></td>
            <td class="numeric">${percent(job.progress?.holdout_accuracy)}</td>
            <td>
              <span class="badges">
                ${warnings(job).map(
                  (one) => html`<${Badge} kind=${one.kind} title=${one.told}>${one.name}<//>`,
                )}
              </span>
            </td>
            <td class="nowrap"><${When} at=${job.created_at} /></td>
            ${writes &&
            html`<td class="right"><${JobActions} job=${job} api=${api} me=${me} onDone=${reload} compact /></td>`}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function note(job) {
  if (job.cancel_requested && job.status === "running") return html`<div class="soft small">stopping</div>`;
  if (job.pause_requested && job.status === "running") return html`<div class="soft small">pausing</div>`;
  const told = job.status === "failed" ? job.error?.message : job.waiting;
  return told && html`<div class="soft small clip" title=${told}><${Said} inline text=${told} /></div>`;
}

function HowFar({ job }) {
  const { steps } = job.spec;
  const done = job.progress?.step ?? 0;
  const left = job.status === "running" && job.progress?.seconds_left;
  return html`<${Progress} value=${done / steps} label=${`Steps of ${job.spec.name}`} />
    <div class="soft small nowrap">${done} of ${steps}${left ? ` · ${duration(left)} left` : ""}</div>`;
}

function Reward({ job }) {
  if (job.progress?.reward_mean == null) return html`<span class="soft">–</span>`;
  return html`<span class="reward">
    <${Sparkline} points=${job.reward_history ?? []} label=${`Reward of ${job.spec.name} by step`} />
    <span>${number(job.progress.reward_mean)}</span>
  </span>`;
}
