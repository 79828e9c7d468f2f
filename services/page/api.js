// The REST API as the views use it: the key, errors as the service tells them, pages, streams.
//
// The key lives in sessionStorage: it is gone with the tab, and no other tab has it.

const BASE = new URL("../", import.meta.url); // the service may lie below a path of a proxy
const STORED = "strop-key";
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/** What the service answered instead of what was asked for. */
export class ApiError extends Error {
  constructor(status, body, headers) {
    super(body?.detail ?? body?.error?.message ?? `the service answered ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = body?.error?.code ?? null;
    this.param = body?.error?.param ?? null;
    /** [{field, message}] of what is wrong in the request. */
    this.problems = body?.errors ?? [];
    this.retryAfter = Number(headers?.get("retry-after")) || null;
    this.requestId = headers?.get("x-request-id") ?? null;
  }
}

/** The service could not be reached. */
export class Unreachable extends Error {
  constructor(cause) {
    super("the service cannot be reached", { cause });
    this.name = "Unreachable";
  }
}

/** Whether the service answers; `connection` tells "lost" and "back" as events. */
class Connection extends EventTarget {
  lost = false;

  /** A request got nowhere: ask for the service's health until it answers again. */
  async miss() {
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
    for (let tries = 0; ; tries++) {
      await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)]);
      try {
        const answer = await fetch(new URL("healthz", BASE), { cache: "no-store" });
        if (answer.ok) break;
      } catch {
        // Not yet.
      }
    }
    this.lost = false;
    this.dispatchEvent(new Event("back"));
  }
}

export const connection = new Connection();

class Api extends EventTarget {
  #key = null;

  constructor() {
    super();
    this.#key = this.#fromAddress() ?? sessionStorage.getItem(STORED);
    if (this.#key) sessionStorage.setItem(STORED, this.#key);
  }

  get signedIn() {
    return this.#key !== null;
  }

  signIn(key) {
    this.#key = key.trim();
    sessionStorage.setItem(STORED, this.#key);
  }

  /** Forget the key; `reason` is shown where the next one is asked for. */
  signOut(reason = null) {
    this.#key = null;
    sessionStorage.removeItem(STORED);
    this.dispatchEvent(new CustomEvent("signedout", { detail: reason }));
  }

  get(path, { signal } = {}) {
    return this.#json("GET", path, undefined, { signal });
  }

  post(path, body, { signal, headers } = {}) {
    return this.#json("POST", path, body, { signal, headers });
  }

  delete(path, { signal } = {}) {
    return this.#json("DELETE", path, undefined, { signal });
  }

  /** Send a form with files. */
  async upload(path, form, { signal } = {}) {
    return (await this.#fetch(path, { method: "POST", body: form, signal })).json();
  }

  /** The answer as text. */
  async text(path, { signal } = {}) {
    return (await this.#fetch(path, { signal })).text();
  }

  /** Every item of a list, over all of its pages, up to `most` of them. */
  async all(path, { signal, most = 1000, limit = 100 } = {}) {
    const items = [];
    let after = null;
    while (items.length < most) {
      const join = path.includes("?") ? "&" : "?";
      const behind = after === null ? "" : `&after=${encodeURIComponent(after)}`;
      const page = await this.get(`${path}${join}limit=${limit}${behind}`, { signal });
      items.push(...page.data);
      if (!page.has_more || page.data.length === 0) break;
      after = page.last_id;
    }
    return items.slice(0, most);
  }

  /**
   * Follow a stream of Server-Sent Events: `onEvent(data, id)` for each, in order.
   *
   * A stream that breaks off is taken up behind the last event (`Last-Event-ID`), until `until`
   * says of an event that it was the last, or `signal` ends it. `onState` hears "live" and
   * "lost". Throws what the service refuses for good, such as a 404.
   */
  async stream(path, { lastId = null, signal, onState = () => {}, until = () => false }, onEvent) {
    for (let tries = 0; !signal?.aborted; tries++) {
      try {
        const headers = { Accept: "text/event-stream" };
        if (lastId !== null) headers["Last-Event-ID"] = String(lastId);
        const answer = await this.#fetch(path, { headers, signal });
        onState("live");
        for await (const event of events(answer.body, signal)) {
          tries = 0;
          if (event.id !== null) lastId = event.id;
          const data = JSON.parse(event.data);
          onEvent(data, event.id);
          if (until(data)) return;
        }
      } catch (error) {
        if (signal?.aborted) return;
        const passing = !(error instanceof ApiError) || error.status === 429 || error.status >= 500;
        if (!passing) throw error;
      }
      if (signal?.aborted) return;
      onState("lost");
      await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)], signal);
    }
  }

  /**
   * Post, and read the answer as Server-Sent Events: yields the data of each but "[DONE]". Throws
   * what the service tells of a fault on the way, and that an answer broke off before its end.
   */
  async *streamed(path, body, { signal } = {}) {
    const answer = await this.#fetch(path, json("POST", body, { signal }));
    let fault = null;
    try {
      for await (const event of events(answer.body, signal)) {
        if (event.data === "[DONE]") return;
        const data = JSON.parse(event.data);
        if (data.error) throw new ApiError(503, data, answer.headers);
        yield data;
      }
    } catch (error) {
      if (error instanceof ApiError) throw error;
      fault = error;
    }
    if (signal?.aborted) return;
    if (fault) connection.miss();
    throw new ApiError(503, { detail: "the answer broke off before its end; what came of it is kept" }, answer.headers);
  }

  async #json(method, path, body, options) {
    const answer = await this.#fetch(path, json(method, body, options));
    return answer.status === 204 ? null : answer.json();
  }

  async #fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.#key !== null) headers.Authorization = `Bearer ${this.#key}`;
    let answer;
    try {
      answer = await fetch(new URL(path.replace(/^\//, ""), BASE), {
        ...options,
        headers,
        credentials: "omit",
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      connection.miss();
      throw new Unreachable(error);
    }
    if (answer.ok) return answer;
    const told = new ApiError(answer.status, await answer.json().catch(() => null), answer.headers);
    if (answer.status === 401 && this.#key !== null) this.signOut(told.message);
    throw told;
  }

  /** A key in the address, `#key=strop_...`, as `strop up` prints it; it does not stay there. */
  #fromAddress() {
    const found = /^#key=([A-Za-z0-9_.-]+)$/.exec(location.hash);
    if (!found) return null;
    history.replaceState(null, "", location.pathname + location.search);
    return found[1];
  }
}

export const api = new Api();

/** A name for a request that is done once, however often it is sent. `crypto.randomUUID` is not
 * there where the page comes by plain HTTP. */
export function onceKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Resolve after so many milliseconds, or as soon as `signal` is aborted. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

function json(method, body, { signal, headers } = {}) {
  if (body === undefined) return { method, signal, headers };
  return {
    method,
    signal,
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(body),
  };
}

/** The events of a body, {id, data}; comments are passed over. */
async function* events(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = null;
  let data = [];
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done || signal?.aborted) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "" && data.length) {
          yield { id, data: data.join("\n") };
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5).replace(/\r$/, ""));
        } else if (line.startsWith("id:")) {
          id = line.slice(3).trim();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // what was aborted is cancelled already
  }
}
