// @ts-check
// Requests to the labeler, and the types of its answers.

import { $ } from "./page.js";
import { t } from "./texts.js";

/** @import { Outline } from "./boxes.js" */
/** @import { Runs } from "./mask.js" */

/** @typedef {"good" | "defective"} Tag */

/**
 * A picture in the list.
 * @typedef {object} Entry
 * @property {number} id
 * @property {string} name
 * @property {number | null} width
 * @property {number | null} height
 * @property {number | null} score
 * @property {boolean} done
 * @property {Tag | null} kind
 * @property {string | null} type
 * @property {string | null} revision
 * @property {boolean} missing
 * @property {string | null} error Why the picture cannot be labeled.
 */

/**
 * The answer to `/api/state`.
 * @typedef {object} State
 * @property {string} session Picture numbers are valid in one session only.
 * @property {string} product
 * @property {string} folder
 * @property {string} labels The label file.
 * @property {{ name: string } | null} adclick
 * @property {boolean} nearest
 * @property {string[]} types
 * @property {Record<string, string[]>} prompts
 * @property {number} threshold
 * @property {number} preparing
 * @property {Entry[]} pictures
 */

/** @typedef {(Outline | { mask: Runs }) & { type: string | null }} Drawing A shape as the server tells it. */

/**
 * A label.
 * @typedef {object} Label
 * @property {string} revision
 * @property {Tag | null} tag
 * @property {Drawing[]} shapes
 * @property {string | null} type Of a defect without a shape.
 * @property {number} [seconds]
 * @property {string} [lost] Why a mask of this label cannot be read.
 */

/**
 * The answer to `/api/pictures/{id}`.
 * @typedef {object} Detail
 * @property {string} name
 * @property {number} width
 * @property {number} height
 * @property {Label} label
 * @property {{ mask: Runs, sure: boolean } | null} suggestion
 */

/** A refused request; `status` 0 means that there was no answer. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {string} text
   * @param {{ label?: Label }} [body]
   */
  constructor(status, text, body = {}) {
    super(text);
    this.status = status;
    this.body = body;
  }
}

/** @type {(error: unknown) => Problem} */
export const asProblem = (error) => (error instanceof Problem ? error : new Problem(0, String(error)));

/**
 * Sends a request; throws a `Problem` unless the answer is OK.
 * @param {string} path
 * @param {{ method?: string, body?: unknown, signal?: AbortSignal, timeout?: number }} [options]
 * @returns {Promise<Response>}
 */
export async function ask(path, { method = "GET", body, signal, timeout = 30000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  /** @type {Record<string, string>} */
  const headers = body ? { "Content-Type": "application/json", "X-Weakrest": "1" } : {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      body: body instanceof Blob ? body : body ? JSON.stringify(body) : undefined,
      headers,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, t("The labeler does not answer. Check that weakrest label is still running."));
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) {
    await tokenFromPerson(Boolean(token));
    return ask(path, { method, body, signal, timeout });
  }
  throw new Problem(response.status, answer.error ?? t("The labeler answered {0}.", response.status), answer);
}

/** @type {Promise<void> | null} */
let person = null;

/**
 * Asks the person for the token, once for all waiting requests.
 * @param {boolean} wrong
 */
function tokenFromPerson(wrong) {
  person ??= new Promise((done) => {
    const [dialog, input] = [$("tokens"), $("token")];
    const why = wrong ? t("Wrong token.") : t("Labeling from another machine needs a token.");
    $("tokenwhy").textContent = `${why} ${t("The token is in the file given with --token-file.")}`;
    const given = () => {
      if (!input.value.trim()) return;
      sessionStorage.setItem("token", input.value.trim());
      input.value = "";
      input.onkeydown = null;
      dialog.oncancel = null;
      dialog.close();
      person = null;
      done();
    };
    $("tokengiven").onclick = given;
    input.onkeydown = (event) => {
      if (event.key === "Enter") given();
    };
    // Nothing can be saved without the token.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
    input.focus();
  });
  return person;
}
