// What a verdict saw, laid out for a person: the failing test with its output, the row of SQL
// that differs, the place in the JSON, the answer beside the gold. Each panel takes the keys
// it knows (verifiers/*.py write them); whatever is left is shown as it is, so nothing that a
// grader said is hidden.

import { html } from "./dom.js";
import { number } from "./format.js";
import { isRecord, places, unclipped } from "./places.js";
import { Said } from "./said.js";

const MAX_DEPTH = 24;
const MAX_ITEMS = 200;
const CONTEXT = 160;

/** The evidence of a verdict. `text` is the completion, for the place of a JSON pointer. */
export function Evidence({ evidence, text, depth = 0 }) {
  if (!isRecord(evidence)) return html`<${Tree} value=${evidence ?? null} />`;
  const left = new Map(Object.entries(evidence));
  const take = (key, fits = () => true) => {
    if (!left.has(key) || !fits(left.get(key))) return undefined;
    const value = left.get(key);
    left.delete(key);
    return value;
  };
  const has = (key) => left.has(key);
  const panels = [];
  const reason = take("reason", isText);
  if (reason !== undefined) panels.push(html`<p class="reason"><${Said} inline text=${reason} /></p>`);
  if (has("parts")) panels.push(parts(take));
  if (has("tests") || has("test") || has("failed")) panels.push(tests(take));
  if (has("wanted") || has("found") && has("row")) panels.push(rows(take));
  if (has("pointer")) panels.push(pointer(take, evidence, text));
  if (has("chosen")) panels.push(facts([["Chosen option", take("chosen")], ["Gold option", take("gold")]]));
  if (has("gold") || has("extracted")) panels.push(answers(take, text));
  if (has("limit")) panels.push(limit(take));
  if (has("database") || has("databases") || has("unproven")) {
    panels.push(facts([["Database", take("database")], ["Right on databases", take("databases")], ["Not proven", take("unproven")]]));
  }
  if (has("grader")) panels.push(remote(take));
  const tainted = take("tainted");
  if (tainted !== undefined) panels.push(html`<p class="note warn">Tainted: <${Value} value=${tainted} /></p>`);
  const first = take("first_failure", isRecord);
  if (left.size) panels.push(html`<${Tree} value=${left} />`);
  if (first) {
    panels.push(html`<section class="nested">
      <h4>First part that failed</h4>
      ${depth < MAX_DEPTH
        ? html`<${Evidence} evidence=${first} text=${text} depth=${depth + 1} />`
        : html`<${Code} value=${JSON.stringify(first)} />`}
    </section>`);
  }
  if (!panels.length) return html`<p class="soft">The verifier left no evidence.</p>`;
  return html`<div class="evidence">${panels}</div>`;
}

function isText(value) {
  return typeof value === "string";
}

function facts(pairs) {
  const given = pairs.filter(([, value]) => value !== undefined);
  if (!given.length) return null;
  return html`<dl class="facts">
    ${given.map(([name, value]) => html`<div><dt>${name}</dt><dd><${Value} value=${value} /></dd></div>`)}
  </dl>`;
}

function parts(take) {
  const seen = take("parts");
  if (!Array.isArray(seen) || !seen.every(isRecord)) return html`<${Tree} value=${new Map([["parts", seen]])} />`;
  return html`<table class="parts">
    <thead><tr><th>Part</th><th>Status</th><th class="numeric">Score</th></tr></thead>
    <tbody>
      ${seen.map((part) => html`<tr>
        <td><${Value} value=${part.part} /></td>
        <td><${VerdictStatus} status=${part.status} /></td>
        <td class="numeric">${score(part.score)}</td>
      </tr>`)}
    </tbody>
  </table>`;
}

function tests(take) {
  const [passed, count, failed] = [take("passed"), take("tests"), take("failed")];
  const [test, output] = [take("test"), take("output")];
  return html`<section class="tests">
    ${passed !== undefined || count !== undefined
      ? html`<p><b>${plain(passed)}</b> of <b>${plain(count)}</b> tests passed</p>`
      : null}
    ${test === undefined && failed === undefined
      ? null
      : html`<h4>Failing test${failed === undefined ? "" : ` ${Number.isInteger(failed) ? failed + 1 : plain(failed)}`}</h4>
          <${Code} value=${test} />`}
    ${output ? html`<h4>Its output</h4><${Code} value=${output} />` : null}
  </section>`;
}

