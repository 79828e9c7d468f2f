// The small parts that all views are put together from, and how views load what they show.
import { html, useCallback, useEffect, useId, useRef, useState } from "./dom.js";
import { ApiError, connection, Unreachable } from "./api.js";
import { ago, time } from "./format.js";
import { Said } from "./said.js";

/**
 * What `load({signal})` answers: {data, error, loading, reload}.
 *
 * Loads again when `deps` change, when a lost connection is back and, with `every` (ms), from
 * time to time while the tab is seen. What was loaded stays until something newer is there.
 */
export function useLoad(load, deps, { every = null } = {}) {
  const [state, setState] = useState({ data: undefined, error: null, loading: true });
  const running = useRef(null);
  const reload = useCallback(async () => {
    running.current?.abort();
    const mine = (running.current = new AbortController());
    setState((was) => ({ ...was, loading: true }));
    try {
      const data = await load({ signal: mine.signal });
      if (!mine.signal.aborted) setState({ data, error: null, loading: false });
    } catch (error) {
      if (!mine.signal.aborted) setState((was) => ({ ...was, error, loading: false }));
    }
  }, deps);
  useEffect(() => {
    setState({ data: undefined, error: null, loading: true });
    reload();
    connection.addEventListener("back", reload);
    return () => {
      connection.removeEventListener("back", reload);
      running.current?.abort();
    };
  }, [reload]);
  // Apart from the first load: to ask less often takes nothing off the screen, nor the focus.
  useEffect(() => {
    const timer = every && setInterval(() => document.hidden || connection.lost || reload(), every);
    return () => clearInterval(timer);
  }, [reload, every]);
  return { ...state, reload };
}

/** What went wrong, in the service's words, and what to do about it. */
export function ErrorPanel({ error, retry }) {
  if (!error) return null;
  return html`<div class="panel problem" role="alert">
    <p class="problem-title">${title(error)}</p>
    <p><${Said} inline text=${error.message} /></p>
    ${error.problems?.length > 0 &&
    html`<ul>
      ${error.problems.map((one) => html`<li><code><${Said} inline text=${one.field} /></code> <${Said} inline text=${one.message} /></li>`)}
    </ul>`}
    <p class="soft small">${advice(error)}</p>
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

function title(error) {
  if (error instanceof Unreachable) return "No connection to the service";
  if (!(error instanceof ApiError)) return "The page failed";
  if (error.status === 403) return "This key may not do that";
  if (error.status === 404) return "Not found";
  if (error.status === 422 || error.status === 400) return "The service did not accept that";
  if (error.status === 429) return "A limit is reached";
  if (error.status >= 500) return "The service cannot do that now";
  return "That was refused";
}

function advice(error) {
  if (error instanceof Unreachable) return "The page tries again by itself.";
  if (!(error instanceof ApiError)) return "Reload the page; if it happens again, it is a bug.";
  const known = error.requestId ? `The service's log knows this as ${error.requestId}.` : "";
  const wait = error.retryAfter ? `It may work in ${error.retryAfter} s.` : "";
  if (error.status === 403) return `Ask your operator for a key with this scope. ${known}`;
  return `${wait} ${known}`;
}

/** Nothing is here yet, and what to do next. */
export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children}</div>`;
}

/** Something is on its way. */
export function Loading({ what = "Loading" }) {
  return html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>${what}…</p>`;
}

/** A job's status in its colour. */
export function Status({ status, note }) {
  return html`<span class=${`status status-${status}`}>${status.replaceAll("_", " ")}</span>${note &&
    html` <span class="soft small">${note}</span>`}`;
}

/** A word that calls for attention; `kind` is good, warn, bad or plain. */
export function Badge({ kind = "plain", title: told, children }) {
  return html`<span class=${`badge badge-${kind}`} title=${told}>${children}</span>`;
}

/** How far something is, of 1. */
export function Progress({ value, label }) {
  const share = Math.max(0, Math.min(1, value || 0));
  return html`<div
    class="progress"
    role="progressbar"
    aria-label=${label}
    aria-valuemin="0"
    aria-valuemax="100"
    aria-valuenow=${Math.round(100 * share)}
  >
    <i style=${{ width: `${100 * share}%` }}></i>
  </div>`;
}

/** A moment, told as how long ago it was. */
export function When({ at }) {
  if (at == null) return html`<span class="soft">–</span>`;
  return html`<time datetime=${new Date(at * 1000).toISOString()} title=${time(at)}>${ago(at)}</time>`;
}

/** A labelled field with its description and what is wrong with it. */
export function Field({ label, hint, problem, children, wide = false }) {
  const id = useId();
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  return html`<div class=${`field ${wide ? "wide" : ""} ${problem ? "wrong" : ""}`}>
    <label for=${id}>${label}</label>
    ${children({
      id,
      "aria-describedby": described || undefined,
      "aria-invalid": problem ? "true" : undefined,
    })}
    ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
    ${problem && html`<p class="field-problem" id=${`${id}-problem`}>${problem}</p>`}
  </div>`;
}

/** Tabs whose choice is part of the address: links, so that they can be opened and kept. */
export function Tabs({ label, tabs, current, href }) {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(
      ([name, text]) =>
        html`<a href=${href(name)} aria-current=${name === current ? "page" : undefined}>${text}</a>`,
    )}
  </nav>`;
}

/** A question before something that cannot be taken back. */
export function Confirm({ question, detail, yes, no = "Keep it", onYes, onNo }) {
  const dialog = useRef(null);
  const title = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby=${title} onCancel=${onNo}>
    <h2 id=${title}>${question}</h2>
    ${detail && html`<p>${detail}</p>`}
    <div class="actions">
      <button type="button" class="danger" onClick=${onYes}>${yes}</button>
      <button type="button" autofocus onClick=${onNo}>${no}</button>
    </div>
  </dialog>`;
}
