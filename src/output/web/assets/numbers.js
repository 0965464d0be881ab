// @ts-check
// The page of the numbers: asks for a period, and shows what the journal counted.

import { make, say } from "./elements.js";
import { spots, trend } from "./figures.js";
import { find } from "./gallery.js";
import { count, date, fixed, number, t, whole } from "./texts.js";

/**
 * @typedef {object} Counts
 * @property {number} parts
 * @property {number} passes
 * @property {number} rejects
 * @property {number} faults
 * @property {number | null} score
 * @property {number | null} brightness
 * @property {number | null} sharpness
 * @property {number | null} noise
 */
/**
 * @typedef {object} Change
 * @property {string} quantity
 * @property {number} usual
 * @property {number} now
 * @property {number} change
 * @property {boolean} alarm
 */
/** @typedef {Counts & { day: string | null, name: string, product: string | null }} Group */
/**
 * The answer to `/api/numbers`.
 * @typedef {object} Numbers
 * @property {{ product: string, package: string }[]} packages
 * @property {Counts} total
 * @property {Record<string, number>} faults
 * @property {Group[]} groups
 * @property {(Counts & { time_ms: number })[]} trend
 * @property {Change[]} drift
 * @property {string[]} remarks
 */

/** @type {(id: string) => HTMLElement} */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @type {(id: string) => HTMLInputElement} */
const field = (id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
const DAY = 86_400_000;

/** @type {(share: number) => string} */
const percent = (share) => `${fixed(100 * share, share < 0.1 ? 2 : 1)} %`;
/** @type {(counts: Counts) => number | null} Faults are not judged. */
const share = ({ passes, rejects }) => (passes + rejects ? rejects / (passes + rejects) : null);
/** @type {(value: number | null, text?: (value: number) => string) => string} */
const known = (value, text = number) => (value === null ? "–" : text(value));
/** @type {(time: number) => string} A day in the browser's time zone. */
const day = (time) => new Date(time).toLocaleDateString("en-CA");
/** @type {(text: string) => number} */
const midnight = (text) => new Date(`${text}T00:00`).getTime();

/** @type {Record<string, string>} */
const QUANTITIES = {
  light: t("light (brightness)"),
  focus: t("focus (sharpness)"),
  noise: t("noise (deviation)"),
  scores: t("scores of good parts"),
};

/** Counts the questions: the answer to an old one is not shown. */
let question = 0;

async function load() {
  question += 1;
  const mine = question;
  const [from, end] = [midnight(field("from").value), midnight(field("to").value)];
  // The day after, also where a day has 23 or 25 hours.
  const to = midnight(day(end + 1.5 * DAY));
  if (!(from < to)) return trouble(t("Set a first and a last day, in this order."));
  const query = new URLSearchParams({
    from: `${from}`,
    to: `${to}`,
    by: field("by").value,
    product: field("product").value,
  });
  const address = new URLSearchParams({
    from: field("from").value,
    to: field("to").value,
    by: field("by").value,
    product: field("product").value,
  });
  history.replaceState(null, "", `?${address}`);
  /** @type {HTMLAnchorElement} */ ($("table")).href = `/api/numbers.csv?${query}`;
  say($("period"), t("{0} to {1}", date(from), date(end)));
  $("numbers").classList.add("old");
  try {
    const [numbers, heat] = await Promise.all([read(`/api/numbers?${query}`), read(`/api/numbers/heat?${query}`)]);
    if (mine !== question) return;
    show(numbers);
    await showSpots(heat);
    trouble("");
    $("numbers").classList.remove("old");
  } catch (error) {
    if (mine === question) trouble(error instanceof Error ? error.message : t("The service does not answer."));
  }
}

/** @param {string} path */
async function read(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(20000) });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error);
  return body;
}

/** @param {string} text */
function trouble(text) {
  say($("trouble"), text);
  $("trouble").hidden = !text;
}

