// The heat map with its controls: which stream, its legend, the trail along the completion,
// the numbers of one token, and the tokens that carry most.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./dom.js";
import { count, number, percent } from "./format.js";
import { Heat, tokensOf } from "./heat.js";
import { places } from "./places.js";
import { quoted, Said } from "./said.js";
import { STREAMS, legend, scaleOf, shadeClass, streamsOf, strongest } from "./streams.js";
import { Trail } from "./trail.js";

const STRONGEST = 24;
const REMEMBER_MS = 400;
/** Streams that are offered only where a rollout has them; the others are shown as absent. */
const OPTIONAL = new Set(["weight", "contrast_logprob", "engine_logprob", "mismatch"]);

export function TokenMap({ rollout, query, remember }) {
  const tokens = useMemo(() => tokensOf(rollout), [rollout]);
  const streams = useMemo(() => streamsOf(rollout), [rollout]);
  const marks = useMemo(() => places(rollout.text, rollout.evidence), [rollout]);
  const chosen = streams.has(query.stream) ? query.stream : streams.keys().next().value;
  const stream = STREAMS.find(({ key }) => key === chosen);
  const values = streams.get(chosen) ?? null;
  const scale = useMemo(() => values && scaleOf(stream, values), [values]);
  const box = useRef(null);
  const heat = useRef(null);
  const [focused, setFocused] = useState(null);
  const [pointed, setPointed] = useState(null);

  // A pointer that rests on a token does not hold the panel when keys move on.
  const choose = (index) => {
    setPointed(null);
    setFocused(index);
  };

  useLayoutEffect(() => {
    const shades = scale ? { scale, values } : {};
    const map = new Heat(box.current, tokens, { marks, ...shades, onPoint: setPointed, onFocus: choose });
    heat.current = map;
    if (/^\d+$/.test(query.token ?? "")) map.show(Number(query.token));
    return () => map.destroy();
  }, [tokens, marks]);
  const first = useRef(true);
  useLayoutEffect(() => {
    if (first.current) first.current = false;
    else if (scale) heat.current.paint(scale, values);
  }, [scale]);
  useEffect(() => {
    // Focus moves fast under a held key, and browsers ration changes of the address.
    if (focused === null || String(focused) === query.token) return undefined;
    const timer = setTimeout(() => remember({ ...query, token: focused }), REMEMBER_MS);
    return () => clearTimeout(timer);
  }, [focused]);

  const shown = pointed ?? focused;
  const jump = (index) => heat.current.focus(index);
  return html`<div class="token-map">
    <div class="token-main">
      <${Streams} streams=${streams} chosen=${chosen} choose=${(key) => remember({ ...query, stream: key })} />
      ${stream && html`<p class="soft small">${stream.help}</p>
        <${Legend} stream=${stream} scale=${scale} />
        <${Trail} values=${values} scale=${scale} current=${focused ?? 0} onJump=${jump} />`}
      <div class="heat panel" ref=${box} role="group" aria-label="The completion, token by token. Arrow keys move between tokens and lines."></div>
    </div>
    <aside class="token-side" aria-label="Token">
      <${Details} tokens=${tokens} rollout=${rollout} streams=${streams} chosen=${chosen} index=${shown} />
      ${scale && html`<${Strongest} tokens=${tokens} values=${values} stream=${stream} scale=${scale} jump=${jump} />`}
    </aside>
    <p class="hidden-text" aria-live="polite">${focused === null ? "" : spoken(tokens[focused], values?.[focused], stream)}</p>
  </div>`;
}

function spoken(token, value, stream) {
  const told = value == null ? "no value" : stream.say(value);
  return `${quoted(token.text)}${stream ? `, ${stream.label.toLowerCase()} ${told}` : ""}`;
}

function Streams({ streams, chosen, choose }) {
  return html`<fieldset class="streams">
    <legend class="hidden-text">Colour the tokens by</legend>
    ${STREAMS.filter(({ key }) => streams.has(key) || !OPTIONAL.has(key)).map(({ key, label, help }) => html`
      <label title=${streams.has(key) ? help : `This job's traces have no ${label.toLowerCase()}.`} class=${streams.has(key) ? "" : "absent"}>
        <input type="radio" name="stream" value=${key} checked=${key === chosen} disabled=${!streams.has(key)} onChange=${() => choose(key)} />
        ${label}
      </label>`)}
  </fieldset>`;
}

