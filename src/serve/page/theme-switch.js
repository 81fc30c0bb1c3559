// The switch of the theme, in the header and in the project's dialog. theme.js applies the choice before the first paint.
import { byId } from "./dom.js";

const KEY = "cnncodes-theme";
const root = document.documentElement;
const toggle = byId("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

function tell() {
  toggle.setAttribute("aria-pressed", String(isDark()));
  for (const radio of document.querySelectorAll('input[name="theme"]')) radio.checked = radio.value === (root.dataset.theme ?? "system");
}

function choose(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch { /* Then the choice lasts as long as the page. */ }
  tell();
}

systemDark.addEventListener("change", tell);
toggle.addEventListener("click", () => choose(isDark() ? "light" : "dark"));
byId("theme-choice").addEventListener("change", (event) => choose(event.target.value));
tell();
