// What a job's events say, in columns: one entry a step for every number that a step tells.

const NESTED = new Set(["rewards", "phase_seconds", "idle_share"]);
const ENDED = new Set(["succeeded", "failed", "cancelled"]);

const WAY = ["rollout", "verify", "verifier", "score", "teacher", "learn", "trainer", "publish"];

/** Where on the way of a batch a phase or tier stands; what is none stands behind them all. */
function place(part) {
  const at = WAY.indexOf(part);
  return at < 0 ? WAY.length : at;
}

/** Whether no event follows this one. */
export function isLast(event) {
  return event.data.kind === "status" && ENDED.has(event.data.status);
}

export class History {
  /** Steps done, in order; what `column` gives is in the same order. */
  steps = [];
  /** {step, accuracy, low, high, n} of each evaluation on the held-out tasks. */
  evaluations = [];
  /** Every event, as the API tells it. */
  events = [];
  /** The newest step's data, null before the first. */
  newest = null;
  #columns = new Map();

  /** Take the next event in. */
  add(event) {
    this.events.push(event);
    const { data } = event;
    if (data.kind === "evaluation") this.evaluations.push(data);
    if (data.kind !== "step") return;
    this.newest = data;
    this.steps.push(data.step);
    for (const [name, value] of Object.entries(data)) {
      if (typeof value === "number") this.#put(name, value);
      else if (NESTED.has(name)) {
        for (const [part, number] of Object.entries(value)) this.#put(`${name}/${part}`, number);
      }
    }
  }

  /** The values of one number, null where a step did not tell it; null when none ever did. */
  column(name) {
    const values = this.#columns.get(name);
    if (!values) return null;
    while (values.length < this.steps.length) values.push(null);
    return values;
  }

  /** The parts of a nested number: the verifiers of `rewards`, the phases of `phase_seconds`;
   * phases and tiers in the order in which a batch meets them. */
  parts(name) {
    const prefix = `${name}/`;
    return [...this.#columns.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length))
      .sort((one, other) => place(one) - place(other) || (one < other ? -1 : 1));
  }

  #put(name, value) {
    let values = this.#columns.get(name);
    if (!values) this.#columns.set(name, (values = []));
    while (values.length < this.steps.length - 1) values.push(null);
    values.push(value);
  }
}

/**
 * Follow a job's events from the first to the last, and call `onChange` when some came: at
 * most once a frame, however many there were. Throws what the service refuses.
 */
export async function follow(api, id, history, { signal, onState, onChange }) {
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      if (!signal.aborted) onChange();
    }, 100);
  };
  await api.stream(
    `/v1/fine_tuning/jobs/${id}/events`,
    { signal, onState, until: isLast },
    (event) => {
      history.add(event);
      soon();
    },
  );
  if (!signal.aborted) onState("ended");
}
