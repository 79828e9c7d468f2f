// Text that a model, a task or a stranger wrote, put on the page as what it is: text.
// Invisible and reordering characters become chips that name them and cannot act on what
// stands around them; they stay in the document, so that a copy is the original. Ranges of
// the text can be marked.

import { html, useLayoutEffect, useRef, useState } from "./dom.js";

const ODD_CLASS =
  "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5" +
  "\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0" +
  "\\ufff0-\\ufffb\\ud800-\\udfff\\u{e0000}-\\u{e0fff}";
// Emoji are spelled with a variation selector and with joiners; those say what they seem to say.
const SPELLING =
  "(?<=\\p{Emoji})\\ufe0f(?![\\ufe00-\\ufe0f])" +
  "|(?<=[\\p{Extended_Pictographic}\\p{Emoji_Modifier}\\ufe0f])\\u200d(?=\\p{Extended_Pictographic})";
const ODD = new RegExp(`(?:(?!${SPELLING})[${ODD_CLASS}])+`, "gu");
const MAYBE_ODD = /[^\t\n\x20-\x7e]/;

const NAMES = new Map([
  [0x00, "NUL"], [0x07, "BEL"], [0x08, "BS"], [0x0d, "CR"], [0x1b, "ESC"], [0x7f, "DEL"],
  [0xad, "SHY"], [0x61c, "ALM"], [0x200b, "ZWSP"], [0x200c, "ZWNJ"], [0x200d, "ZWJ"],
  [0x200e, "LRM"], [0x200f, "RLM"], [0x2028, "LSEP"], [0x2029, "PSEP"], [0x202a, "LRE"],
  [0x202b, "RLE"], [0x202c, "PDF"], [0x202d, "LRO"], [0x202e, "RLO"], [0x2060, "WJ"],
  [0x2066, "LRI"], [0x2067, "RLI"], [0x2068, "FSI"], [0x2069, "PDI"], [0xfeff, "BOM"],
]);
const NAMED_IN_A_CHIP = 3;
const MAX_CHIPS = 2_000;
const NONE = [];

/** Characters of a text that are shown before someone asks for the rest. */
export const SHOWN_AT_FIRST = 20_000;

/** The name of a character that has no look of its own: `RLO`, `U+00AD`. */
export function nameOf(character) {
  const code = character.codePointAt(0);
  return NAMES.get(code) ?? `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Whether `text` has characters that are shown as chips. */
export function isOdd(text) {
  return MAYBE_ODD.test(text) && text.search(ODD) >= 0;
}

/** Append `text` to `parent` as text nodes and chips. */
export function append(parent, text) {
  if (!MAYBE_ODD.test(text)) {
    parent.append(text);
    return;
  }
  let at = 0;
  let chips = 0;
  for (const match of text.matchAll(ODD)) {
    if (chips++ === MAX_CHIPS) break;
    if (match.index > at) parent.append(text.slice(at, match.index));
    parent.append(chip(match[0]));
    at = match.index + match[0].length;
  }
  if (at === text.length) return;
  // After the last chip that is drawn the rest may still hold what reorders: it is walled in.
  const rest = chips > MAX_CHIPS ? document.createElement("bdi") : parent;
  rest.append(text.slice(at));
  if (rest !== parent) parent.append(rest);
}

function chip(run) {
  const characters = [...run];
  const names = characters.slice(0, NAMED_IN_A_CHIP).map(nameOf);
  const same = characters.every((character) => character === characters[0]);
  const label = same ? names[0] : names.join(" ");
  const more = same ? characters.length : characters.length - NAMED_IN_A_CHIP;
  const element = document.createElement("bdi");
  element.className = "odd";
  element.dataset.name = label + (same ? (more > 1 ? ` ×${more}` : "") : more > 0 ? ` +${more}` : "");
  element.append(run);
  return element;
}

/** A text with its invisible and reordering characters named, `⟨RLO⟩`, where only text can be. */
export function named(text) {
  return MAYBE_ODD.test(text) ? text.replace(ODD, (run) => `⟨${[...run].map(nameOf).join(" ")}⟩`) : text;
}

/** One line that says what `text` is, for a label: quoted, line ends and tabs as `\n`, `\t`. */
export function quoted(text, most = 60) {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  const plain = cut.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\t", "\\t");
  return `“${named(plain)}”`;
}

/**
 * A text with marks. `marks`: `{start, end, kind}` in UTF-16 units, in order and apart;
 * `kind` becomes the class of the <mark>. A long text is cut, with a button for the rest.
 */
export function Said({ text, marks = NONE, inline = false }) {
  const box = useRef(null);
  const [whole, setWhole] = useState(false);
  const last = marks.length ? marks[marks.length - 1].end : 0;
  const shown = whole ? text.length : Math.max(SHOWN_AT_FIRST, Math.min(last + 500, 4 * SHOWN_AT_FIRST));
  const cut = shown < text.length;
  useLayoutEffect(() => {
    const element = box.current;
    element.textContent = "";
    let at = 0;
    for (const { start, end, kind } of marks) {
      if (end > shown || start < at) break;
      append(element, text.slice(at, start));
      const mark = document.createElement("mark");
      mark.className = kind;
      append(mark, text.slice(start, end));
      element.append(mark);
      at = end;
    }
    append(element, text.slice(at, shown));
  }, [text, marks, shown]);
  const body = inline
    ? html`<bdi class="said" ref=${box}></bdi>`
    : html`<div class="said block" dir="auto" ref=${box}></div>`;
  if (!cut) return body;
  const rest = (text.length - shown).toLocaleString("en");
  return html`${body}<button type="button" class="more" onClick=${() => setWhole(true)}>
    Show ${rest} more characters
  </button>`;
}
