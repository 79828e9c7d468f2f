// Asks for an API key, and tries it before anything is shown.
import { html, useEffect, useRef, useState } from "../dom.js";
import { ErrorPanel, Field } from "../ui.js";

export function View({ api, reason, onEnter }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const input = useRef(null);
  useEffect(() => {
    document.title = "Sign in · Strop";
    input.current.focus();
  }, []);
  async function enter(event) {
    event.preventDefault();
    const key = input.current.value.trim();
    if (!key) {
      setError(new Error("Paste an API key first."));
      return;
    }
    setBusy(true);
    api.signIn(key);
    try {
      await api.get("/v1/me");
      onEnter();
    } catch (failed) {
      api.signOut(null);
      setError(failed);
      setBusy(false);
      input.current.focus();
    }
  }
  const wrong = error?.status === 401 || (error && error.status === undefined && !error.cause);
  return html`<main class="login" id="main" tabindex="-1">
    <h1><img src=${new URL("../icon.svg", import.meta.url)} alt="" width="28" height="28" />Strop</h1>
    <p class="soft">Post-training of your own reasoning models.</p>
    ${reason && !error && html`<p class="panel notice" role="status">You were signed out: ${reason}</p>`}
    <form onSubmit=${enter} novalidate>
      <${Field} label="API key" problem=${wrong ? error.message : null} hint="It stays in this tab and is forgotten when the tab is closed.">
        ${(props) =>
          html`<input ...${props} ref=${input} type="password" name="key" autocomplete="off" spellcheck=${false} placeholder="strop_…" />`}
      <//>
      ${error && !wrong && html`<${ErrorPanel} error=${error} />`}
      <button class="primary" disabled=${busy}>${busy ? "Asking the service…" : "Sign in"}</button>
    </form>
    <p class="soft small">
      <code>strop up</code> prints where it keeps the key of this machine's user; on a cluster ask
      your operator, who makes one with <code>strop keys create</code>.
    </p>
  </main>`;
}
