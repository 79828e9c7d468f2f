// A completion as a heat map: every token a span whose class is its shade.
//
// The whole text is in the document from the first frame, in blocks that end at line ends and
// are laid out when they come near the window (content-visibility); a piece of up to PIECE
// tokens is cut into spans when it is about to be seen. So 8,192 tokens cost what a window of
// them costs, while find, selection and copy see all of it. One token at a time can be
// focused (roving tabindex); pointing, focus and keys are heard on the box.

import { append, isOdd } from "./said.js";
import { shadeClass } from "./streams.js";

const PIECE = 128;
/** Pieces that are laid out at once, without waiting for the window to come near. */
const SHORT = 8;
const LEAP = 50;
const LINE_PX = 27;
const CHARACTER_PX = 8.4;

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
   * `marks`: `{start, end, kind}` in offsets of the text, outlined. `onPoint(index | null)`
   * hears where the pointer is, `onFocus(index)` which token was chosen by key or click.
   */
  constructor(box, tokens, { marks = [], onPoint, onFocus }) {
    Object.assign(this, { box, tokens, onPoint, onFocus });
    this.current = 0;
    this.shades = null;
    this.scale = null;
    this.marked = markedTokens(tokens, marks);
    this.pieces = cut(tokens);
    this.stop = new AbortController();
    this.seen = new IntersectionObserver(
      (entries) => entries.forEach((entry) => entry.isIntersecting && this.#open(entry.target.piece)),
      { rootMargin: "600px 0px" },
    );
    this.#lay();
    const listen = (name, heard) => box.addEventListener(name, heard, { signal: this.stop.signal });
    // A move, not what comes to lie below a pointer that rests while the text scrolls.
    listen("pointermove", (event) => this.onPoint?.(tokenAt(event.target)));
    listen("pointerleave", () => this.onPoint?.(null));
    listen("click", (event) => this.#clicked(event));
    listen("keydown", (event) => this.#pressed(event));
    listen("focusin", (event) => this.#focused(tokenAt(event.target)));
    listen("copy", (event) => this.#copied(event));
  }

  destroy() {
    this.stop.abort();
    this.seen.disconnect();
    this.box.textContent = "";
  }

  /** Give every token its shade on this scale. */
  paint(scale, values) {
    this.scale = scale;
    this.shades = values.map(scale.bin);
    for (const piece of this.pieces) if (piece.spans) this.#colour(piece);
  }

  /** Move focus to a token and bring it into view. */
  focus(index) {
    const span = this.#rove(Math.max(0, Math.min(this.tokens.length - 1, index)));
    span.focus({ preventScroll: true });
    span.scrollIntoView({ block: "nearest" });
  }

  /** Choose a token that an address names, and bring it to the middle; focus stays where it is. */
  show(index) {
    if (index >= this.tokens.length) return;
    const span = this.#rove(index);
    this.box.dataset.chosen = index;
    span.scrollIntoView({ block: "center" });
    this.onFocus?.(index);
  }

  #lay() {
    const columns = Math.max(20, Math.floor(this.box.clientWidth / CHARACTER_PX));
    const all = document.createDocumentFragment();
    let block = null;
    let [above, lines] = [0, 0];
    for (const piece of this.pieces) {
      block ??= all.appendChild(Object.assign(document.createElement("div"), { className: "heat-block" }));
      piece.element = block.appendChild(document.createElement("span"));
      piece.element.piece = piece;
      // What the window shows is drawn in the first frame, not one frame later.
      if (piece.needsSpans || (above + lines) * LINE_PX < window.innerHeight) this.#open(piece);
      else {
        piece.element.textContent = piece.text;
        this.seen.observe(piece.element);
      }
      lines += piece.text.split("\n").length - 1 + piece.text.length / columns;
      if (!piece.endsLine && piece.end < this.tokens.length) continue;
      // How tall a block will be that the browser has not laid out yet.
      block.style.containIntrinsicBlockSize = `auto ${Math.ceil(lines) * LINE_PX}px`;
      above += lines;
      [block, lines] = [null, 0];
    }
    this.box.classList.toggle("long", this.pieces.length > SHORT);
    this.box.replaceChildren(all);
    this.#rove(0);
  }

  #open(piece) {
    if (piece.spans) return;
    this.seen.unobserve(piece.element);
    piece.spans = [];
    const all = document.createDocumentFragment();
    for (let index = piece.first; index < piece.end; index++) {
      const token = this.tokens[index];
      const span = document.createElement("span");
      span.token = index;
      fill(span, token);
      piece.spans.push(span);
      all.append(span);
    }
    piece.element.replaceChildren(all);
    this.#colour(piece);
  }

  #colour(piece) {
    piece.spans.forEach((span, offset) => {
      const index = piece.first + offset;
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
    const piece = this.pieces[this.#pieceOf(index)];
    this.#open(piece);
    return piece.spans[index - piece.first];
  }

  #pieceOf(index) {
    let [low, high] = [0, this.pieces.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.pieces[middle].first <= index) low = middle;
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

/** Pieces of the tokens: `{first, end, text, endsLine, needsSpans}`. */
function cut(tokens) {
  const pieces = [];
  let first = 0;
  for (let index = 0; index < tokens.length; index++) {
    const length = index + 1 - first;
    const endsLine = length >= PIECE / 2 && tokens[index].text.endsWith("\n");
    if (!endsLine && length < PIECE && index + 1 < tokens.length) continue;
    const members = tokens.slice(first, index + 1);
    pieces.push({
      first,
      end: index + 1,
      text: members.map((token) => token.text).join(""),
      endsLine,
      needsSpans: members.some((token) => token.special || token.part || isOdd(token.text)),
      spans: null,
    });
    first = index + 1;
  }
  return pieces;
}

/** A token's text with its line ends and tabs made visible; a copy has only the text. */
function fill(span, token) {
  const parts = token.text.split(/([\n\t])/);
  for (const part of parts) {
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
