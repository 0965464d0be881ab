// @ts-check
// What the page asks the service for, and the types of the answers.

import { openForm } from "./session.js";
import { t } from "./texts.js";

/** @import { Status } from "./service.js" */

/** @typedef {"good" | "bad"} Answer */
/** @typedef {[number, number][]} Area Corners in shares of width and height. */

/**
 * @typedef {object} Scored
 * @property {string} picture
 * @property {number} score
 */

/**
 * A package that is not active yet.
 * @typedef {object} Trial
 * @property {string} package
 * @property {string} at
 * @property {string} quality
 * @property {number} images
 * @property {number} parts
 * @property {number} threshold
 * @property {string} promise
 * @property {{ kind: string, size: number, rejected: number, painted: number }[]} forecast
 * @property {number} milliseconds
 * @property {string} provider
 * @property {Scored[]} good
 * @property {Scored[]} bad
 * @property {string[]} outliers
 * @property {string[]} advice
 */

/**
 * @typedef {object} Changes
 * @property {string[]} fewer_false_rejects
 * @property {string[]} more_false_rejects
 * @property {string[]} newly_missed
 * @property {string[]} newly_found
 * @property {string[]} missed
 * @property {[good: number, bad: number]} of
 */

/**
 * @typedef {object} Product
 * @property {string} name
 * @property {string} quality
 * @property {number} false_reject_percent
 * @property {Area[]} ignore
 * @property {string[]} good
 * @property {string[]} bad
 * @property {string[]} history
 * @property {Trial | null} candidate
 * @property {Changes | null} changes
 * @property {boolean} is_active
 */

/**
 * @typedef {object} Recent
 * @property {number} id
 * @property {number} part
 * @property {number} time_ms
 * @property {"pass" | "reject"} verdict
 * @property {number | null} score
 * @property {number | null} threshold
 * @property {Answer | null} answer
 */

/**
 * @typedef {object} Shadow
 * @property {boolean} running
 * @property {string} package
 * @property {number} parts
 * @property {number} active_rejects
 * @property {number} shadow_rejects
 * @property {{ id: number, part: number, active: string, shadow: string, ratio: number | null }[]} differing
 * @property {string | null} error
 */

/**
 * @typedef {object} Teaching
 * @property {string[]} products
 * @property {Product | null} product
 * @property {{ mode: "off" | "next" | "timed", left?: number, seconds?: number }} collecting
 * @property {string | null} refused
 * @property {boolean} software_trigger
 * @property {{ running: boolean, step: string, done: number, of: number, share: number, left_s: number | null,
 *   error: string | null } | null} job
 * @property {Shadow} shadow
 * @property {{ sharpness: number, brightness: number, clipped: number, size: [number, number] }} aid
 * @property {Recent[]} recent
 * @property {boolean} held
 * @property {boolean} has_previous
 * @property {{ recipe: number, is_new: boolean, replaces: string | null } | null} target Where the package would go.
 * @property {string[]} obstacles
 */

/** @type {(id: string) => HTMLElement} */
export const $ = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
/** @type {(id: string) => HTMLInputElement} */
export const input = (id) => /** @type {HTMLInputElement} */ ($(id));
/** @type {(id: string) => HTMLDialogElement} */
export const dialog = (id) => /** @type {HTMLDialogElement} */ ($(id));

let fading = 0;

/** @param {string} text @param {boolean} bad */
export function tell(text, bad) {
  $("answer").textContent = text;
  $("answer").className = bad ? "notice error" : "notice";
  $("answer").hidden = !text;
  clearTimeout(fading);
  if (!bad) fading = window.setTimeout(() => ($("answer").hidden = true), 6000);
  else $("answer").scrollIntoView({ block: "nearest" });
}

/** @type {Status | null} The line's latest state. */
export let line = null;
/** @param {Status} news */
export const setLine = (news) => (line = news);

/** @type {() => void} The change that waits for a token. */
let again = () => {};
$("ask")
  .querySelector("form")
  ?.addEventListener("submit", () => {
    sessionStorage.setItem("token", input("token").value.trim());
    again();
  });
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}

/** Changes on their way, and all that were answered. */
let [open, answered] = [0, 0];
/** What the page knows is as old as this. Equal to nothing while a change is on its way. */
export const age = () => (open ? NaN : answered);

/**
 * Asks for a change. Returns the new state, or null if it was refused; the page says why.
 * @param {string} action
 * @param {object} [question]
 * @param {string} [success]
 * @returns {Promise<Teaching | null>}
 */
export async function change(action, question, success = "") {
  /** @type {Record<string, string>} */
  const headers = { "X-Weakrest": "1" };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  open += 1;
  try {
    const body = question ? JSON.stringify(question) : undefined;
    const options = { method: "POST", headers, body, signal: AbortSignal.timeout(60000) };
    const response = await fetch(`/api/teach/${action}`, options);
    const answer = await response.json();
    if (response.status === 401 && line?.you.changes === "account") {
      openForm();
      return null;
    }
    if (response.status === 401) {
      again = () => void change(action, question, success);
      input("token").value = "";
      dialog("ask").showModal();
      return null;
    }
    if (!response.ok) {
      tell(answer.error, true);
      return null;
    }
    if (success) tell(success, false);
    return answer;
  } catch {
    tell(t("The service does not answer."), true);
    return null;
  } finally {
    open -= 1;
    answered += 1;
  }
}

/** @param {string} source @param {string} text */
export function enlarge(source, text) {
  const picture = /** @type {HTMLImageElement} */ ($("largepicture"));
  picture.src = `${source}?side=1280`;
  picture.alt = text;
  $("largetext").textContent = text;
  dialog("large").showModal();
}

/**
 * What people call a picture: its part and time.
 * @param {string} name
 */
export function called(name) {
  const [, hour, minute, second, part] = name.match(/^\d{8}-(\d\d)(\d\d)(\d\d)\.\d+-(?:\w+-)?(\d+)/) ?? [];
  return part ? t("part {0}, {1} UTC", Number(part), `${hour}:${minute}:${second}`) : name.replace(/\.png$/, "");
}

/**
 * Replaces the items of a list, if their keys differ.
 * @template T
 * @param {HTMLElement} list
 * @param {T[]} entries
 * @param {(entry: T) => string} key
 * @param {(entry: T) => HTMLElement} item
 */
export function refill(list, entries, key, item) {
  const keys = JSON.stringify(entries.map(key));
  if (list.dataset.keys === keys) return;
  list.dataset.keys = keys;
  /** @type {Map<string | undefined, HTMLElement>} What stays need not load its picture again. */
  const known = new Map();
  for (const child of list.children) if (child instanceof HTMLElement) known.set(child.dataset.key, child);
  const items = entries.map((entry) => {
    const own = known.get(key(entry)) ?? item(entry);
    own.dataset.key = key(entry);
    return own;
  });
  list.replaceChildren(...items);
}
