// The form of a job spec, made of its JSON Schema: every field with its description and default.
import { html, useState } from "./dom.js";
import { at, kinds, resolved } from "./schema.js";
import { Field } from "./ui.js";

/** `value` holds only what was set; `change(path, value)` sets or, with undefined, unsets. */
export function SpecForm({ schema, value, change, problems }) {
  const fields = Object.entries(schema.properties);
  const [plain, nested] = [[], []];
  for (const entry of fields) (isGroup(entry[1], schema) ? nested : plain).push(entry);
  return html`<div class="fields">
      ${plain.map(([name, part]) => html`<${Input} key=${name} name=${name} path=${name} schema=${part} root=${schema} value=${value} change=${change} problems=${problems} />`)}
    </div>
    ${nested.map(([name, part]) => html`<${Group} key=${name} name=${name} path=${name} schema=${part} root=${schema} value=${value} change=${change} problems=${problems} />`)}`;
}

function isGroup(schema, root) {
  const field = resolved(schema, root);
  return Boolean(field.properties || kinds(field, root));
}

function Group({ name, path, schema, root, value, change, problems }) {
  const field = resolved(schema, root);
  const union = kinds(field, root);
  const kind = at(value, `${path}.kind`) ?? field.default?.kind ?? (field.nullable ? "" : union?.[0][0]);
  const shown = union ? union.find(([one]) => one === kind)?.[1] : field;
  const wrong = problems.some((one) => one.field === path || one.field.startsWith(`${path}.`));
  const set = at(value, path) !== undefined;
  const [open, setOpen] = useState(name === "algorithm" || name === "sampling");
  const parts = Object.entries(shown?.properties ?? {}).filter(([one]) => one !== "kind");
  const props = { root, value, change, problems };
  return html`<details class="spec-group" open=${open || wrong} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>${words(name)}${set && html` <span class="badge badge-accent">changed</span>`} <span class="soft small">${field.description}</span></summary>
    <div class="fields">
      ${union &&
      html`<${Field} label="kind" hint=${shown?.description} problem=${said(problems, `${path}.kind`) ?? said(problems, path)}>
        ${(more) =>
          html`<select ...${more} value=${kind} onChange=${(event) => change(path, event.target.value ? { kind: event.target.value } : undefined)}>
            ${field.nullable && html`<option value="">as the algorithm wants it</option>`}
            ${union.map(([one]) => html`<option value=${one}>${one}</option>`)}
          </select>`}
      <//>`}
      ${parts.filter(([, part]) => !isGroup(part, root)).map(([one, part]) => html`<${Input} key=${one} name=${one} path=${`${path}.${one}`} schema=${part} ...${props} />`)}
    </div>
    ${parts.filter(([, part]) => isGroup(part, root)).map(([one, part]) => html`<${Group} key=${one} name=${one} path=${`${path}.${one}`} schema=${part} ...${props} />`)}
  </details>`;
}

function Input({ name, path, schema, root, value, change, problems }) {
  const field = resolved(schema, root);
  const set = at(value, path);
  const label = words(name);
  const hint = field.description;
  const problem = said(problems, path);
  const put = (next) => change(path, next);
  const initial = field.default === undefined || field.default === null ? "" : field.default;
  if (field.enum) {
    return html`<${Field} label=${label} hint=${hint} problem=${problem}>
      ${(more) =>
        html`<select ...${more} value=${set ?? ""} onChange=${(event) => put(event.target.value || undefined)}>
          <option value="">${initial === "" ? "not set" : `${initial} (default)`}</option>
          ${field.enum.filter((one) => one !== initial).map((one) => html`<option value=${one}>${one}</option>`)}
        </select>`}
    <//>`;
  }
  if (field.type === "boolean") {
    return html`<${Field} label=${label} hint=${hint} problem=${problem}>
      ${(more) =>
        html`<select ...${more} value=${set === undefined ? "" : String(set)} onChange=${(event) => put(event.target.value === "" ? undefined : event.target.value === "true")}>
          <option value="">${field.default ? "yes" : "no"} (default)</option>
          <option value=${String(!field.default)}>${field.default ? "no" : "yes"}</option>
        </select>`}
    <//>`;
  }
  if (field.type === "integer" || field.type === "number") {
    return html`<${Field} label=${label} hint=${hint} problem=${problem}>
      ${(more) =>
        html`<input ...${more} inputmode="decimal" value=${set ?? ""} placeholder=${String(initial)} onChange=${(event) => put(numeric(event.target.value))} />`}
    <//>`;
  }
  if (field.type === "string") {
    return html`<${Field} label=${label} hint=${hint} problem=${problem}>
      ${(more) => html`<input ...${more} value=${set ?? ""} placeholder=${String(initial)} spellcheck=${false} onChange=${(event) => put(event.target.value || undefined)} />`}
    <//>`;
  }
  return html`<${Field} label=${`${label} (JSON)`} hint=${hint} problem=${problem} wide>
    ${(more) =>
      html`<textarea class="editor" rows="2" ...${more} placeholder=${initial === "" ? "" : JSON.stringify(initial)} spellcheck=${false} onChange=${(event) => put(parsed(event.target.value))}>${set === undefined ? "" : JSON.stringify(set)}</textarea>`}
  <//>`;
}

/** What is wrong at exactly this field. */
export function said(problems, path) {
  const found = problems.filter((one) => one.field === path).map((one) => one.message);
  return found.length ? found.join("; ") : null;
}

function words(name) {
  return name.replaceAll("_", " ");
}

/** A number; what is none stays as it was written, and is told to be wrong. */
function numeric(text) {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const found = Number(trimmed);
  return Number.isNaN(found) ? trimmed : found;
}

function parsed(text) {
  if (!text.trim()) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
