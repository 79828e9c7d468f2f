// A checkpoint next to its base: one prompt, two answers, both as they are written.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { may } from "../actions.js";
import { api as client } from "../api.js";
import { duration } from "../format.js";
import { named, Said } from "../said.js";
import { Empty, ErrorPanel, Field, Loading, useLoad } from "../ui.js";

const MAX_TOKENS = 256;

export function View({ api, route, go, me }) {
  const { data: models, error, reload } = useLoad(({ signal }) => listed(api, signal), []);
  const trained = models?.filter((one) => one.base) ?? [];
  const model = route.query.model ?? trained[0]?.id ?? "";
  const base = route.query.base ?? models?.find((one) => one.id === model)?.base ?? models?.find((one) => !one.base)?.id ?? "";
  const [prompt, setPrompt] = useState("");
  const [sampling, setSampling] = useState({ temperature: 0.7, max_tokens: MAX_TOKENS });
  const panes = [usePane(), usePane()];
  const busy = panes.some((pane) => pane.busy);
  useEffect(() => {
    document.title = "Chat · Strop";
    return () => panes.forEach((pane) => pane.stop());
  }, []);
  if (me && !may(me, "models:infer")) {
    return html`<${Empty} title="This key may not ask models"><p>It needs the scope <code>models:infer</code>.</p><//>`;
  }
  if (error) return html`<${ErrorPanel} error=${error} retry=${reload} />`;
  if (!models) return html`<${Loading} what="Loading the models" />`;
  const names = [model, base];
  const choose = (part) => {
    panes.forEach((pane) => pane.clear());
    go("/chat", { model, base, ...part }, { replace: true });
  };
  const send = (event) => {
    event?.preventDefault();
    const said = prompt.trim();
    if (!said || busy) return;
    setPrompt("");
    const answers = panes.map((pane, at) => names[at] && pane.send(names[at], said, sampling));
    // What nobody answered, as while a model is loaded, is not to be written again.
    Promise.all(answers).then((got) => got.some(Boolean) || setPrompt((now) => now || said));
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  const number = (name, label, step) =>
    html`<label class="row">${label}
      <input class="short" type="number" min="0" step=${step} value=${sampling[name]} onChange=${(event) => setSampling({ ...sampling, [name]: Number(event.target.value) })} />
    </label>`;
  return html`<div class="head"><h1>Chat</h1>
      <div class="actions">
        ${busy && html`<button type="button" onClick=${() => panes.forEach((pane) => pane.stop())}>Stop</button>`}
        <button type="button" disabled=${busy} onClick=${() => panes.forEach((pane) => pane.clear())}>Start over</button>
      </div>
    </div>
    ${trained.length === 0 && !route.query.model &&
    html`<p class="panel notice" role="status">No trained model yet: a job leaves one at its first checkpoint. The base models can be asked meanwhile.</p>`}
    <div class="beside chat">
      <${Pane} title="Trained" name=${model} models=${models} pane=${panes[0]} onChoose=${(next) => choose({ model: next, base: models.find((one) => one.id === next)?.base ?? base })} />
      <${Pane} title="Base" name=${base} models=${models} pane=${panes[1]} onChoose=${(next) => choose({ base: next })} />
    </div>
    <form class="panel ask" onSubmit=${send}>
      <${Field} label="Prompt for both" hint="Enter sends, Shift+Enter begins a new line." wide>
        ${(more) => html`<textarea rows="3" ...${more} value=${prompt} onInput=${(event) => setPrompt(event.target.value)} onKeyDown=${keys}></textarea>`}
      <//>
      <div class="row">
        <button class="primary" disabled=${busy || !prompt.trim()}>${busy ? "Answering…" : "Send to both"}</button>
        ${number("temperature", "Temperature", "0.1")} ${number("max_tokens", "Most tokens", "1")}
      </div>
    </form>`;
}

async function listed(api, signal) {
  const found = [];
  let after = "";
  do {
    const page = await api.get(`/v1/models?limit=100${after}`, { signal });
    found.push(...page.data);
    after = page.has_more ? `&after=${encodeURIComponent(page.last_id)}` : null;
  } while (after !== null && found.length < 1000);
  return found;
}

const NOTHING = { turns: [], busy: false, waiting: false, error: null, took: null, stopped: false };

/** One conversation: {turns, busy, waiting, error, took, stopped, send, stop, clear}; `send`
 * resolves to whether something was answered. */
function usePane() {
  const [state, setState] = useState(NOTHING);
  const now = useRef(state);
  const running = useRef(null);
  return useMemo(() => {
    const set = (part) => setState((now.current = { ...now.current, ...part }));
    const stop = () => running.current?.abort();
    const clear = () => {
      stop();
      running.current = null;
      set(NOTHING);
    };
    async function send(model, said, sampling) {
      const mine = (running.current = new AbortController());
      const { signal } = mine;
      const answered = now.current.turns.filter((turn) => turn.text);
      if (answered.at(-1)?.role === "user") answered.pop(); // nothing came of it
      const before = [...answered, { role: "user", text: said }];
      set({ ...NOTHING, turns: [...before, { role: "assistant", text: "" }], busy: true, waiting: true });
      const began = performance.now();
      let text = "";
      try {
        const messages = before.map((turn) => ({ role: turn.role, content: turn.text }));
        for await (const chunk of client.streamed("/v1/chat/completions", { model, messages, stream: true, ...sampling }, { signal })) {
          text += chunk.choices?.[0]?.delta?.content ?? "";
          if (text) set({ turns: [...before, { role: "assistant", text }], waiting: false });
        }
        if (running.current === mine) set({ took: (performance.now() - began) / 1000, stopped: signal.aborted });
      } catch (error) {
        if (!signal.aborted) set({ error });
      }
      if (running.current === mine) set({ busy: false, waiting: false });
      return text !== "";
    }
    return {
      get turns() { return now.current.turns; },
      get busy() { return now.current.busy; },
      get waiting() { return now.current.waiting; },
      get error() { return now.current.error; },
      get took() { return now.current.took; },
      get stopped() { return now.current.stopped; },
      send, stop, clear,
    }; // prettier-ignore
  }, []);
}

function Pane({ title, name, models, pane, onChoose }) {
  const known = models.some((one) => one.id === name);
  return html`<section class="panel pane" aria-label=${`${title}: ${name}`}>
    <label class="pane-model"><span>${title}</span>
      <select value=${name} onChange=${(event) => onChoose(event.target.value)}>
        ${!known && html`<option value=${name}>${named(name) || "none"}</option>`}
        ${models.map((one) => html`<option value=${one.id}>${named(one.id)}</option>`)}
      </select>
    </label>
    <div class="turns" role="log" aria-live="polite" aria-busy=${pane.busy} aria-label=${`Conversation with ${name}`} tabindex="0">
      ${pane.turns.length === 0 && html`<p class="soft">Both models get the same prompts.</p>`}
      ${pane.turns.map((turn) => turn.text && html`<div class=${`turn turn-${turn.role}`}><b class="soft small">${turn.role}</b><${Said} text=${turn.text} /></div>`)}
      ${pane.waiting && html`<${Waiting} />`}
      ${pane.error && html`<${ErrorPanel} error=${pane.error} />`}
    </div>
    ${pane.took !== null && html`<p class="soft small">${pane.stopped ? "stopped after" : "answered in"} ${duration(pane.took)}</p>`}
  </section>`;
}

/** A model that is not loaded takes its time; after a moment that is said. */
function Waiting() {
  const [long, setLong] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLong(true), 3000);
    return () => clearTimeout(timer);
  }, []);
  return html`<${Loading} what=${long ? "The model is being loaded; the first answer can take minutes" : "Waiting for the first token"} />`;
}
