// @ts-check
// The language of the service's pages. Pages are written in English; each other language has a file that maps the
// English texts. What comes from the service itself (reasons, promises, names) stays English.

import { german } from "./german.js";

/** @typedef {"en" | "de"} Language */

const KEY = "language";
/** @type {Record<string, Record<string, string>>} */
const LANGUAGES = { en: {}, de: german };

/** @type {() => Language} The chosen language, or the browser's. */
function chosen() {
  const kept = localStorage.getItem(KEY);
  const wanted = kept ?? navigator.language.slice(0, 2);
  return wanted === "de" ? "de" : "en";
}

/** @type {Language} */
export const language = chosen();
const texts = LANGUAGES[language];

/**
 * A text in the chosen language. `{0}` stands for the first value, and so on.
 * @param {string} text
 * @param {...(string | number)} values
 */
export const t = (text, ...values) =>
  (texts[text] ?? text).replace(/\{(\d)\}/g, (_, at) => String(values[Number(at)] ?? ""));

/** @type {(text: string) => string} */
const plain = (text) => text.replace(/\s+/g, " ").trim();

/** Translates what stands in the page, and adds the choice of language to an element. */
export function translatePage(/** @type {HTMLElement | null} */ beside = null) {
  document.documentElement.lang = language;
  if (language !== "en") {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const found = texts[plain(node.textContent ?? "")];
      // Spaces around a text separate it from its neighbors.
      if (found) node.textContent = (node.textContent ?? "").replace(/\S[\s\S]*\S|\S/, () => found);
    }
    for (const name of ["aria-label", "placeholder", "alt", "title"]) {
      for (const element of document.querySelectorAll(`[${name}]`)) {
        const found = texts[plain(element.getAttribute(name) ?? "")];
        if (found) element.setAttribute(name, found);
      }
    }
  }
  if (!beside) return;
  const button = document.createElement("button");
  button.type = "button";
  button.id = "language";
  [button.textContent, button.lang] = language === "de" ? ["English", "en"] : ["Deutsch", "de"];
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, language === "de" ? "en" : "de");
    location.reload();
  });
  beside.append(button);
}