function Legend({ stream, scale }) {
  const shades = legend(scale);
  const [low, high] = [shades[0].value, shades.at(-1).value];
  const both = scale.signed && !scale.oneSided;
  const beyond = scale.beyond ? (scale.direction > 0 ? "≥ " : "≤ ") : "";
  const told = `Scale from ${stream.say(low)} to ${stream.say(high)}${scale.beyond ? " and beyond" : ""}`;
  return html`<div class="heat-legend">
    <span>${both && scale.beyond ? "≤ " : ""}${number(low)}</span>
    <span class="swatches" role="img" aria-label=${told}>${shades.map(({ shade }) => html`<span class=${`token ${shadeClass(scale, shade)}`}>ab</span>`)}</span>
    <span>${beyond}${number(high)}</span>
    ${scale.signed && html`<span class="soft">blue and solid above ${number(scale.origin)}, orange and dashed below</span>`}
  </div>`;
}

function Details({ tokens, rollout, streams, chosen, index }) {
  if (index === null) {
    return html`<section class="panel details">
      <h2>Token</h2>
      <p class="soft">Point at a token, or go to the completion with Tab and move with the arrow keys.</p>
    </section>`;
  }
  const token = tokens[index];
  const id = rollout.token_ids?.[index];
  return html`<section class="panel details">
    <h2>Token ${count(index + 1)} <span class="soft">of ${count(tokens.length)}${id === undefined ? "" : `, id ${id}`}</span></h2>
    <p class="token-text">${token.part
      ? html`<span class="soft">Bytes of a character that a later token ends.</span>`
      : html`<code>${quoted(token.text)}</code>`}${token.special ? html` <span class="badge">special</span>` : null}</p>
    <table class="values"><tbody>
      ${STREAMS.filter(({ key }) => streams.has(key)).map(({ key, label, say }) => {
        const value = streams.get(key)[index] ?? null;
        return html`<tr class=${key === chosen ? "chosen" : ""}>
          <th scope="row">${label}</th>
          <td class="numeric">${value === null ? "–" : say(value)}</td>
          <td class="numeric soft">${key.endsWith("_logprob") && value !== null ? percent(Math.exp(value)) : ""}</td>
        </tr>`;
      })}
    </tbody></table>
    <div class="alternatives">
      <${Alternatives} name="Policy" all=${rollout.alternatives} index=${index} token=${token} />
      <${Alternatives} name="Teacher" all=${rollout.teacher_alternatives} index=${index} token=${token} />
    </div>
  </section>`;
}

/** What else could have stood here. */
function Alternatives({ name, all, index, token }) {
  const here = Array.isArray(all) ? all[index] : null;
  if (!here?.length) return html`<p class="soft small">${name}: the trace keeps no alternatives.</p>`;
  return html`<table>
    <caption>${name}’s likeliest tokens here</caption>
    <tbody>${here.map(({ text, logprob }) => html`<tr class=${text === token.text ? "sampled" : ""}>
      <td><code>${quoted(text, 24)}</code>${text === token.text ? html`<span class="hidden-text"> (sampled)</span>` : null}</td>
      <td class="numeric">${percent(Math.exp(logprob))}</td>
      <td class="share"><i style=${{ width: `${Math.max(1, 100 * Math.exp(logprob))}%` }}></i></td>
    </tr>`)}</tbody>
  </table>`;
}

function Strongest({ tokens, values, stream, scale, jump }) {
  const list = useMemo(() => strongest(scale, values, STRONGEST), [scale]);
  return html`<section class="panel strongest">
    <h2>${stream.best === undefined ? "Furthest from neutral" : stream.down ? "Least likely" : "Most uncertain"}</h2>
    <ol>${list.map((index) => html`<li><button type="button" class="quiet" onClick=${() => jump(index)}>
      <code class=${`token ${shadeClass(scale, scale.bin(values[index]))}`}>${quoted(tokens[index].text, 18)}</code>
      <span class="numeric">${stream.say(values[index])}</span>
      <span class="soft numeric">${count(index + 1)}</span>
    </button></li>`)}</ol>
  </section>`;
}
