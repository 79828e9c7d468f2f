// The shell: the bar on top, who is signed in, whether the service answers, and the view of the
// address. A view is `View({api, route, go, me})` in a file of its own, loaded when it is first seen.
import { html, render, useCallback, useEffect, useErrorBoundary, useRef, useState } from "./dom.js";
import { api, ApiError, connection } from "./api.js";
import { address, go, parse } from "./router.js";
import { Empty, ErrorPanel, Loading } from "./ui.js";
import { View as Login } from "./views/login.js";

const PLACES = [
  ["jobs", "/jobs", "Jobs"],
  ["compare", "/compare", "Compare"],
  ["chat", "/chat", "Chat"],
];
const OF_JOBS = new Set(["jobs", "submit", "run", "rollouts", "rollout"]);

function App() {
  const [signedIn, setSignedIn] = useState(api.signedIn);
  const [reason, setReason] = useState(null);
  useEffect(() => {
    const out = (event) => {
      setReason(event.detail);
      setSignedIn(false);
    };
    api.addEventListener("signedout", out);
    return () => api.removeEventListener("signedout", out);
  }, []);
  const enter = useCallback(() => {
    setReason(null);
    setSignedIn(true);
  }, []);
  return html`<${Lost} />
    ${signedIn ? html`<${Inside} />` : html`<${Login} api=${api} reason=${reason} onEnter=${enter} />`}`;
}

/** What is seen with a key. */
function Inside() {
  const [me, setMe] = useState(null);
  const [hash, setHash] = useState(location.hash);
  const main = useRef(null);
  useEffect(() => {
    const moved = () => setHash(location.hash);
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    const ask = () => api.get("/v1/me").then(setMe, () => {});
    ask();
    connection.addEventListener("back", ask);
    return () => connection.removeEventListener("back", ask);
  }, []);
  const route = parse(hash);
  const first = useRef(true);
  useEffect(() => {
    // Readers of the screen and the keyboard begin at the new view; not when it is the first.
    if (!first.current) main.current.focus({ preventScroll: true });
    first.current = false;
    window.scrollTo(0, 0);
  }, [route?.path]);
  return html`<${Bar} me=${me} current=${route?.name} />
    <main id="main" tabindex="-1" ref=${main}>
      ${route
        ? html`<${Shown} route=${route} me=${me} key=${route.name + route.path} />`
        : html`<${Empty} title="There is no such page">
            <a class="button" href="#/jobs">Go to the jobs</a>
          <//>`}
    </main>`;
}

/** The view of a route, as soon as its file is there. */
function Shown({ route, me }) {
  const [View, setView] = useState(null);
  const [error, setError] = useState(null);
  const [broken] = useErrorBoundary((thrown) => console.error(thrown));
  useEffect(() => {
    route.load().then(
      (module) => setView(() => module.View),
      (failed) => setError(failed),
    );
  }, [route.name]);
  const failed = error ?? broken;
  if (failed) return html`<${ErrorPanel} error=${failed} retry=${() => location.reload()} />`;
  if (!View) return html`<${Loading} />`;
  return html`<${View} api=${api} route=${route} go=${go} me=${me} />`;
}

function Bar({ me, current }) {
  const place = OF_JOBS.has(current) ? "jobs" : current;
  return html`<header class="bar">
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <a class="brand" href="#/jobs"><img src=${new URL("icon.svg", import.meta.url)} alt="" width="20" height="20" />Strop</a>
    <nav aria-label="Views">
      ${PLACES.map(
        ([name, path, text]) =>
          html`<a href=${address(path)} aria-current=${name === place ? "page" : undefined}>${text}</a>`,
      )}
    </nav>
    <div class="bar-end">
      ${me && html`<span class="tenant" title=${`${me.id}: ${me.scopes.join(", ")}`}>${me.tenant}</span>`}
      <${Theme} />
      <button type="button" class="quiet" onClick=${() => api.signOut()}>Log out</button>
    </div>
  </header>`;
}

/** A hash is an address of a view here, so the usual `href="#main"` is taken over. */
function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

const THEMES = { auto: ["Automatic", "◐"], light: ["Light", "○"], dark: ["Dark", "●"] };

function Theme() {
  const [choice, setChoice] = useState(window.theme.get());
  const names = Object.keys(THEMES);
  const turn = () => {
    const next = names[(names.indexOf(choice) + 1) % names.length];
    window.theme.set(next);
    setChoice(next);
  };
  const [name, sign] = THEMES[choice];
  const told = `Colours: ${name.toLowerCase()}`;
  return html`<button type="button" class="quiet" onClick=${turn} title=${told} aria-label=${told}>${sign}</button>`;
}

/** Says that the service does not answer, and when it does again. */
function Lost() {
  const [state, setState] = useState(connection.lost ? "lost" : "fine");
  useEffect(() => {
    let timer;
    const lost = () => (clearTimeout(timer), setState("lost"));
    const back = () => {
      setState("back");
      timer = setTimeout(() => setState("fine"), 4000);
    };
    connection.addEventListener("lost", lost);
    connection.addEventListener("back", back);
    return () => {
      clearTimeout(timer);
      connection.removeEventListener("lost", lost);
      connection.removeEventListener("back", back);
    };
  }, []);
  return html`<div class="connection" role="status">
    ${state === "lost" &&
    html`<p class="connection-lost"><span class="spinner" aria-hidden="true"></span>No connection to the service. What you see may be old; the page tries again by itself.</p>`}
    ${state === "back" && html`<p class="connection-back">The service answers again.</p>`}
  </div>`;
}

window.addEventListener("hashchange", () => {
  // A key may come into a page that is open already.
  if (/^#key=/.test(location.hash)) location.reload();
});

render(html`<${App} />`, document.getElementById("app"));
