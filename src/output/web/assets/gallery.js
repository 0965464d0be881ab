// @ts-check
// Search in the kept parts.

import { make, say } from "./elements.js";
import { clock, count as counted, date, number, t, whole } from "./texts.js";

/**
 * @typedef {object} Kept
 * @property {string} name
 * @property {number} part
 * @property {string} verdict
 * @property {number} time_ms
 * @property {string | null} product
 * @property {number | null} multiple
 * @property {boolean} picture
 * @property {boolean} overlay
 */

/** @type {(id: string) => HTMLElement} */
const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @type {(id: string) => string} */
const value = (id) => /** @type {HTMLInputElement} */ ($(id)).value.trim();

/** @type {string | null} Where the next piece begins. */
let after = null;
/** Counts the searches: the answer to an old one is not shown. */
let search = 0;

/** @param {boolean} go_on Whether to add to the parts that are shown. */
export async function find(go_on) {
  search += 1;
  const mine = search;
  if (!go_on) {
    after = null;
    $("parts-kept").replaceChildren();
  }
  const query = new URLSearchParams({ product: value("product"), after: after ?? "" });
  for (const [key, id] of [["verdict", "verdict"], ["day", "day"], ["part", "number"], ["least", "least"], ["most", "most"]]) {
    query.set(key, value(id).replace(",", "."));
  }
  say($("keptof"), t("Searching …"));
  $("more").hidden = true;
  try {
    const response = await fetch(`/api/kept?${query}`, { signal: AbortSignal.timeout(20000) });
    const body = await response.json();
    if (mine !== search) return;
    if (!response.ok) throw new Error(body.error);
    after = body.next;
    $("parts-kept").append(...body.parts.map(shown));
    const count = $("parts-kept").children.length;
    const found = count ? counted(count, "{0} part.", "{0} parts, the newest first.") : t("No part found.");
    say($("keptof"), after === null ? found : `${found} ${t("There may be more.")}`);
    $("more").hidden = after === null;
  } catch (error) {
    if (mine === search) say($("keptof"), error instanceof Error ? error.message : t("The service does not answer."));
  }
}

/** @param {Kept} part */
function shown(part) {
  const [item, link] = [make("li"), make("a")];
  const file = (/** @type {string} */ ending) => `/api/kept/${encodeURIComponent(part.name + ending)}`;
  const best = part.overlay ? file(".overlay.jpg") : part.picture ? file(".png") : null;
  link.href = best ?? file(".json");
  link.target = "_blank";
  if (best) {
    const picture = make("img");
    picture.loading = "lazy";
    picture.alt = "";
    picture.addEventListener("error", () => picture.replaceWith(make("em", t("its picture is not kept any more"))));
    picture.src = best;
    link.append(picture);
  } else {
    link.append(make("em", t("no picture was taken")));
  }
  const multiple = part.multiple === null ? "" : ` ${number(part.multiple)}×`;
  link.append(make("b", `${t(part.verdict)}${multiple}`, part.verdict));
  const time = `${date(part.time_ms)} ${clock(part.time_ms)}`;
  link.append(make("span", t("part {0} · {1}", whole(part.part), time)));
  if (part.product) link.append(make("span", part.product));
  item.append(link);
  if (part.picture && part.product) item.append(answers(part, part.product));
  return item;
}

/**
 * Buttons to say whether a part was good or bad. The answers teach its product.
 * @param {Kept} part
 * @param {string} product
 */
function answers(part, product) {
  const pair = make("div", undefined, "pair");
  for (const answer of ["good", "bad"]) {
    const button = make("button", answer === "good" ? t("Good") : t("Bad"));
    button.type = "button";
    const name = answer === "good" ? t("Part {0} was good", part.part) : t("Part {0} was bad", part.part);
    button.setAttribute("aria-label", name);
    button.addEventListener("click", async () => {
      const told = await tell({ kept: `${part.name.slice(0, 8)}/${part.name}`, product, answer });
      say($("keptof"), told ?? t("The answer is kept. Enroll {0} again to use it.", product));
      if (told) return;
      for (const other of pair.children) other.setAttribute("aria-pressed", String(other === button));
    });
    pair.append(button);
  }
  return pair;
}

/**
 * Sends an answer. Returns why it was refused, or null.
 * @param {object} question
 * @returns {Promise<string | null>}
 */
async function tell(question) {
  /** @type {Record<string, string>} */
  const headers = { "X-Weakrest": "1", "Content-Type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const options = { method: "POST", headers, body: JSON.stringify(question), signal: AbortSignal.timeout(20000) };
    const response = await fetch("/api/teach/answer-kept", options);
    return response.ok ? null : (await response.json()).error;
  } catch {
    return t("The service does not answer.");
  }
}
