// Light or dark: as the system has it, until somebody chooses. No module, so that it is there before the first paint.
(() => {
  "use strict";
  const KEY = "quickstudy-theme";
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off
    }
  };
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const chosen = stored();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
      button.title = button.getAttribute("aria-label");
      document.getElementById("theme-sign").textContent = isDark() ? "☀" : "☾";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // it holds until the page is left
      }
      show();
    });
    system.addEventListener("change", show);
    show();
  });
})();
