// A new job: its spec as a form or as JSON, checked against the schema while it is written; the
// service checks it whole, says what it would take (dry run), and queues it.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { may } from "../actions.js";
import { onceKey } from "../api.js";
import { at, check, placed } from "../schema.js";
import { said, SpecForm } from "../spec_form.js";
import { Empty, ErrorPanel, Field, Loading, useLoad } from "../ui.js";
import { Report } from "./submit_report.js";

export function View({ api, route, go, me }) {
  const { data: schema, error, reload } = useLoad(({ signal }) => api.get("/v1/config/schema", { signal }), []);
  const [spec, setSpec] = useState({ algorithm: { kind: "rlsd" } });
  const [limits, setLimits] = useState({});
  const [text, setText] = useState(null); // of the JSON editor while it is open
  const [report, setReport] = useState(null);
  const [failure, setFailure] = useState(null);
  const [busy, setBusy] = useState(null);
  const [tried, setTried] = useState(false);
  const once = useRef(onceKey());
  useEffect(() => {
    document.title = "New job · Strop";
  }, []);
  useEffect(() => {
    if (!route.query.from) return;
    api.get(`/v1/fine_tuning/jobs/${route.query.from}`).then((job) => setSpec(job.method.strop ?? job.spec), setFailure);
  }, [route.query.from]);
  const broken = useMemo(() => jsonFault(text), [text]);
  const problems = useMemo(() => {
    const own = schema ? check(schema, spec, schema).filter((one) => tried || one.message !== "is required") : [];
    return [...own, ...(failure?.problems ?? []).map((one) => ({ field: plainPath(one.field, spec), message: one.message }))];
  }, [schema, spec, failure, tried]);
  if (me && !may(me, "jobs:write")) {
    return html`<${Empty} title="This key may not make jobs">
      <p>It needs the scope <code>jobs:write</code>; ask your operator for a key that has it.</p>
      <a class="button" href="#/jobs">Back to the jobs</a>
    <//>`;
  }
  if (!schema) return error ? html`<${ErrorPanel} error=${error} retry=${reload} />` : html`<${Loading} what="Loading the form" />`;
  const touched = () => {
    setFailure(null);
    setReport(null);
    once.current = onceKey();
  };
  const change = (path, value) => {
    setSpec((before) => placed(before, path, value));
    touched();
  };
  const edit = (next) => {
    setText(next);
    if (!jsonFault(next)) setSpec(JSON.parse(next));
    touched();
  };
  async function send(dry) {
    setTried(true);
    const wrong = check(schema, spec, schema);
    if (wrong.length || broken) {
      setFailure(null);
      setTimeout(() => document.querySelector('[aria-invalid="true"]')?.focus());
      return;
    }
    setBusy(dry ? "dry" : "queue");
    setFailure(null);
    const body = { method: { type: "strop", strop: spec }, ...limits, ...(dry ? { dry_run: true, preview: 3 } : {}) };
    try {
      const headers = dry ? {} : { "Idempotency-Key": once.current };
      const answer = await api.post("/v1/fine_tuning/jobs", body, { headers });
      if (dry) setReport(answer);
      else go(`/jobs/${answer.id}`);
    } catch (failed) {
      setFailure(failed);
      setTimeout(() => document.querySelector('[aria-invalid="true"], .problem')?.scrollIntoView({ block: "center" }));
    }
    setBusy(null);
  }
  const own = { value: spec, change, problems };
  const unplaced = problems.filter((one) => tried || failure);
  return html`<div class="head"><h1>New job</h1>
      <div class="actions">
        <button type="button" aria-pressed=${text !== null} onClick=${() => setText(text === null ? JSON.stringify(spec, null, 2) : null)}>Edit as JSON</button>
      </div>
    </div>
    <form class="stack submit" novalidate onSubmit=${(event) => (event.preventDefault(), send(false))}>
      ${text !== null
        ? html`<div class="panel">
            <${Field} label="Job spec" hint="What is left out keeps its default." problem=${broken} wide>
              ${(more) => html`<textarea class="editor" rows="24" ...${more} spellcheck=${false} value=${text} onInput=${(event) => edit(event.target.value)}></textarea>`}
            <//>
          </div>`
        : html`<section class="panel"><h2>Model and tasks</h2>
            <div class="fields">
              <${Path} api=${api} me=${me} label="Model" path="model.path" hint="A folder, a Hugging Face id, or smollm2-135m-instruct." ...${own} />
              <${Path} api=${api} me=${me} label="Training tasks" path="tasks.train" upload hint="JSONL or Parquet: a path on the service's machine, or a file you send." ...${own} />
              <${Path} api=${api} me=${me} label="Held-out tasks" path="tasks.holdout" upload hint="Judged before and after; without them nobody can say what was gained." ...${own} />
            </div>
          </section>
          <section class="panel"><h2>Spec</h2>
            <${SpecForm} schema=${narrowed(schema)} ...${own} />
          </section>
          <section class="panel"><h2>Limits</h2>
            <div class="fields">
              ${[
                ["priority", "Priority", "Jobs of a higher priority start first; −100 to 100."],
                ["max_runtime", "Longest run (s)", "The job is paused after so many seconds of running."],
                ["max_tokens", "Most tokens", "The job is paused after so many completion tokens."],
              ].map(
                ([name, label, hint]) =>
                  html`<${Field} label=${label} hint=${hint} problem=${said(problems, name)}>
                    ${(more) =>
                      html`<input ...${more} inputmode="numeric" value=${limits[name] ?? ""} onChange=${(event) => {
                        const { value } = event.target;
                        setLimits(placed(limits, name, value.trim() === "" ? undefined : Number.isNaN(Number(value)) ? value : Number(value)));
                        touched();
                      }} />`}
                  <//>`,
              )}
            </div>
          </section>`}
      ${unplaced.length > 0 &&
      html`<div class="panel problem" role="alert">
        <p class="problem-title">${unplaced.length === 1 ? "One field is" : `${unplaced.length} fields are`} not right</p>
        <ul>${unplaced.map((one) => html`<li><code>${one.field || "spec"}</code> ${one.message}</li>`)}</ul>
      </div>`}
      ${failure && !failure.problems?.length && html`<${ErrorPanel} error=${failure} />`}
      <div class="actions">
        <button class="primary" disabled=${busy !== null}>${busy === "queue" ? "Queueing…" : "Queue the job"}</button>
        <button type="button" disabled=${busy !== null} onClick=${() => send(true)}>${busy === "dry" ? "Looking at models and tasks…" : "Dry run"}</button>
        <span class="soft small">A dry run checks everything and starts nothing.</span>
      </div>
    </form>
    ${report && html`<${Report} report=${report} />`}`;
}

