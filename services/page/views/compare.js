// Two to four runs side by side: their curves, where their configs differ, what they said to one task.
import { html, useEffect, useMemo, useState } from "../dom.js";
import { Chart } from "../charts.js";
import { colour, COMPARED } from "../curves.js";
import { number, percent } from "../format.js";
import { follow, History } from "../history.js";
import { VerdictStatus } from "../evidence.js";
import { differing, written } from "../leaves.js";
import { places } from "../places.js";
import { address } from "../router.js";
import { named, Said } from "../said.js";
import { signed } from "../streams.js";
import { Empty, ErrorPanel, Loading, Status, Tabs, useLoad } from "../ui.js";

const MOST = 4;
const TABS = [
  ["curves", "Curves"],
  ["config", "Config"],
  ["rollouts", "Rollouts"],
];

export function View({ api, route, go }) {
  const ids = [...new Set((route.query.ids ?? "").split(",").filter(Boolean))].slice(0, MOST);
  const tab = TABS.some(([name]) => name === route.query.tab) ? route.query.tab : "curves";
  const change = (part, options) => go("/compare", { ...route.query, ...part }, options);
  const { data: jobs, error, reload } = useLoad(
    ({ signal }) => Promise.all(ids.map((id) => api.get(`/v1/fine_tuning/jobs/${id}`, { signal }))),
    [ids.join()],
  );
  const { histories, version, failure } = useHistories(api, ids);
  useEffect(() => {
    document.title = "Compare · Strop";
  }, []);
  const names = useMemo(() => distinct(jobs ?? []), [jobs]);
  return html`<div class="head"><h1>Compare runs</h1></div>
    <${Choose} api=${api} ids=${ids} onChange=${(next) => change({ ids: next.join() })} />
    <${ErrorPanel} error=${error ?? failure} retry=${reload} />
    ${ids.length < 2 &&
    html`<${Empty} title=${ids.length ? "One more run" : "Choose two to four runs"}>
      <p>Their curves are drawn over each other, with what differs in their configs and their rollouts of the same tasks.</p>
    <//>`}
    ${ids.length >= 2 && !jobs && !error && html`<${Loading} what="Loading the runs" />`}
    ${ids.length >= 2 && jobs && jobs.length === ids.length &&
    html`<${Tabs} label="What to compare" tabs=${TABS} current=${tab} href=${(name) => address("/compare", { ...route.query, tab: name === "curves" ? null : name })} />
      ${tab === "curves" && html`<${Curves} jobs=${jobs} names=${names} histories=${histories} version=${version} />`}
      ${tab === "config" && html`<${Config} jobs=${jobs} names=${names} />`}
      ${tab === "rollouts" && html`<${Rollouts} api=${api} jobs=${jobs} names=${names} query=${route.query} change=${change} />`}`}`;
}

/** The events of every run, and a count of their changes. */
function useHistories(api, ids) {
  const [version, setVersion] = useState(0);
  const [failure, setFailure] = useState(null);
  const histories = useMemo(() => ids.map(() => new History()), [ids.join()]);
  useEffect(() => {
    const ends = new AbortController();
    setFailure(null);
    const onChange = () => setVersion((before) => before + 1);
    for (const [at, id] of ids.entries()) {
      follow(api, id, histories[at], { signal: ends.signal, onState: () => {}, onChange }).catch((error) => {
        if (!ends.signal.aborted) setFailure(error);
      });
    }
    return () => ends.abort();
  }, [ids.join()]);
  return { histories, version, failure };
}

/** Names that tell the runs apart: those of the jobs, with the end of the id where two are the same. */
function distinct(jobs) {
  const all = jobs.map((job) => named(job.spec.name));
  return jobs.map((job, at) => (all.filter((name) => name === all[at]).length > 1 ? `${all[at]} ${job.id.slice(-4)}` : all[at]));
}

function Choose({ api, ids, onChange }) {
  const { data, error } = useLoad(({ signal }) => api.get("/v1/fine_tuning/jobs?limit=100", { signal }), []);
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (!data) return null;
  const known = new Map(data.data.map((job) => [job.id, job]));
  const others = data.data.filter((job) => !ids.includes(job.id));
  return html`<div class="row chosen-runs">
    ${ids.map(
      (id, at) =>
        html`<span class="chosen-run" key=${id}>
          <i style=${{ background: `var(${colour(at)})` }}></i>
          <a href=${address(`/jobs/${id}`)}><${Said} inline text=${known.get(id)?.spec.name ?? id} /></a>
          ${known.has(id) && html`<${Status} status=${known.get(id).status} />`}
          <button type="button" class="quiet small" aria-label=${`Leave out ${known.get(id)?.spec.name ?? id}`} onClick=${() => onChange(ids.filter((one) => one !== id))}>✕</button>
        </span>`,
    )}
    ${ids.length < MOST && others.length > 0 &&
    html`<label class="row">Add a run
      <select value="" onChange=${(event) => event.target.value && onChange([...ids, event.target.value])}>
        <option value="">choose…</option>
        ${others.map((job) => html`<option value=${job.id}>${named(job.spec.name)} · ${job.status} · ${job.id.slice(-6)}</option>`)}
      </select>
    </label>`}
    ${others.length === 0 && ids.length < 2 && html`<span class="soft">There is no other job to compare with.</span>`}
  </div>`;
}

function Curves({ jobs, names, histories, version }) {
  const [smoothing, setSmoothing] = useState(0.6);
  const charts = useMemo(() => together(histories, names), [histories, version, names]);
  return html`<div class="row curves-head">
      <label class="row">Smoothing
        <input type="range" min="0" max="0.95" step="0.05" value=${smoothing} onInput=${(event) => setSmoothing(Number(event.target.value))} />
        <output class="soft">${smoothing ? `EMA ${smoothing.toFixed(2)}` : "off"}</output>
      </label>
    </div>
    ${charts.length === 0 ? html`<${Empty} title="No step is done yet in these runs" />` : null}
    <div class="charts">
      ${charts.map((chart) => html`<${Chart} key=${chart.title} ...${chart} smoothing=${smoothing} sync="compare" />`)}
    </div>`;
}

/** The charts over all runs: each over the steps that any run has done. */
function together(histories, names) {
  const charts = [];
  const measured = histories.map((history) => new Map(history.evaluations.map((one) => [one.step, one])));
  if (measured.some((one) => one.size)) {
    const x = union(measured.map((one) => [...one.keys()]));
    const values = (map, name) => x.map((step) => map.get(step)?.[name] ?? null);
    const series = measured.map((map, at) => ({ name: names[at], colour: colour(at), values: values(map, "accuracy"), low: values(map, "low"), high: values(map, "high") }));
    charts.push({ title: "Accuracy on held-out tasks", x, series, format: percent });
  }
  const x = union(histories.map((history) => history.steps));
  for (const [column, title, format] of COMPARED) {
    const series = histories
      .map((history, at) => {
        const found = history.column(column);
        if (!found) return null;
        const of = new Map(history.steps.map((step, index) => [step, found[index]]));
        return { name: names[at], colour: colour(at), values: x.map((step) => of.get(step) ?? null) };
      })
      .filter(Boolean);
    if (series.length) charts.push({ title, x, series, format });
  }
  return charts;
}

function union(lists) {
  return [...new Set(lists.flat())].sort((a, b) => a - b);
}

function Config({ jobs, names }) {
  const rows = differing(jobs.map((job) => job.spec));
  if (!rows.length) return html`<${Empty} title="Their configs are the same"><p>What differs then is chance, or the code.</p><//>`;
  return html`<div class="wide-table">
    <table class="config">
      <thead><tr><th scope="col">Field</th>${names.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(([path, values]) => html`<tr><th scope="row"><code><${Said} inline text=${path} /></code></th>${values.map((value) => html`<td><code><${Said} inline text=${written(value)} /></code></td>`)}</tr>`)}
      </tbody>
    </table>
  </div>
  <p class="soft small">${rows.length} fields differ; all others are the same.</p>`;
}