/** @param {Numbers} numbers */
function show({ packages, total, faults, groups, trend: points, drift, remarks }) {
  $("remarks").replaceChildren(...remarks.map((text) => make("li", text)));
  const products = [...new Set(packages.map((each) => each.product))].sort();
  const chosen = field("product").value;
  if (chosen && !products.includes(chosen)) products.push(chosen);
  const option = (/** @type {string} */ product) => {
    const element = make("option", product || t("all"));
    element.value = product;
    element.selected = product === chosen;
    return element;
  };
  $("product").replaceChildren(...["", ...products].map(option));

  for (const id of /** @type {const} */ (["parts", "passes", "rejects", "faults"])) say($(id), whole(total[id]));
  say($("share"), known(share(total), percent));
  const kinds = Object.entries(faults).map(([kind, n]) => `${t(kind)} ${whole(n)}`);
  say($("kinds"), kinds.length ? t("Faults: {0}", kinds.join(", ")) : "");

  $("nodrift").hidden = drift.length > 0;
  rows($("drift"), drift, ({ quantity, usual, now, change, alarm }) => [
    QUANTITIES[quantity] ?? quantity,
    number(usual),
    number(now),
    `${change < 0 ? "−" : "+"}${fixed(Math.abs(100 * change), 1)} %`,
    alarm ? t("changed") : t("as usual"),
  ]);
  [...$("drift").children].forEach((row, i) => row.classList.toggle("alarm", drift[i].alarm));

  const by = field("by").value;
  say($("groupsof"), t("By {0}", t(by)));
  say($("groupname"), t(by));
  /** @type {(group: Group) => string} */
  const called = ({ name: given }) => {
    if (by === "package") return given.slice(0, 12);
    if (by === "day") return date(midnight(given));
    const [begin, end] = given.split(" to ");
    return by === "shift" && end ? t("{0} to {1}", begin, end) : given;
  };
  rows($("groups"), groups, (group) => [
    [group.day && date(midnight(group.day)), group.product, called(group)].filter(Boolean).join(" · "),
    whole(group.parts),
    whole(group.rejects),
    known(share(group), percent),
    whole(group.faults),
    known(group.score, (score) => `${number(score)}×`),
  ]);

  $("trends").replaceChildren(
    trend(t("rejected"), points.map(share), "reject", percent),
    trend(t("mean score of good parts, of the threshold"), points.map((p) => p.score)),
    trend(t("light: brightness"), points.map((p) => p.brightness)),
    trend(t("focus: sharpness"), points.map((p) => p.sharpness)),
    trend(t("noise: deviation"), points.map((p) => p.noise)),
  );
}

/**
 * Fills a table. The first cell of a row is its heading.
 * @template Item
 * @param {HTMLElement} body
 * @param {Item[]} items
 * @param {(item: Item) => string[]} cells
 */
function rows(body, items, cells) {
  const row = (/** @type {Item} */ item) => {
    const line = make("tr");
    const [name, ...rest] = cells(item);
    const head = make("th", name);
    head.scope = "row";
    line.append(head, ...rest.map((text) => make("td", text)));
    return line;
  };
  body.replaceChildren(...items.map(row));
}

/** @param {{ parts: number, columns: number, rows: number, cells: number[], width: number, height: number }} heat */
async function showSpots(heat) {
  const product = field("product").value;
  const status = await read("/api/status");
  // A picture of another part would mislead.
  const pictured = status.picture !== null && (!product || product === status.engine.product);
  spots($("heat"), heat, pictured ? "/api/live.jpg?plain=1" : null);
  const text = heat.parts
    ? `${count(heat.parts, "{0} reject", "{0} rejects")}. ${t("In whole days (UTC). The darker, the more of them have a region there.")}`
    : t("No reject of this period has a picture whose size is known.");
  say($("spotsof"), text);
}

/** @param {number} days */
function last(days) {
  const now = Date.now();
  field("from").value = day(now - (days - 1) * DAY);
  field("to").value = day(now);
}

const given = new URLSearchParams(location.search);
last(7);
const DATE = /^\d{4}-\d{2}-\d{2}$/;
for (const id of ["from", "to"]) {
  const text = given.get(id) ?? "";
  if (DATE.test(text)) field(id).value = text;
}
const by = given.get("by") ?? "";
if (["shift", "day", "product", "package"].includes(by)) field("by").value = by;
const product = given.get("product");
if (product) {
  const option = make("option", product);
  option.value = product;
  option.selected = true;
  $("product").append(option);
}

for (const id of ["from", "to", "by"]) $(id).addEventListener("change", load);
$("product").addEventListener("change", () => {
  load();
  find(false);
});
for (const button of document.querySelectorAll("#choice button")) {
  button.addEventListener("click", () => {
    last(Number(/** @type {HTMLElement} */ (button).dataset.days));
    load();
  });
}
$("choice").addEventListener("submit", (event) => event.preventDefault());
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  find(false);
});
$("more").addEventListener("click", () => find(true));
$("print").addEventListener("click", () => window.print());
load();
find(false);
