// The messages of a task as they went into the prompt: text, and images that came inline.

import { html } from "./dom.js";
import { Tree } from "./evidence.js";
import { Said } from "./said.js";

const INLINE_IMAGE = /^data:image\/(?:png|jpeg|webp|gif);base64,/;

export function Messages({ messages }) {
  if (!Array.isArray(messages)) return html`<${Tree} value=${messages ?? null} />`;
  return html`<div class="messages">${messages.map((message) => html`<section class="message">
    <h4><${Said} inline text=${String(message?.role ?? "message")} /></h4>
    ${content(message?.content ?? message)}
  </section>`)}</div>`;
}

function content(value) {
  if (typeof value === "string") return html`<${Said} text=${value} />`;
  if (!Array.isArray(value)) return html`<${Tree} value=${value} />`;
  return value.map((part) => {
    if (typeof part?.text === "string") return html`<${Said} text=${part.text} />`;
    const url = part?.image_url?.url ?? part?.image_url ?? part?.image;
    // Only what came with the task is drawn: an address would tell its host who reads here.
    if (typeof url === "string" && INLINE_IMAGE.test(url)) return html`<img src=${url} alt="Image of the prompt" />`;
    if (typeof url === "string") return html`<p class="soft">Image: <${Said} inline text=${url.slice(0, 200)} /></p>`;
    return html`<${Tree} value=${part} />`;
  });
}
