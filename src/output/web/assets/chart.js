// @ts-check
// The chart of the latest scores.

import { inner, make, say } from "./elements.js";
import { $, ratio } from "./page.js";
import { number, t, whole } from "./texts.js";

/** @import { Part } from "./service.js" */

/** Higher scores are drawn at this multiple of the threshold. */
const CEILING = 3;
/** The chart has room for at least this many parts. */
const COLUMNS = 60;

/** @param {Part[]} parts */
export function showChart(parts) {
  const top = Math.max(1.5, Math.min(CEILING, 1.1 * Math.max(...parts.map((p) => ratio(p) ?? 0))));
  const columns = Math.max(parts.length, COLUMNS);
  /** @type {(value: number) => number} */
  const height = (value) => 97 - (95 * value) / top;
  const paths = { pass: "", reject: "", fault: "", grid: `M0 ${height(1).toFixed(2)}H1000` };
  parts.forEach((p, i) => {
    const x = (1000 * (columns - parts.length + i + 0.5)) / columns;
    const multiple = ratio(p);
    const y = multiple === null ? 98 : height(Math.min(multiple, top));
    paths[p.verdict] += `M${x.toFixed(1)} ${y.toFixed(2)}h0`;
  });
  for (const [name, path] of Object.entries(paths)) inner($("chart"), `.${name}`).setAttribute("d", path);
  /** @type {(text: string, value: number) => HTMLElement} */
  const label = (text, value) => {
    const span = make("span", text);
    span.style.top = `${height(value)}%`;
    return span;
  };
  const highest = top === CEILING ? t("{0}× and more", CEILING) : `${number(top)}×`;
  $("scale").replaceChildren(label(t("threshold"), 1), label(highest, top));
  const rejected = parts.filter((p) => p.verdict === "reject").length;
  $("chart").setAttribute("aria-label", t("Scores of the latest {0} parts, {1} rejected", whole(parts.length), whole(rejected)));
  say($("span"), t("Latest {0} parts. Newest on the right. Score as a multiple of the threshold.", whole(parts.length)));
}
