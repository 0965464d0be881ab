// @ts-check
// The language of the pages, and how it writes numbers and times. Pages are written in English; each other
// language has a file that maps the English texts, for the service's pages and for the labeler's. What comes
// from the program itself (reasons, promises, names) stays English.

import { german } from "./german.js";

const KEY = "language";
/** @typedef {"en" | "de"} Language */
/** @typedef {{ name: string, texts: Map<string, string>, numbers: string, days: string, clock: string }} Known */
/** @type {Record<Language, Known>} */
const LANGUAGES = {
  // Days as in ISO 8601, times of 24 hours.
  en: { name: "English", texts: new Map(), numbers: "en-US", days: "en-CA", clock: "en-GB" },
  de: { name: "Deutsch", texts: new Map(Object.entries(german)), numbers: "de-DE", days: "de-DE", clock: "de-DE" },
};

/** @type {() => Language} The chosen language, or the first of the browser's that is known. */
function chosen() {
  const known = (/** @type {string} */ name) => Object.hasOwn(LANGUAGES, name);
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2));
  try {
    wanted.unshift(localStorage.getItem(KEY) ?? "");
  } catch {
    // Without storage the browser's language holds.
  }
  return /** @type {Language} */ (wanted.find(known) ?? "en");
}

const language = chosen();
const { texts, numbers, days, clock: clocks } = LANGUAGES[language];

/**
 * A text in the chosen language. `{0}` stands for the first value, and so on.
 * @param {string} text
 * @param {...(string | number)} values
 */
export const t = (text, ...values) =>
  (texts.get(text) ?? text).replace(/\{(\d)\}/g, (_, at) => String(values[Number(at)] ?? ""));

/**
 * A text about a number of things: `{0}` stands for the number.
 * @param {number} n
 * @param {string} one
 * @param {string} many
 */
export const count = (n, one, many) => t(n === 1 ? one : many, whole(n));

/** @type {(value: number, digits: number) => string} */
export const fixed = (value, digits) =>
  value.toLocaleString(numbers, { minimumFractionDigits: digits, maximumFractionDigits: digits });
/** @type {(value: number) => string} */
export const whole = (value) => value.toLocaleString(numbers);
/** @type {(value: number | null) => string} Three digits. */
export const number = (value) => {
  if (value === null) return "–";
  return value >= 100
    ? value.toLocaleString(numbers, { maximumFractionDigits: 0, useGrouping: false })
    : value.toLocaleString(numbers, { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
};
/** @type {(time: number, timeZone?: string) => string} */
export const date = (time, timeZone) =>
  new Date(time).toLocaleDateString(days, { year: "numeric", month: "2-digit", day: "2-digit", timeZone });
/** @type {(time: number, timeZone?: string) => string} */
export const clock = (time, timeZone) => new Date(time).toLocaleTimeString(clocks, { timeZone });

/** @type {(text: string) => string} */
const plain = (text) => text.replace(/\s+/g, " ").trim();

/** Translates what stands in the page. */
function translate() {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const found = texts.get(plain(node.textContent ?? ""));
    // Spaces around a text separate it from its neighbors.
    if (found) node.textContent = (node.textContent ?? "").replace(/\S[\s\S]*\S|\S/, () => found);
  }
  for (const name of ["aria-label", "aria-roledescription", "placeholder", "alt", "title"]) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      const found = texts.get(plain(element.getAttribute(name) ?? ""));
      if (found) element.setAttribute(name, found);
    }
  }
  document.title = t(document.title);
}

/** Fills the button that changes to the other language. */
function offer() {
  const button = document.getElementById("language");
  const other = language === "de" ? "en" : "de";
  if (!button) return;
  [button.textContent, button.lang] = [LANGUAGES[other].name, other];
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, other);
    location.reload();
  });
}

document.documentElement.lang = language;
translate();
offer();