function rows(take) {
  const [row, wanted, found] = [take("row"), take("wanted"), take("found")];
  const [gold, answer] = [cells(wanted), cells(found)];
  const width = Math.max(gold?.length ?? 0, answer?.length ?? 0);
  const title = Number.isInteger(row) ? `Row ${row + 1} differs` : "The row that differs";
  if (!width) return facts([["Row", row], ["Gold row", wanted], ["Row of the answer", found]]);
  const differs = (i) => gold !== null && answer !== null && !sameCell(gold[i], answer[i]);
  const line = (name, values, none) => html`<tr>
    <th scope="row">${name}</th>
    ${values === null
      ? html`<td colspan=${width} class="soft">${none}</td>`
      : Array.from({ length: width }, (_, i) => html`<td class=${differs(i) ? "differs" : ""}>
          ${i < values.length
            ? html`<code><${Said} inline text=${values[i]} /></code>${differs(i) ? html`<span class="hidden-text"> differs</span>` : null}`
            : html`<span class="soft">none</span>`}
        </td>`)}
  </tr>`;
  return html`<div class="rows-scroll" tabindex="0" role="region" aria-label=${title}>
    <table class="rows">
      <caption>${title}</caption>
      <thead><tr><td></td>${Array.from({ length: width }, (_, i) => html`<th scope="col">${i + 1}</th>`)}</tr></thead>
      <tbody>
        ${line("Gold", gold, "The gold answer has no such row")}
        ${line("Answer", answer, "The answer lacks this row")}
      </tbody>
    </table>
  </div>`;
}

function pointer(take, evidence, text) {
  const value = take("pointer");
  const [keyword, extracted, found] = [take("keyword"), take("extracted"), take("found")];
  const [place] = isText(text) ? places(text, { ...evidence, first_failure: undefined }) : [];
  const shown = place ?? null;
  return html`<section>
    <p>JSON pointer <code class="pointer">${value === "" ? "(the whole value)" : html`<${Value} value=${value} />`}</code>
      ${keyword === undefined ? null : html` breaks <code><${Value} value=${keyword} /></code>`}
      ${shown?.note ? html`<span class="soft">: ${html`<${Said} inline text=${shown.note} />`}</span>` : null}</p>
    ${shown
      ? html`<${Around} text=${text} place=${shown} />`
      : html`<${Code} value=${extracted} />`}
    ${found === undefined ? null : html`<p class="soft small">Found in: <${Value} value=${found} /></p>`}
  </section>`;
}

/** The place in the text with what stands around it. */
function Around({ text, place }) {
  const start = Math.max(0, place.start - CONTEXT);
  const end = Math.min(text.length, Math.max(place.end, place.start + 1) + CONTEXT);
  const before = start > 0 ? "…" : "";
  const part = before + text.slice(start, end) + (end < text.length ? "…" : "");
  const shift = before.length - start;
  const marks = [{ start: place.start + shift, end: place.end + shift, kind: place.kind }];
  return html`<div class="code"><${Said} text=${part} marks=${marks} /></div>`;
}

function answers(take, text) {
  const [gold, extracted] = [take("gold"), take("extracted")];
  const long = [gold, extracted].some((value) => isText(value) && (value.length > 60 || value.includes("\n")));
  const told = [
    ["Found in", take("found")],
    ["Compared by", take("method") ?? take("operation") ?? take("metric")],
  ];
  if (long) {
    return html`<section>
      ${extracted === undefined ? null : html`<h4>Answer</h4><${Code} value=${extracted} />`}
      ${gold === undefined ? null : html`<h4>Gold</h4><${Code} value=${gold} />`}
      ${facts(told)}
    </section>`;
  }
  return facts([["Answer", extracted], ["Gold", gold], ...told]);
}

function limit(take) {
  const [what, seconds] = [take("limit"), take("seconds")];
  return html`<p class="note">Out of <b><${Value} value=${what} /></b>${
    seconds === undefined ? null : html` after <b>${plain(seconds)}</b> s`}</p>`;
}

