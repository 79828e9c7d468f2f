// One job: what it is, how it learns, what it told. Everything comes from its stream of events.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../dom.js";
import { JobActions } from "../actions.js";
import { Chart } from "../charts.js";
import { curves } from "../curves.js";
import { bytes, count, duration, number, percent, time } from "../format.js";
import { algorithmOf, warnings } from "../health.js";
import { follow, History } from "../history.js";
import { address } from "../router.js";
import { named, Said } from "../said.js";
import { Badge, Empty, ErrorPanel, Loading, Progress, Status, Tabs, useLoad } from "../ui.js";
import { Checkpoints } from "./run_checkpoints.js";
import { Config } from "./run_config.js";
import { Events, Log } from "./run_events.js";

const TABS = [
  ["curves", "Curves"],
  ["events", "Events"],
  ["config", "Config"],
  ["checkpoints", "Checkpoints"],
  ["log", "Log"],
];
const JOB_EVERY_MS = 5000;

export function View({ api, route, go, me }) {
  const { id } = route.params;
  const tab = TABS.some(([name]) => name === route.query.tab) ? route.query.tab : "curves";
  const ended = useRef(false);
  const { data: job, error, reload } = useLoad(
    ({ signal }) => api.get(`/v1/fine_tuning/jobs/${id}`, { signal }),
    [id],
    { every: ended.current ? null : JOB_EVERY_MS },
  );
  const { history, version, state, failure } = useHistory(api, id);
  useEffect(() => {
    // The stream ends with the job: what it became is asked for once more.
    ended.current = state === "ended";
    if (ended.current) reload();
  }, [state]);
  useEffect(() => {
    document.title = `${named(job?.spec.name ?? "Job")} · Strop`;
  }, [job?.spec.name]);
  if (!job) {
    return error ? html`<${ErrorPanel} error=${error} retry=${reload} />` : html`<${Loading} what="Loading the job" />`;
  }
  const to = (name) => address(`/jobs/${id}`, { ...route.query, tab: name === "curves" ? null : name });
  return html`<div class="head">
      <h1><${Said} inline text=${job.spec.name} /></h1>
      <${Status} status=${job.status} />
      <${Live} state=${state} />
      <span class="badges">${warnings(job).map((one) => html`<${Badge} kind=${one.kind} title=${one.told}>${one.name}<//>`)}</span>
      <div class="actions">
        <a class="button" href=${address(`/jobs/${id}/rollouts`)}>Rollouts</a>
        <a class="button" href=${address("/compare", { ids: id })}>Compare</a>
        <${JobActions} job=${job} api=${api} me=${me} onDone=${reload} />
      </div>
    </div>
    <p class="soft job-facts">
      <span><${Said} inline text=${job.model} /></span><span>${algorithmOf(job)}</span><span>seed ${job.seed}</span><code>${job.id}</code>
      ${job.retry_of && html`<a href=${address(`/jobs/${job.retry_of}`)}>tries another job again</a>`}
    </p>
    <${Trouble} job=${job} />
    <${ErrorPanel} error=${failure} />
    <${Readings} job=${job} history=${history} version=${version} />
    <${Tabs} label="Parts of the job" tabs=${TABS} current=${tab} href=${to} />
    ${tab === "curves" && html`<${Curves} history=${history} version=${version} job=${job} go=${go} />`}
    ${tab === "events" && html`<${Events} history=${history} version=${version} route=${route} go=${go} />`}
    ${tab === "config" && html`<${Config} job=${job} />`}
    ${tab === "checkpoints" && html`<${Checkpoints} api=${api} job=${job} me=${me} go=${go} version=${history.evaluations.length + history.steps.length} />`}
    ${tab === "log" && html`<${Log} api=${api} history=${history} version=${version} job=${job} />`}`;
}

/** A job's events, as far as they are known, and how the stream of them stands. */
function useHistory(api, id) {
  const [version, setVersion] = useState(0);
  const [state, setState] = useState("joining");
  const [failure, setFailure] = useState(null);
  const history = useMemo(() => new History(), [id]);
  useEffect(() => {
    const ends = new AbortController();
    const onChange = () => setVersion((before) => before + 1);
    setFailure(null);
    follow(api, id, history, { signal: ends.signal, onState: setState, onChange }).catch((error) => {
      if (!ends.signal.aborted) setFailure(error);
    });
    return () => ends.abort();
  }, [id]);
  return { history, version, state, failure };
}

function Live({ state }) {
  if (state === "live") return html`<span class="live" role="status">live</span>`;
  if (state === "lost") return html`<span class="live live-lost" role="status">reconnecting</span>`;
  return null;
}

/** Why a job does not run, where it does not. */
function Trouble({ job }) {
  if (job.error) {
    return html`<div class="panel problem" role="alert">
      <p class="problem-title">The job failed (<code>${job.error.code}</code>)</p>
      <p><${Said} inline text=${job.error.message} /></p>
      <p class="small">Its events say what came before; Retry queues a new job like it.</p>
    </div>`;
  }
  if (job.status === "queued" && job.waiting) {
    return html`<div class="panel notice" role="status"><p>Not started yet: <${Said} inline text=${job.waiting} /></p></div>`;
  }
  if (job.status === "paused") {
    return html`<div class="panel notice" role="status"><p>Paused. Resume queues it again; it goes on from its newest checkpoint.</p></div>`;
  }
  return null;
}

function Readings({ job, history }) {
  const at = history.newest ?? job.progress;
  const done = at?.step ?? 0;
  const evaluation = history.evaluations.at(-1);
  const first = history.evaluations[0];
  const rewards = history.column("reward_mean");
  const gain = job.result?.gain;
  return html`<div class="readings">
    <div class="reading reading-wide">
      <p class="reading-name">Steps</p>
      <p class="reading-value">${count(done)} <span class="soft">of ${count(job.spec.steps)}</span></p>
      <${Progress} value=${done / job.spec.steps} label="Steps done" />
      <p class="soft small">${left(job, at)}</p>
    </div>
    <${Reading} name="Reward" value=${number(at?.reward_mean)} told=${rewards?.length > 1 ? `${number(rewards[0])} at the first step` : null} />
    <${Reading}
      name="Held-out accuracy"
      value=${percent(evaluation?.accuracy)}
      told=${evaluation && `${percent(evaluation.low)} to ${percent(evaluation.high)}, n = ${evaluation.n}`}
    />
    <${Reading}
      name="Gain"
      value=${gain ? points(gain.difference) : evaluation && first !== evaluation ? points(evaluation.accuracy - first.accuracy) : "–"}
      told=${gain ? `${points(gain.low)} to ${points(gain.high)} at 95 %` : "held-out, since the start"}
    />
    <${Reading} name="Entropy" value=${number(at?.entropy)} told="nats per token" />
    <${Reading} name="Sampled" value=${at ? `${count(Math.round(at.tokens_per_s))}/s` : "–"} told=${`${count(job.trained_tokens)} tokens trained`} />
  </div>`;
}

function Reading({ name, value, told }) {
  return html`<div class="reading"><p class="reading-name">${name}</p><p class="reading-value">${value}</p>${told && html`<p class="soft small">${told}</p>`}</div>`;
}

function points(share) {
  const sign = share > 0 ? "+" : share < 0 ? "−" : "";
  return `${sign}${Math.abs(100 * share).toFixed(1)} pts`;
}

function left(job, at) {
  if (job.status === "running") return at?.seconds_left ? `about ${duration(at.seconds_left)} left` : "starting";
  if (job.finished_at && job.started_at) return `took ${duration(job.finished_at - job.started_at)}`;
  return job.started_at ? `started ${time(job.started_at)}` : "not started";
}

function Curves({ history, version, job, go }) {
  const [smoothing, setSmoothing] = useState(0);
  const charts = useMemo(() => curves(history), [history, version]);
  const pick = useCallback((step) => go(`/jobs/${job.id}/rollouts`, { step }), [job.id]);
  if (!charts.length) {
    return html`<${Empty} title=${job.status === "running" ? "No step is done yet" : "This job has done no step"}>
      <p>${job.status === "running" ? "Models are loaded and the first rollouts are sampled; curves begin with the first step." : "Its events say why."}</p>
      <a class="button" href=${address(`/jobs/${job.id}`, { tab: "events" })}>Show the events</a>
    <//>`;
  }
  return html`<div class="row curves-head">
      <label class="row">Smoothing
        <input type="range" min="0" max="0.95" step="0.05" value=${smoothing} onInput=${(event) => setSmoothing(Number(event.target.value))} />
        <output class="soft">${smoothing ? `EMA ${smoothing.toFixed(2)}` : "off"}</output>
      </label>
      <span class="soft small grow right">Click a step to see its rollouts. Drag to zoom, double-click to zoom out.</span>
    </div>
    <div class="charts">
      ${charts.map(
        (chart) =>
          html`<${Chart} key=${chart.id} ...${chart} smoothing=${chart.stacked ? 0 : smoothing} sync="run" onPick=${chart.pick ? pick : null} />`,
      )}
    </div>`;
}
