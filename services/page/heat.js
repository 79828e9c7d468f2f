// A completion as a heat map: every token a span whose class is its shade.
//
// The whole text is in the document from the first frame, in blocks that are laid out when they
// come near the window (content-visibility) and cut into spans when they are about to be seen.
// A block ends at a line end; a line that goes on for long is cut where it wraps anyway, at a
// blank if there is one, and a sign says so. So 8,192 tokens cost what a window of them costs,
// with and without line ends, while find, selection and copy see all of it. One token at a time
// can be focused (roving tabindex); pointing, focus and keys are heard on the box.

import { append, isOdd } from "./said.js";
import { shadeClass } from "./streams.js";

/** Tokens of a block: it ends at the first line end after the fewest, at a blank after the
 * usual, and at the most in any case; and before it has too many characters. */
const [FEWEST, USUAL, MOST] = [64, 160, 224];
const MOST_CHARACTERS = 4_000;
/** Blocks that are laid out at once, without waiting for the window to come near. */
const SHORT = 6;
const LEAP = 50;
const LINE_PX = 27;
const CHARACTER_PX = 8.4;
const PADDING_PX = 36;

/**
 * `[{text, special, part, start}]` of a rollout: `special` tokens are not in its text, `part`
 * tokens end no character (bytes of one that a later token ends), `start` is the offset in
 * the text.
 */
export function tokensOf(rollout) {
  const text = rollout.text ?? "";
  const given = Array.isArray(rollout.special_tokens) ? new Set(rollout.special_tokens) : null;
  let at = 0;
  return (rollout.token_texts ?? []).map((piece, index) => {
    const special = given ? given.has(index) : piece !== "" && !text.startsWith(piece, at);
    const token = { text: piece, special, part: piece === "", start: at };
    if (!special) at += piece.length;
    return token;
  });
}

