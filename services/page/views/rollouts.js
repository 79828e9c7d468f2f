// Rollouts of a job: filtered, a page at a time, and the siblings of a group side by side.
// Filters and the selection live in the address, so a link or the back button brings back
// what was seen. Up and down move between rows, left and right between siblings.

import { html, useEffect, useRef, useState } from "../dom.js";
import { VerdictStatus } from "../evidence.js";
import { number } from "../format.js";
import { address } from "../router.js";
import { Said } from "../said.js";
import { Siblings, rolloutsPath, rolloutsRequest, useSiblings } from "../siblings.js";
import { signed } from "../streams.js";
import { Empty, ErrorPanel, Loading } from "../ui.js";

const PAGE = 50;
const SNIPPET = 160;
const FILTERS = ["step", "group", "task_id", "verifier", "status", "min_score", "max_score", "text", "order"];
const KINDS = [
  "math", "code", "sql", "schema", "choice", "text", "composite", "multi", "python", "remote",
  "string_check", "text_similarity", "score_model", "label_model",
].map((kind) => [kind, kind.replace("_", " ")]);
const STATUSES = ["correct", "wrong", "malformed", "timeout", "infra_error"]
  .map((status) => [status, status.replace("_", " ")]);

export function View({ api, route, go }) {
  const job = route.params.id;
  const path = rolloutsPath(job);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, route.query[name] ?? ""]));
  const { rows, loading, error, more, refresh } = useRows(api, job, filters);
  const at = route.query.at ?? rows[0]?.id ?? null;
  const group = useSiblings(api, job, at);
  const box = useRef(null);
  const follow = useRef(null);

  const change = (changes) => go(path, { ...filters, ...changes });
  const select = (id, focus) => {
    follow.current = { focus, id };
    go(path, { ...filters, at: id }, { replace: true });
  };

  useEffect(() => {
    // A key may have chosen the next one before this one was drawn.
    if (follow.current === null || follow.current.id !== at) return;
    const target = box.current.querySelector(`[data-${follow.current.focus}="${CSS.escape(at)}"]`);
    if (!target) return;
    follow.current = null;
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  const pressed = (event) => {
    const on = ["row", "sibling"].find((name) => event.target.dataset?.[name] !== undefined);
    if (!on || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Enter") go(`${path}/${at}`);
    const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const across = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const list = across ? group.siblings : rows;
    let place = list.findIndex((one) => one.id === at);
    // A sibling that the filters leave out stands behind those of its group that they let in.
    if (place < 0 && !across) place = list.findLastIndex((one) => groupOf(one.id) === groupOf(at));
    if (place < 0) return; // its group is on its way
    if (!across && place + step >= list.length - 2) more?.();
    const next = list[place + step];
    if (next) select(next.id, across ? "sibling" : on);
  };

  return html`<section class="rollouts" ref=${box} onKeyDown=${pressed}>
    <p class="crumbs"><a href=${address("/jobs")}>Jobs</a> › <a href=${address(`/jobs/${encodeURIComponent(job)}`)}><${Said} inline text=${job} /></a> ›</p>
    <h1>Rollouts</h1>
    <${Filters} filters=${filters} change=${change} clear=${address(path)} refresh=${refresh} />
    <${ErrorPanel} error=${error} retry=${refresh} />
    ${rows.length
      ? html`<${Rows} rows=${rows} path=${path} at=${at} select=${select} more=${more} loading=${loading} />`
      : loading
        ? html`<${Loading} />`
        : !error && html`<${Nothing} filtered=${FILTERS.some((name) => filters[name])} more=${more} />`}
    ${at === null ? null : html`<${Siblings} api=${api} job=${job} at=${at} group=${group} select=${select} />`}
  </section>`;
}

function groupOf(id) {
  return id.split("-", 2).join("-");
}

function Nothing({ filtered, more }) {
  if (more) {
    return html`<${Empty} title="Nothing found so far">
      <p>The search has not seen every step yet.</p>
      <button type="button" onClick=${more}>Search on</button>
    <//>`;
  }
  if (filtered) return html`<${Empty} title="No rollout of this job fits these filters" />`;
  return html`<${Empty} title="This job has no rollouts yet"><p>They are kept when its first step has ended.</p><//>`;
}

/** Pages of the list so far; `more` is null at its end. */
function useRows(api, job, filters) {
  const [known, setKnown] = useState({ rows: [], loading: true, error: null, hasMore: false, last: null });
  const asked = useRef(null);
  const ask = async (before, after) => {
    asked.current?.abort();
    const mine = (asked.current = new AbortController());
    setKnown((was) => ({ ...was, loading: true, error: null }));
    try {
      const query = { ...filters, limit: PAGE, after };
      const page = await api.get(rolloutsRequest(job, query), { signal: mine.signal });
      if (mine.signal.aborted) return;
      const rows = [...before, ...page.data];
      // A long search ends early, perhaps with nothing found, and goes on behind `last_id`.
      setKnown({ rows, loading: false, error: null, hasMore: page.has_more, last: page.last_id });
    } catch (error) {
      if (!mine.signal.aborted) setKnown((was) => ({ ...was, rows: before, loading: false, error }));
    }
  };
  useEffect(() => {
    ask([], null);
    return () => asked.current.abort();
  }, [job, JSON.stringify(filters)]);
  const more = known.hasMore && !known.loading ? () => ask(known.rows, known.last) : null;
  return { ...known, more, refresh: () => ask([], null) };
}

function Filters({ filters, change, clear, refresh }) {
  const changed = (event) => change({ [event.currentTarget.name]: event.currentTarget.value.trim() });
  const choice = (name, label, none, options) => html`<label>${label}
    <select name=${name} value=${filters[name]} onChange=${changed}>
      <option value="">${none}</option>
      ${options.map(([key, word]) => html`<option value=${key} selected=${key === filters[name]}>${word}</option>`)}
    </select>
  </label>`;
  const field = (name, label, more) => html`<label class=${`field-${name}`}>${label}
    <input name=${name} value=${more.type === "number" && !Number.isFinite(Number(filters[name])) ? "" : filters[name]} autocomplete="off" onChange=${changed} ...${more} />
  </label>`;
  const share = { type: "number", min: 0, max: 1, step: "any" };
  return html`<form class="rollout-filters" role="search" aria-label="Rollouts" onSubmit=${(event) => event.preventDefault()}>
    ${field("step", "Step", { type: "number", min: 1, step: 1, placeholder: "any" })}
    ${choice("verifier", "Verifier", "any", KINDS)}
    ${choice("status", "Status", "any", STATUSES)}
    ${field("min_score", "Reward from", { ...share, placeholder: "0" })}
    ${field("max_score", "to", { ...share, placeholder: "1" })}
    ${field("text", "Completion contains", { type: "search", placeholder: "any text" })}
    ${field("task_id", "Task", { type: "text", placeholder: "any" })}
    ${choice("order", "Order", "oldest step first", [["desc", "newest step first"]])}
    <div class="filter-actions">
      ${FILTERS.some((name) => filters[name]) ? html`<a class="button quiet" href=${clear}>Clear</a>` : null}
      <button type="button" class="quiet" onClick=${refresh}>Refresh</button>
    </div>
  </form>`;
}

function Rows({ rows, path, at, select, more, loading }) {
  const chosen = rows.some((row) => row.id === at) ? at : rows[0].id;
  return html`<div class="rows-box" role="region" aria-label="Rollouts, one a row" tabindex="0">
    <table class="list">
      <caption class="hidden-text">Rollouts. Arrow keys: up and down between rows, left and right between siblings; Enter opens the tokens.</caption>
      <thead><tr>
        <th scope="col" class="numeric">Step</th><th scope="col" class="numeric">Group</th><th scope="col">Rollout</th>
        <th scope="col">Task</th><th scope="col">Verifier</th><th scope="col">Status</th>
        <th scope="col" class="numeric">Reward</th><th scope="col" class="numeric">Advantage</th>
        <th scope="col" class="numeric">Tokens</th><th scope="col">Completion</th>
      </tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row.id} data-row=${row.id} tabindex=${row.id === chosen ? 0 : -1}
        aria-current=${row.id === at ? "true" : null} onClick=${(event) => event.target.closest("a") || select(row.id, "row")}>
        <td class="numeric">${row.step}</td><td class="numeric">${row.group}</td>
        <td><a href=${address(`${path}/${row.id}`)} tabindex="-1">${row.id}</a></td>
        <td class="name"><${Said} inline text=${row.task_id} /></td>
        <td><${Said} inline text=${row.verifier} /></td>
        <td><${VerdictStatus} status=${row.status} /></td>
        <td class="numeric">${number(row.score)}</td><td class="numeric">${signed(row.advantage)}</td>
        <td class="numeric">${row.tokens}${row.finish_reason === "length" ? html`<abbr title="cut at the limit of tokens">+</abbr>` : null}</td>
        <td class="snippet"><${Said} inline text=${snippet(row.text)} /></td>
      </tr>`)}</tbody>
    </table>
    <p class="more-rows">
      ${more ? html`<button type="button" onClick=${more}>Load more</button>` : null}
      <span class="soft" role="status">${loading ? "Loading…" : `${rows.length} shown${more ? "" : ", no more"}`}</span>
    </p>
  </div>`;
}

/** The last words of a completion: there the answer stands. */
function snippet(text) {
  const end = text.trimEnd();
  const tail = end.length > SNIPPET ? `…${end.slice(-SNIPPET)}` : end;
  return tail.replace(/\s+/g, " ");
}
