// Light, dark, or as the system says; remembered by the browser.

import { byId, setText } from "./dom.js";

const KEPT = "toolring.theme";
const SHOWN = { auto: "◐ auto", light: "○ light", dark: "● dark" };
const CHOICES = Object.keys(SHOWN);

function chosen() {
  const kept = localStorage.getItem(KEPT);
  return CHOICES.includes(kept) ? kept : "auto";
}

function apply(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  setText(byId("theme"), SHOWN[choice]);
  byId("theme").setAttribute("aria-label", `Theme: ${choice}`);
}

export function nextTheme() {
  const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length];
  localStorage.setItem(KEPT, next);
  apply(next);
}

export function startTheme() {
  apply(chosen());
  byId("theme").addEventListener("click", nextTheme);
}