export class Heat {
  /**
   * `marks`: `{start, end, kind}` in offsets of the text, outlined. `scale` and `values` give
   * the tokens their first shades. `onPoint(index | null)` hears where the pointer is,
   * `onFocus(index)` which token was chosen by key or click.
   */
  constructor(box, tokens, { marks = [], scale = null, values = [], onPoint, onFocus }) {
    Object.assign(this, { box, tokens, scale, onPoint, onFocus });
    this.current = 0;
    this.shades = scale && values.map(scale.bin);
    this.marked = markedTokens(tokens, marks);
    this.blocks = cut(tokens);
    this.stop = new AbortController();
    this.watch = new IntersectionObserver((entries) => entries.forEach((entry) => this.#moved(entry)), {
      rootMargin: "600px 0px",
    });
    this.#lay();
    const listen = (name, heard) => box.addEventListener(name, heard, { signal: this.stop.signal });
    // A move, not what comes to lie below a pointer that rests while the text scrolls.
    listen("pointermove", (event) => this.onPoint?.(tokenAt(event.target)));
    listen("pointerleave", () => this.onPoint?.(null));
    listen("click", (event) => this.#clicked(event));
    listen("keydown", (event) => this.#pressed(event));
    listen("focusin", (event) => this.#focused(tokenAt(event.target)));
    listen("copy", (event) => this.#copied(event));
    window.addEventListener("beforeprint", () => this.blocks.forEach((block) => this.#open(block)), { signal: this.stop.signal });
  }

  destroy() {
    this.stop.abort();
    this.watch.disconnect();
    this.box.textContent = "";
  }

  /** Give every token its shade on this scale; those far from the window when they come near. */
  paint(scale, values) {
    this.scale = scale;
    this.shades = values.map(scale.bin);
    for (const block of this.blocks) {
      block.painted = false;
      if (block.near) this.#open(block);
    }
  }

  /** Move focus to a token and bring it into view. */
  focus(index) {
    const span = this.#rove(Math.max(0, Math.min(this.tokens.length - 1, index)));
    span.focus({ preventScroll: true });
    this.#reveal(span, "nearest");
  }

  /** Choose a token that an address names, and bring it to the middle; focus stays where it is. */
  show(index) {
    if (index >= this.tokens.length) return;
    const span = this.#rove(index);
    this.box.dataset.chosen = index;
    this.#reveal(span, "center");
    this.onFocus?.(index);
  }

  /** Scroll to a token, and once more when what came into view had another height than thought. */
  #reveal(span, block) {
    span.scrollIntoView({ block });
    const { top } = span.getBoundingClientRect();
    requestAnimationFrame(() => {
      if (span.tabIndex === 0 && Math.abs(span.getBoundingClientRect().top - top) > 1) span.scrollIntoView({ block });
    });
  }

  #lay() {
    const columns = Math.max(20, Math.floor((this.box.clientWidth - PADDING_PX) / CHARACTER_PX));
    const room = window.innerHeight - this.box.getBoundingClientRect().top;
    const all = document.createDocumentFragment();
    let above = 0;
    for (const block of this.blocks) {
      const element = (block.element = all.appendChild(document.createElement("div")));
      element.className = block.goesOn ? "heat-block goes-on" : "heat-block";
      element.block = block;
      // What the window shows is drawn in the first frame, not one frame later.
      block.near = above < room;
      if (block.near || block.needsSpans) this.#open(block);
      else element.textContent = block.text;
      const height = LINE_PX * linesOf(block.text, columns);
      // How tall a block will be that the browser has not laid out yet.
      element.style.containIntrinsicBlockSize = `auto ${height}px`;
      above += height;
      this.watch.observe(element);
    }
    this.box.classList.toggle("long", this.blocks.length > SHORT);
    this.box.replaceChildren(all);
    this.#rove(0);
  }

  #moved({ target, isIntersecting }) {
    target.block.near = isIntersecting;
    if (isIntersecting) this.#open(target.block);
  }

  /** Make a block's spans, if it has none, and give them the shades of now. */
  #open(block) {
    if (block.spans === null) {
      block.spans = [];
      const all = document.createDocumentFragment();
      for (let index = block.first; index < block.end; index++) {
        const span = all.appendChild(document.createElement("span"));
        span.token = index;
        fill(span, this.tokens[index].text);
        block.spans.push(span);
      }
      block.element.replaceChildren(all);
    }
    if (!block.painted) this.#colour(block);
  }

  #colour(block) {
    block.painted = true;
    block.spans.forEach((span, offset) => {
      const index = block.first + offset;
      const token = this.tokens[index];
      let name = "token";
      if (this.shades) {
        const shade = shadeClass(this.scale, this.shades[index]);
        if (shade) name += ` ${shade}`;
      }
      if (token.special) name += " special";
      if (token.part) name += " part";
      const mark = this.marked.get(index);
      if (mark) name += ` in-${mark}`;
      span.className = name;
    });
  }

  #span(index) {
    const block = this.blocks[this.#blockOf(index)];
    this.#open(block);
    return block.spans[index - block.first];
  }

  #blockOf(index) {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].first <= index) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #rove(index) {
    // Taking it from the token that has focus would take the focus too.
    if (index !== this.current) this.#span(this.current).removeAttribute("tabindex");
    this.current = index;
    const span = this.#span(index);
    span.tabIndex = 0;
    return span;
  }

