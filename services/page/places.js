// Where in a completion the things stand that a verdict speaks of: the answer that was
// extracted, and the value that a JSON pointer names. Pure; offsets are UTF-16 units.

const CLIPPED = /\.\.\. \(\d+ more characters\)$/;
const SPACE = /\s/;
const MAX_TRIES = 200;
// What stands before an answer that was found so (verifiers/extract.py).
const BEFORE = new Map([
  ["boxed", /\\(?:boxed|fbox)\s*\{?\s*$/],
  ["hashes", /####\s*$/],
  ["phrase", /\banswers?\b[^\n]{0,40}$/i],
  ["tag", />\s*$/],
]);

/** A string of evidence without the note that it was clipped. */
export function unclipped(text) {
  return text.replace(CLIPPED, "");
}

/**
 * `[{start, end, kind, note}]`, in order and apart: what to mark in `text`. The kinds are
 * `answer` and `pointer`; `note` says what is missing where a pointer names no value.
 */
export function places(text, evidence) {
  const told = innermost(evidence);
  const extracted = typeof told.extracted === "string" ? told.extracted : null;
  if (extracted === null || typeof text !== "string") return [];
  if (typeof told.pointer === "string") {
    const json = find(text, unclipped(extracted), told.found);
    if (json === null) return [];
    const place = atPointer(text, json.start, unclipped(told.pointer));
    return place === null ? [] : [{ ...place, kind: "pointer" }];
  }
  const answers = Object.hasOwn(told, "chosen") || Object.hasOwn(told, "gold")
    ? extracted.split(" | ")
    : [extracted];
  const found = answers.map((answer) => find(text, unclipped(answer), told.found)).filter(Boolean);
  found.sort((one, other) => one.start - other.start);
  return found
    .filter((place, index) => index === 0 || place.start >= found[index - 1].end)
    .map((place) => ({ ...place, kind: "answer" }));
}

/** The evidence of the part that failed first, however deep it lies. */
export function innermost(evidence) {
  let told = evidence;
  for (let depth = 0; depth < 64 && isRecord(told?.first_failure); depth++) told = told.first_failure;
  return isRecord(told) ? told : {};
}

export function isRecord(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** The last place of `needle` in what follows the reasoning, behind the mark that `found` names
 * where there is one; blanks do not count. */
function find(text, needle, found) {
  const wanted = needle.replace(/\s+/g, "");
  if (!wanted) return null;
  const answer = text.lastIndexOf("</think>");
  const from = answer < 0 ? 0 : answer + "</think>".length;
  const last = text.lastIndexOf(needle);
  const before = BEFORE.get(found);
  let straight = last;
  for (let tries = 0; before && straight >= from && tries < MAX_TRIES; tries++) {
    if (before.test(text.slice(Math.max(from, straight - 80), straight)))
      return { start: straight, end: straight + needle.length };
    straight = straight === 0 ? -1 : text.lastIndexOf(needle, straight - 1);
  }
  if (last >= from) return { start: last, end: last + needle.length };
  const tail = text.slice(from);
  const at = tail.replace(/\s+/g, "").lastIndexOf(wanted);
  if (at < 0) return null;
  let [start, seen, position] = [-1, 0, from];
  for (; seen < at + wanted.length; position++) {
    if (SPACE.test(text[position])) continue;
    if (seen === at) start = position;
    seen++;
  }
  return { start, end: position };
}

/**
 * The value that `pointer` (RFC 6901) names in the JSON text that starts at `from`, or the
 * nearest value around it that is there, with a note. null when there is no JSON.
 */
export function atPointer(text, from, pointer) {
  let at = skip(text, from);
  const steps = pointer.split("/").slice(1)
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  for (const [depth, step] of steps.entries()) {
    const inside = member(text, at, step);
    if (inside === null) {
      const end = valueEnd(text, at);
      const missing = `/${pointer.split("/").slice(1, depth + 2).join("/")}`;
      return end === null ? null : { start: at, end, note: `${missing} is missing here` };
    }
    at = inside;
  }
  const end = valueEnd(text, at);
  return end === null ? null : { start: at, end };
}

/** Where the value of a key or of an index begins in the object or array at `at`. */
function member(text, at, step) {
  const isObject = text[at] === "{";
  if (!isObject && text[at] !== "[") return null;
  let position = skip(text, at + 1);
  for (let index = 0; position < text.length; index++) {
    if (text[position] === "}" || text[position] === "]") return null;
    let name = String(index);
    if (isObject) {
      const end = valueEnd(text, position);
      if (end === null) return null;
      name = parsed(text.slice(position, end));
      position = skip(text, end);
      if (text[position] !== ":") return null;
      position = skip(text, position + 1);
    }
    if (name === step) return position;
    const end = valueEnd(text, position);
    if (end === null) return null;
    position = skip(text, end);
    if (text[position] === ",") position = skip(text, position + 1);
    else return null;
  }
  return null;
}

function parsed(literal) {
  try {
    return JSON.parse(literal);
  } catch {
    return null;
  }
}

/** Where the JSON value at `at` ends; null when it does not. */
function valueEnd(text, at) {
  let depth = 0;
  for (let position = at; position < text.length; ) {
    const character = text[position];
    if (character === '"') {
      position = stringEnd(text, position);
      if (position < 0) return null;
      if (depth === 0) return position;
    } else if (character === "{" || character === "[") {
      depth++;
      position++;
    } else if (character === "}" || character === "]") {
      if (depth === 0) return position > at ? position : null;
      position++;
      if (--depth === 0) return position;
    } else if (depth === 0) {
      if (character === "," || SPACE.test(character)) return position > at ? position : null;
      position++;
    } else position++;
  }
  return depth === 0 && text.length > at ? text.length : null;
}

function stringEnd(text, at) {
  for (let position = at + 1; position < text.length; position++) {
    if (text[position] === "\\") position++;
    else if (text[position] === '"') return position + 1;
  }
  return -1;
}

function skip(text, at) {
  let position = at;
  while (position < text.length && SPACE.test(text[position])) position++;
  return position;
}
