"use strict";
// The theme that was chosen, before the first paint. The page follows the system's theme until one is chosen.
try {
  const chosen = localStorage.getItem("cnncodes-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch { /* A page that may store nothing follows the system's theme. */ }
