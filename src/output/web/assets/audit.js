// @ts-check
// The page of changes: reads the audit log to its end, then asks for news.

import { make, say } from "./elements.js";
import { ask } from "./service.js";
import { openForm, readYou, showSession, whyNot } from "./session.js";
import { clock, date, t } from "./texts.js";

/**
 * @typedef {object} Entry
 * @property {number} n
 * @property {string} at
 * @property {string} who
 * @property {string | null} from
 * @property {string} what
 * @property {unknown} before
 * @property {unknown} after
 */

/** Time between two polls, in milliseconds. */
const POLL = 3000;
/** The page shows this many changes at most. */
const SHOWN = 1000;

const body = /** @type {HTMLTableSectionElement} */ (document.getElementById("entries"));
const problem = /** @type {HTMLElement} */ (document.getElementById("problem"));
let last = 0;
let timer = 0;
/** Whether the form to sign in was opened by itself: once is enough. */
let offered = false;

/** @param {string} text */
function tell(text) {
  say(problem, text);
  problem.hidden = !text;
}

/** @type {(value: unknown) => string} */
const short = (value) => (value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));

/** @param {Entry} entry */
function show(entry) {
  const row = make("tr");
  const time = Date.parse(entry.at);
  const when = `${date(time, "UTC")} ${clock(time, "UTC")} UTC`;
  const cells = [String(entry.n), when, entry.who, entry.from ?? "", entry.what];
  row.append(...[...cells, short(entry.before), short(entry.after)].map((text) => make("td", text)));
  body.prepend(row);
}

async function poll() {
  clearTimeout(timer);
  let wait = POLL;
  try {
    const you = await readYou();
    showSession(you, poll);
    /** @type {Record<string, string>} */
    const headers = {};
    const token = sessionStorage.getItem("token");
    if (token && you.changes === "token") headers.Authorization = `Bearer ${token}`;
    const response = await ask(`/api/audit?after=${last}`, { headers });
    if (response.ok) {
      /** @type {{ entries: Entry[] }} */
      const { entries } = await response.json();
      entries.forEach(show);
      last = entries.at(-1)?.n ?? last;
      offered = false;
      while (body.rows.length > SHOWN) body.deleteRow(-1);
      if (entries.length) wait = 0;
      tell("");
    } else {
      body.replaceChildren();
      last = 0;
      tell(whyNot(you, "engineer") || (await response.json()).error);
      if (you.changes === "account" && you.role === null && !offered) openForm();
      offered = true;
    }
  } catch {
    tell(t("No connection to the service."));
  }
  timer = window.setTimeout(poll, wait);
}

poll();