/** A path or name of the spec that a file may be sent for. */
function Path({ api, me, label, path, hint, upload = false, value, change, problems }) {
  const [state, setState] = useState(null);
  const set = at(value, path);
  async function send(event) {
    const file = event.target.files[0];
    if (!file) return;
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", file);
    setState({ busy: true });
    try {
      const sent = await api.upload("/v1/files", form);
      change(path, sent.id);
      setState({ told: `${file.name} is ${sent.id}.` });
    } catch (failed) {
      setState({ error: failed.message });
    }
  }
  return html`<${Field} label=${label} hint=${state?.told ?? hint} problem=${state?.error ?? said(problems, path)}>
    ${(more) =>
      html`<span class="path">
        <input ...${more} value=${set ?? ""} spellcheck=${false} onInput=${(event) => change(path, event.target.value || undefined)} onChange=${(event) => change(path, event.target.value.trim() || undefined)} />
        ${upload && may(me, "files:write") &&
        html`<label class="button">${state?.busy ? "Sending…" : "Send a file"}
          <input type="file" class="hidden-text" accept=".jsonl,.json,.parquet" aria-label=${`Send a file of ${label.toLowerCase()}`} onChange=${send} />
        </label>`}
      </span>`}
  <//>`;
}

/** The schema without what is shown above: the model's path and the task files. */
function narrowed(schema) {
  const { $defs } = schema;
  const without = (name, gone) => ({
    ...$defs[name],
    properties: Object.fromEntries(Object.entries($defs[name].properties).filter(([one]) => !gone.includes(one))),
  });
  return { ...schema, $defs: { ...$defs, ModelSpec: without("ModelSpec", ["path"]), TasksSpec: without("TasksSpec", ["train", "holdout"]) } };
}

/** A field as the service names it, `method.strop.algorithm.rlsd.clip`, as the form does. */
function plainPath(field, spec) {
  const names = field.replace(/^method\.(strop\.)+/, "").split(".");
  const kind = at(spec, "algorithm.kind");
  const own = { model: "model.path", training_file: "tasks.train", validation_file: "tasks.holdout", suffix: "name" };
  if (field in own) return own[field];
  return names.filter((name, index) => !(index > 0 && name === kind)).join(".");
}

function jsonFault(text) {
  if (text === null) return null;
  try {
    const found = JSON.parse(text);
    return found !== null && typeof found === "object" && !Array.isArray(found) ? null : "must be a JSON object";
  } catch (error) {
    return error.message;
  }
}