function Rollouts({ api, jobs, names, query, change }) {
  const { data: first, error } = useLoad(
    ({ signal }) => Promise.all(jobs.map((job) => api.get(`/v1/fine_tuning/jobs/${job.id}/rollouts?limit=100&order=desc`, { signal }))),
    [jobs.map((job) => job.id).join()],
  );
  const shared = useMemo(() => tasksOf(first), [first]);
  const task = query.task || shared[0];
  if (error) return html`<${ErrorPanel} error=${error} />`;
  if (!first) return html`<${Loading} what="Looking for tasks that all runs have tried" />`;
  return html`<form class="row find-bar" onSubmit=${(event) => event.preventDefault()}>
      <label class="row">Task
        <input list="shared-tasks" value=${task ?? ""} onChange=${(event) => change({ task: event.target.value.trim() })} />
        <datalist id="shared-tasks">${shared.map((one) => html`<option value=${one}></option>`)}</datalist>
      </label>
      <span class="soft small">${shared.length ? `${shared.length} tasks of the newest rollouts are common to all runs.` : "No task of the newest rollouts is common to all runs; name one."}</span>
    </form>
    ${task && html`<div class="beside">
      ${jobs.map((job, at) => html`<${OfTask} key=${job.id + task} api=${api} job=${job} name=${names[at]} task=${task} at=${at} />`)}
    </div>`}`;
}

function tasksOf(pages) {
  if (!pages) return [];
  const sets = pages.map((page) => new Set(page.data.map((one) => one.task_id)));
  return [...sets[0]].filter((task) => sets.every((set) => set.has(task))).sort();
}

/** What one run said to a task: its newest rollouts of it. */
function OfTask({ api, job, name, task, at }) {
  const path = `/v1/fine_tuning/jobs/${job.id}/rollouts?limit=8&order=desc&task_id=${encodeURIComponent(task)}`;
  const { data, error } = useLoad(({ signal }) => api.get(path, { signal }), [path]);
  return html`<section class="panel" style=${{ borderTopColor: `var(${colour(at)})` }}>
    <h2>${name}</h2>
    ${error && html`<${ErrorPanel} error=${error} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data?.data.length === 0 && html`<p class="soft">It has no rollout of this task.</p>`}
    ${data?.data.map(
      (one) =>
        html`<article class="said-rollout" key=${one.id}>
          <p class="row">
            <${VerdictStatus} status=${one.status} />
            <span class="soft small">step ${one.step}, reward ${number(one.score)}, advantage ${signed(one.advantage)}</span>
            <a class="small" href=${address(`/jobs/${job.id}/rollouts/${one.id}`)}>tokens<span class="hidden-text"> of rollout ${one.id} of ${name}</span></a>
          </p>
          <${Said} text=${one.text} marks=${places(one.text, one.evidence)} />
        </article>`,
    )}
  </section>`;
}
