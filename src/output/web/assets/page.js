// @ts-check
// Small helpers for the page's elements and numbers.

import { make, say } from "./elements.js";
import { clock, count, date, fixed, t, whole } from "./texts.js";

/** @import { Part } from "./service.js" */

/**
 * The elements of `index.html` by their id.
 * @typedef {object} Elements
 * @property {HTMLElement} answer
 * @property {HTMLDialogElement} ask
 * @property {HTMLElement} before
 * @property {HTMLTableSectionElement} beside
 * @property {HTMLElement} caption
 * @property {SVGElement} chart
 * @property {HTMLElement} faults
 * @property {HTMLElement} footer
 * @property {HTMLButtonElement} halt
 * @property {HTMLDialogElement} large
 * @property {HTMLImageElement} largepicture
 * @property {HTMLElement} largetext
 * @property {HTMLElement} lost
 * @property {HTMLElement} may
 * @property {HTMLElement} none
 * @property {HTMLElement} old
 * @property {HTMLInputElement} overlay
 * @property {HTMLElement} part
 * @property {HTMLElement} parts
 * @property {HTMLElement} passes
 * @property {HTMLElement} picture
 * @property {HTMLElement} problems
 * @property {HTMLElement} product
 * @property {HTMLElement} ratio
 * @property {HTMLElement} reason
 * @property {HTMLSelectElement} recipe
 * @property {HTMLElement} recipes
 * @property {HTMLElement} rejected
 * @property {HTMLElement} rejects
 * @property {HTMLButtonElement} reload
 * @property {HTMLButtonElement} resume
 * @property {HTMLElement} scale
 * @property {HTMLElement} score
 * @property {HTMLElement} since
 * @property {HTMLElement} span
 * @property {HTMLTableSectionElement} stages
 * @property {HTMLElement} state
 * @property {HTMLElement} teach
 * @property {HTMLInputElement} token
 * @property {HTMLButtonElement} trigger
 * @property {HTMLElement} verdict
 * @property {HTMLElement} why
 * @property {HTMLElement} word
 */

/**
 * @template {keyof Elements} Id
 * @param {Id} id
 */
export const $ = (id) => /** @type {Elements[Id]} */ (document.getElementById(id));

/** @type {(element: HTMLElement, className: string) => void} */
export const dress = (element, className) => {
  if (element.className !== className) element.className = className;
};

/**
 * Fills a table with rows of text; the first cell is a heading.
 * @param {HTMLTableSectionElement} body
 * @param {string[][]} lines
 */
export function fill(body, lines) {
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((cells, y) => {
    const row = body.rows[y] ?? body.insertRow();
    cells.forEach((text, x) => {
      if (!row.cells[x]) {
        const cell = make(x ? "td" : "th");
        if (!x) cell.scope = "row";
        row.append(cell);
      }
      say(row.cells[x], text);
    });
  });
}

/** @type {(ms: number) => string} */
export const moment = (time) => {
  const today = date(time) === date(Date.now());
  return today ? clock(time) : `${date(time)}, ${clock(time)}`;
};
/** @type {(value: number) => string} */
export const ms = (value) => (fixed(value, value >= 100 ? 0 : 1));
/** @type {(seconds: number) => string} */
export const duration = (seconds) => {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours < 1) return minutes < 1 ? `${Math.floor(seconds)} s` : `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : count(Math.floor(hours / 24), "{0} day", "{0} days");
};

/**
 * The score as a multiple of the threshold.
 * @type {(part: Part) => number | null}
 */
export const ratio = ({ score, threshold }) =>
  score === null || threshold === null || !(threshold > 0) ? null : score / threshold;
/** @type {(part: Part) => string} */
export const title = ({ part, time_ms }) => t("part {0} · {1}", whole(part), moment(time_ms));
