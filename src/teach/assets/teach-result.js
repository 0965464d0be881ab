// @ts-check
// The new package: what was measured, what it changes, and its threshold.

import { make, say } from "./elements.js";
import { $, called, enlarge, input, refill } from "./teach-api.js";
import { fixed, number, t } from "./texts.js";

/** @import { Product, Shadow, Trial } from "./teach-api.js" */

/** Strangest good parts on the page. */
const STRANGEST = 6;

/**
 * A picture with a text.
 * @param {string} source
 * @param {string} text
 * @param {string} [className]
 */
export function tile(source, text, className) {
  const [item, button, picture] = [make("li"), make("button", undefined, "show"), make("img")];
  button.type = "button";
  button.setAttribute("aria-label", t("Enlarge: {0}", text));
  picture.src = source;
  picture.alt = "";
  picture.loading = "lazy";
  button.append(picture);
  button.addEventListener("click", () => enlarge(source, text));
  item.append(button, make("span", text, className));
  return item;
}

/** @param {Product} product */
export function showResult(product) {
  const { candidate, changes } = product;
  $("resultsection").hidden = !candidate;
  if (!candidate || !changes) return;
  const state = product.is_active ? t("This package is active.") : t("This package is not active yet.");
  const speed = candidate.milliseconds ? t("{0} ms a picture.", fixed(candidate.milliseconds, 0)) : "";
  const threshold = number(candidate.threshold);
  const of = t("{0} good pictures of {1} parts, threshold {2}.", candidate.images, candidate.parts, threshold);
  say($("summary"), `${state} ${of} ${speed} ${candidate.promise}`);
  refill($("advice"), candidate.advice, String, (text) => make("li", text, "notice warning"));
  showForecast(candidate);

  /** @type {[string[], (count: number, names: string) => string][]} */
  const lines = [
    [changes.newly_missed, (n, names) => t("{0} known defects newly missed: {1}", n, names)],
    [changes.newly_found, (n, names) => t("{0} known defects newly found: {1}", n, names)],
    [changes.more_false_rejects, (n, names) => t("{0} good parts newly rejected: {1}", n, names)],
    [changes.fewer_false_rejects, (n, names) => t("{0} false rejects fewer: {1}", n, names)],
  ];
  const [good, bad] = changes.of;
  const caught = bad
    ? t("{0} of {1} known defects are rejected", bad - changes.missed.length, bad)
    : t("no known defects yet");
  const said = lines.filter(([names]) => names.length);
  const entries = said.map(([names, words]) => words(names.length, names.map(called).join("; ")));
  entries.push(t("{0}; scores of {1} good pictures, each without its own part", caught, good));
  refill($("changes"), entries, String, (text) => make("li", text));

  const strange = [...candidate.good].sort((a, b) => b.score - a.score).slice(0, STRANGEST);
  const known = strange.filter((s) => product.good.includes(s.picture));
  refill(
    $("strangest"),
    known,
    (s) => `${s.picture} ${s.score}`,
    (s) => {
      const above = s.score > candidate.threshold;
      const text = `${number(s.score / candidate.threshold)}× ${above ? t("rejected") : ""}`;
      return tile(`/api/teach/good/${s.picture}`, `${text} ${called(s.picture)}`, above ? "reject" : "");
    },
  );
}

/** @param {Trial} trial */
function showForecast(trial) {
  const body = /** @type {HTMLTableSectionElement} */ ($("forecast"));
  const key = JSON.stringify(trial.forecast);
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  body.replaceChildren();
  const sizes = [...new Set(trial.forecast.map((f) => f.size))].sort((a, b) => a - b);
  const kinds = [...new Set(trial.forecast.map((f) => f.kind))];
  const row = (/** @type {string[]} */ cells) => {
    const line = body.insertRow();
    cells.forEach((text, i) => line.append(make(i ? "td" : "th", text)));
  };
  row(["", ...sizes.map((size) => `${size} px`)]);
  for (const kind of kinds) {
    const share = (/** @type {number} */ size) => {
      const found = trial.forecast.find((f) => f.kind === kind && f.size === size);
      return found ? `${Math.round((100 * found.rejected) / Math.max(1, found.painted))} %` : "–";
    };
    row([t(kind), ...sizes.map(share)]);
  }
}

/** @param {Shadow} shadow @param {Product} product */
export function showShadow(shadow, product) {
  const own = product.candidate?.package === shadow.package;
  $("shadow").textContent = shadow.running ? t("End the trial") : t("Try on live parts, without effect");
  const counts = t(
    "{0} parts judged by both packages: the new one would have rejected {1}, the active one {2}.",
    shadow.parts,
    shadow.shadow_rejects,
    shadow.active_rejects,
  );
  const text = shadow.error ?? (own && (shadow.running || shadow.parts) ? counts : "");
  say($("shadowtext"), text);
  refill(
    $("differing"),
    own ? [...shadow.differing].reverse() : [],
    (d) => String(d.id),
    (d) => {
      const ratio = d.ratio === null ? "" : `, ${number(d.ratio)}×`;
      return tile(`/api/teach/recent/${d.id}`, t("part {0}: {1} → {2}", d.part, t(d.active), t(d.shadow)) + ratio, "");
    },
  );
}

/** Scores of the active package, and its threshold. */
let scores = { good: /** @type {number[]} */ ([]), bad: /** @type {number[]} */ ([]), threshold: 1 };
/** @type {string} */
let drawn = "";
const BINS = 60;

/** The threshold at the slider. */
export const chosenThreshold = () => (Number(input("slider").value) / 1000) * top();
/** @type {() => number} */
const top = () => Math.max(2.5 * scores.threshold, 1.05 * Math.max(0, ...scores.good));

/**
 * Shows the scores of the active package.
 * @param {typeof scores} known
 */
export function showScores(known) {
  const key = JSON.stringify(known);
  if (key === drawn) return;
  const moved = known.threshold !== scores.threshold;
  drawn = key;
  scores = known;
  if (moved || !input("slider").dataset.moved) input("slider").value = String((1000 * scores.threshold) / top());
  drawHistogram();
}

export function drawHistogram() {
  const svg = $("histogram");
  const bins = (/** @type {number[]} */ values) => {
    const counts = Array.from({ length: BINS }, () => 0);
    for (const v of values) counts[Math.min(BINS - 1, Math.floor((v / top()) * BINS))] += 1;
    return counts;
  };
  const [good, bad] = [bins(scores.good), bins(scores.bad)];
  const most = Math.max(1, ...good, ...bad);
  /** @type {SVGElement[]} */
  const shapes = [];
  const name = "http://www.w3.org/2000/svg";
  for (const [counts, className, shift] of /** @type {const} */ ([
    [good, "pass", 0],
    [bad, "reject", 0.5],
  ])) {
    counts.forEach((count, i) => {
      if (!count) return;
      const bar = document.createElementNS(name, "rect");
      const height = Math.max(2, (95 * count) / most);
      const step = 400 / BINS;
      for (const [key, value] of Object.entries({ x: (i + shift) * step, y: 100 - height, width: step / 2, height })) {
        bar.setAttribute(key, value.toFixed(2));
      }
      bar.setAttribute("class", className);
      shapes.push(bar);
    });
  }
  const line = document.createElementNS(name, "line");
  const x = ((400 * chosenThreshold()) / top()).toFixed(2);
  for (const [key, value] of Object.entries({ x1: x, x2: x, y1: "0", y2: "100" })) line.setAttribute(key, value);
  svg.replaceChildren(...shapes, line);
}
