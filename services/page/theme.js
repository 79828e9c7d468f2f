// Light, dark, or as the system says. Runs before anything is drawn, so that nothing flashes.
(() => {
  const root = document.documentElement;
  const apply = (choice) => {
    if (choice === "light" || choice === "dark") root.dataset.theme = choice;
    else delete root.dataset.theme;
  };
  let choice = "auto";
  try {
    choice = localStorage.getItem("strop-theme") ?? "auto";
  } catch {
    // Storage may be forbidden; the system's theme is good then.
  }
  apply(choice);

  const tell = () => window.dispatchEvent(new Event("themechange"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  window.theme = {
    get: () => choice,
    set(next) {
      choice = next;
      apply(next);
      try {
        localStorage.setItem("strop-theme", next);
      } catch {
        // It lasts as long as the page then.
      }
      tell();
    },
  };
})();