  #focused(index) {
    if (index === null) return;
    this.#rove(index);
    this.box.dataset.chosen = index;
    this.onFocus?.(index);
  }

  #clicked(event) {
    const index = tokenAt(event.target);
    if (index === null || !document.getSelection().isCollapsed) return;
    this.focus(index);
  }

  #pressed(event) {
    if (event.altKey || event.metaKey || tokenAt(event.target) === null) return;
    const here = this.current;
    const moves = {
      ArrowRight: () => here + 1,
      ArrowLeft: () => here - 1,
      ArrowDown: () => this.#acrossLines(here, 1),
      ArrowUp: () => this.#acrossLines(here, -1),
      PageDown: () => here + LEAP,
      PageUp: () => here - LEAP,
      Home: () => (event.ctrlKey ? 0 : this.#lineEdge(here, -1)),
      End: () => (event.ctrlKey ? this.tokens.length - 1 : this.#lineEdge(here, 1)),
    };
    const move = Object.hasOwn(moves, event.key) ? moves[event.key] : null;
    if (!move || event.shiftKey) return;
    event.preventDefault();
    this.focus(move());
  }

  /** The token above or below: the first on the next line that reaches this one's middle. */
  #acrossLines(from, step) {
    const origin = this.#place(from);
    const middle = (origin.left + origin.right) / 2;
    let best = from;
    let line = null;
    for (let index = from + step; index >= 0 && index < this.tokens.length; index += step) {
      const place = this.#place(index);
      if (Math.abs(place.top - origin.top) < origin.height / 2) continue;
      line ??= place.top;
      if (Math.abs(place.top - line) >= origin.height / 2) break;
      best = index;
      if (step > 0 ? place.right >= middle : place.left <= middle) break;
    }
    return best;
  }

  #lineEdge(from, step) {
    const { top, height } = this.#place(from);
    let edge = from;
    for (let index = from + step; index >= 0 && index < this.tokens.length; index += step) {
      if (Math.abs(this.#place(index).top - top) >= height / 2) break;
      edge = index;
    }
    return edge;
  }

  #place(index) {
    const span = this.#span(index);
    return span.getClientRects()[0] ?? span.getBoundingClientRect();
  }

  #copied(event) {
    const range = document.getSelection().rangeCount ? document.getSelection().getRangeAt(0) : null;
    if (!range || !this.box.contains(range.commonAncestorContainer)) return;
    event.clipboardData.setData("text/plain", range.toString());
    event.preventDefault();
  }
}

/** The tokens in blocks: `{first, end, text, goesOn, needsSpans}`; `goesOn` cuts a line. */
function cut(tokens) {
  const blocks = [];
  let [first, text] = [0, ""];
  tokens.forEach((token, index) => {
    text += token.text;
    const count = index + 1 - first;
    const next = tokens[index + 1];
    const endsLine = token.text.endsWith("\n");
    const full = count >= MOST || (next && text.length + next.text.length > MOST_CHARACTERS);
    // A character that is made of several tokens stays whole.
    const atBlank = next && /^\s/.test(next.text) && !next.text.startsWith("\n");
    if (next && !(endsLine && count >= FEWEST) && !(atBlank && count >= USUAL) && !(full && !token.part)) return;
    const members = tokens.slice(first, index + 1);
    blocks.push({
      first,
      end: index + 1,
      text,
      goesOn: next !== undefined && !endsLine,
      needsSpans: members.some((one) => one.special || one.part || isOdd(one.text)),
      element: null,
      spans: null,
      near: false,
      painted: false,
    });
    [first, text] = [index + 1, ""];
  });
  return blocks;
}

/** How many lines a text takes that wraps at so many columns, about. */
function linesOf(text, columns) {
  const lines = (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n");
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
}

/** A token's text with its line ends and tabs made visible; a copy has only the text. */
function fill(span, text) {
  if (!/[\n\t]/.test(text)) {
    append(span, text);
    return;
  }
  for (const part of text.split(/([\n\t])/)) {
    if (part === "\n" || part === "\t") {
      const sign = document.createElement("i");
      sign.className = part === "\n" ? "line-end" : "tab";
      span.append(sign, part);
    } else if (part) append(span, part);
  }
}

function tokenAt(target) {
  for (let node = target; node && !node.classList?.contains("heat"); node = node.parentNode)
    if (node.token !== undefined) return node.token;
  return null;
}

function markedTokens(tokens, marks) {
  const found = new Map();
  for (const { start, end, kind } of marks) {
    tokens.forEach((token, index) => {
      if (!token.special && token.start < end && token.start + token.text.length > start)
        found.set(index, kind);
    });
  }
  return found;
}
