// The resolved spec of a job: every leaf with its path, as a file would say it.
import { html, useState } from "../dom.js";
import { leaves, written } from "../leaves.js";
import { address } from "../router.js";
import { Said } from "../said.js";
import { Empty } from "../ui.js";

export function Config({ job }) {
  const [text, setText] = useState("");
  const [copied, setCopied] = useState(null);
  const wanted = text.toLowerCase();
  const found = leaves(job.spec).filter(([path, value]) => `${path} ${written(value)}`.toLowerCase().includes(wanted));
  async function copy() {
    try {
      await navigator.clipboard.writeText(JSON.stringify(job.spec, null, 2));
      setCopied("Copied.");
    } catch {
      setCopied("The browser does not let the page write to the clipboard.");
    }
  }
  return html`<div class="row find-bar">
      <label class="row">Find <input type="search" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
      <button type="button" onClick=${copy}>Copy as JSON</button>
      <a class="button" href=${address("/jobs/new", { from: job.id })}>New job like this</a>
      <span class="soft small" role="status">${copied}</span>
    </div>
    ${job.notes.length > 0 &&
    html`<div class="panel notice"><ul class="plain">${job.notes.map((note) => html`<li><${Said} inline text=${note} /></li>`)}</ul></div>`}
    ${found.length === 0
      ? html`<${Empty} title="No field is like that" />`
      : html`<div class="wide-table">
          <table class="config">
            <thead><tr><th scope="col">Field</th><th scope="col">Value</th></tr></thead>
            <tbody>
              ${found.map(([path, value]) => html`<tr><th scope="row"><code><${Said} inline text=${path} /></code></th><td><code><${Said} inline text=${written(value)} /></code></td></tr>`)}
            </tbody>
          </table>
        </div>`}
    ${Object.keys(job.metadata).length > 0 &&
    html`<h2 class="apart">Metadata</h2>
      <div class="wide-table"><table class="config"><tbody>
        ${Object.entries(job.metadata).map(([key, value]) => html`<tr><th scope="row"><code><${Said} inline text=${key} /></code></th><td><${Said} inline text=${value} /></td></tr>`)}
      </tbody></table></div>`}`;
}
