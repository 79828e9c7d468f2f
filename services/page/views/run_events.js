// What a job told, as a list to search and as the log that a terminal would show.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { time } from "../format.js";
import { named, Said } from "../said.js";
import { Empty, ErrorPanel, Loading } from "../ui.js";

const SHOWN = 300;
const LINES = 5000;
const LEVELS = ["info", "warn", "error"];
const ROUTINE = new Set(["phase", "step"]);

/** Events, newest first; the level and the text are part of the address. */
export function Events({ history, version, route, go }) {
  const { level = "", text = "", all = "" } = route.query;
  const [most, setMost] = useState(SHOWN);
  const found = useMemo(() => {
    const least = LEVELS.indexOf(level);
    const wanted = text.toLowerCase();
    return history.events
      .filter(
        (event) =>
          LEVELS.indexOf(event.level) >= least &&
          (all || wanted || level || !ROUTINE.has(event.data.kind)) &&
          event.message.toLowerCase().includes(wanted),
      )
      .reverse();
  }, [history, version, level, text, all]);
  const change = (part) => go(route.path, { ...route.query, ...part }, { replace: true });
  return html`<form class="row find-bar" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label class="row">Level
        <select value=${level} onChange=${(event) => change({ level: event.target.value })}>
          <option value="">all</option>
          <option value="warn">warnings and errors</option>
          <option value="error">errors</option>
        </select>
      </label>
      <label class="row">Text <input type="search" value=${text} onInput=${(event) => change({ text: event.target.value })} /></label>
      <label class="row"><input type="checkbox" checked=${Boolean(all)} onChange=${(event) => change({ all: event.target.checked ? "1" : "" })} /> every phase and step</label>
      <span class="soft small" role="status">${found.length} of ${history.events.length} events</span>
    </form>
    ${found.length === 0
      ? html`<${Empty} title="No event is like that"><p>Ask for all levels, or for other words.</p><//>`
      : html`<ol class="events panel" reversed>
          ${found.slice(0, most).map(
            (event) =>
              html`<li key=${event.id} class=${`event event-${event.level}`}>
                <time datetime=${new Date(event.created_at * 1000).toISOString()}>${time(event.created_at)}</time>
                <span class="event-level">${event.level}</span>
                <span class="event-text"><${Said} inline text=${event.message} /></span>
              </li>`,
          )}
        </ol>`}
    ${found.length > most && html`<button type="button" onClick=${() => setMost(most + SHOWN)}>Show ${Math.min(SHOWN, found.length - most)} more</button>`}`;
}

/** The log as `strop jobs logs` prints it: it follows what comes while its end is in sight. */
export function Log({ api, history, version, job }) {
  const box = useRef(null);
  const [error, setError] = useState(null);
  const lines = useMemo(() => history.events.slice(-LINES).map(line).join("\n"), [history, version]);
  const follows = useRef(true);
  useEffect(() => {
    if (follows.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  const watch = () => {
    if (!box.current) return; // a scroll that is told after the view has gone
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    follows.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  async function save() {
    setError(null);
    try {
      const whole = await api.text(`/v1/fine_tuning/jobs/${job.id}/logs`);
      const url = URL.createObjectURL(new Blob([whole], { type: "text/plain" }));
      const link = document.createElement("a");
      Object.assign(link, { href: url, download: `${job.id}.log` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (failed) {
      setError(failed);
    }
  }
  if (!history.events.length) return html`<${Loading} what="Loading the log" />`;
  return html`<div class="row find-bar">
      <button type="button" onClick=${save}>Save the whole log</button>
      ${history.events.length > LINES && html`<span class="soft small">The newest ${LINES} of ${history.events.length} lines.</span>`}
    </div>
    <${ErrorPanel} error=${error} />
    <pre class="panel log" ref=${box} tabindex="0" role="log" aria-label="Log of the job" onScroll=${watch}>${lines}</pre>`;
}

function line(event) {
  const at = new Date(event.created_at * 1000).toISOString().slice(0, 19).replace("T", " ");
  return `${at}  ${event.level.padEnd(5)}  ${named(event.message).replaceAll("\n", "\n    ")}`;
}
