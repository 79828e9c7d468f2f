// The address of a view is the hash: `#/jobs/ftjob-1/rollouts?step=3`. Pure but for `go`.

const ROUTES = [
  ["/jobs", "jobs", () => import("./views/jobs.js")],
  ["/jobs/new", "submit", () => import("./views/submit.js")],
  ["/jobs/:id", "run", () => import("./views/run.js")],
  ["/jobs/:id/rollouts", "rollouts", () => import("./views/rollouts.js")],
  ["/jobs/:id/rollouts/:rollout", "rollout", () => import("./views/rollout.js")],
  ["/compare", "compare", () => import("./views/compare.js")],
  ["/chat", "chat", () => import("./views/chat.js")],
];

/** The route of a hash: {name, path, params, query, load}; null for what is no address here. */
export function parse(hash) {
  const [path, search] = split(hash.replace(/^#/, "") || "/jobs");
  const parts = path.split("/").filter(Boolean);
  for (const [pattern, name, load] of ROUTES) {
    const params = match(pattern.split("/").filter(Boolean), parts);
    if (params) return { name, path, params, query: search, load };
  }
  return null;
}

/** The hash of a path and a query; what is null, undefined or "" is left out of the query. */
export function address(path, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(pairs).toString();
  return `#${path}${search ? `?${search}` : ""}`;
}

/** Go to a view; with `replace` the one before leaves no trace in the history. */
export function go(path, query, { replace = false } = {}) {
  const hash = address(path, query);
  if (replace) {
    history.replaceState(null, "", hash);
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  } else {
    location.hash = hash;
  }
}

function split(address) {
  const at = address.indexOf("?");
  if (at < 0) return [address, {}];
  return [address.slice(0, at), Object.fromEntries(new URLSearchParams(address.slice(at + 1)))];
}

function match(pattern, parts) {
  if (pattern.length !== parts.length) return null;
  const params = {};
  for (const [index, name] of pattern.entries()) {
    if (name.startsWith(":")) {
      try {
        params[name.slice(1)] = decodeURIComponent(parts[index]);
      } catch {
        return null;
      }
    } else if (name !== parts[index]) return null;
  }
  return params;
}