function remote(take) {
  // A grader's address is text, not a link: who reads a verdict should not visit it by a slip.
  const [url, said] = [take("grader"), take("evidence")];
  let told = said;
  if (isText(said)) {
    try {
      const value = JSON.parse(said);
      if (value !== null && typeof value === "object") told = value;
    } catch {
      // A sentence and not JSON.
    }
  }
  return html`<section>
    ${facts([["Grader", url]])}
    ${told === undefined ? null : html`<h4>What it said</h4>${isText(told) ? html`<${Code} value=${told} />` : html`<${Tree} value=${told} />`}`}
  </section>`;
}

function Code({ value }) {
  if (value === undefined) return null;
  return html`<div class="code">${isText(value) ? html`<${Said} text=${value} />` : html`<${Value} value=${value} />`}</div>`;
}

/** One value in a line: a text as it is, anything else as JSON. */
function Value({ value }) {
  return html`<${Said} inline text=${plain(value)} />`;
}

function plain(value) {
  if (isText(value)) return value;
  return value === undefined ? "–" : JSON.stringify(value) ?? "–";
}

function score(value) {
  return typeof value === "number" ? number(value) : "–";
}

/** The word for a verdict's status, with a sign that does not need its colour. */
export function VerdictStatus({ status }) {
  const known = SIGNS.has(status);
  return html`<span class=${`verdict ${known ? status : "other"}`}>
    <span aria-hidden="true">${SIGNS.get(status) ?? "?"}</span> <${Value} value=${known ? status.replace("_", " ") : status} />
  </span>`;
}

const SIGNS = new Map([
  ["correct", "✓"], ["wrong", "✗"], ["malformed", "≠"], ["timeout", "◷"], ["infra_error", "!"],
]);

/** Any JSON value as a tree of keys and values. A Map stands for an object. */
export function Tree({ value, depth = 0 }) {
  const entries = value instanceof Map ? [...value] : value !== null && typeof value === "object" ? Object.entries(value) : null;
  if (entries === null) return html`<${Value} value=${value} />`;
  if (!entries.length) return html`<span class="soft">${Array.isArray(value) ? "[]" : "{}"}</span>`;
  if (depth >= MAX_DEPTH) return html`<${Value} value=${value} />`;
  return html`<dl class="tree">
    ${entries.slice(0, MAX_ITEMS).map(([key, item]) => html`<div>
      <dt><${Said} inline text=${key} /></dt>
      <dd><${Tree} value=${item} depth=${depth + 1} /></dd>
    </div>`)}
    ${entries.length > MAX_ITEMS ? html`<div><dt>…</dt><dd class="soft">${entries.length - MAX_ITEMS} more</dd></div>` : null}
  </dl>`;
}

/**
 * The cells of a row of SQL as its evidence has it: `repr` of a Python tuple, perhaps
 * clipped. null when there is no row, or the text is no tuple.
 */
export function cells(row) {
  if (!isText(row) || !row.startsWith("(")) return null;
  const text = unclipped(row);
  const clipped = text !== row;
  const body = clipped || !text.endsWith(")") ? text.slice(1) : text.slice(1, -1);
  const found = [];
  let [depth, quote, start] = [0, "", 0];
  for (let at = 0; at < body.length; at++) {
    const character = body[at];
    if (quote) {
      if (character === "\\") at++;
      else if (character === quote) quote = "";
    } else if (character === "'" || character === '"') quote = character;
    else if ("([{".includes(character)) depth++;
    else if (")]}".includes(character)) depth--;
    else if (character === "," && depth === 0) {
      found.push(body.slice(start, at).trim());
      start = at + 1;
    }
  }
  const last = body.slice(start).trim();
  if (last || clipped) found.push(clipped ? `${last}…` : last);
  return found.map(sqlWord);
}

const WORDS = new Map([
  ["None", "NULL"], ["('boolean', True)", "TRUE"], ["('boolean', False)", "FALSE"], ["('nan',)", "NaN"],
]);

function sqlWord(cell) {
  const decimal = /^Decimal\('([^']*)'\)$/.exec(cell);
  return decimal ? decimal[1] : WORDS.get(cell) ?? cell;
}

/** Whether two cells say the same: numbers to nine digits, as the judge compares them. */
function sameCell(gold, answer) {
  if (gold === answer) return true;
  if (gold === undefined || answer === undefined || gold.trim() === "" || answer.trim() === "") return false;
  const [one, other] = [Number(gold), Number(answer)];
  return Math.abs(one - other) <= 1e-9 * Math.max(Math.abs(one), Math.abs(other));
}
