// @ts-check
// Requests to the service, and the types of its answers.

/**
 * @typedef {object} Region
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

/**
 * @typedef {object} Part
 * @property {string | null} run The earlier run that it belongs to; null for the present one.
 * @property {number} part
 * @property {string} product
 * @property {string} package
 * @property {number} time_ms
 * @property {"pass" | "reject" | "fault"} verdict
 * @property {string | null} reason
 * @property {number | null} score
 * @property {number | null} threshold
 * @property {number} latency_ms
 * @property {Region[]} regions
 */

/**
 * The answer to `/api/parts` and `/api/rejects`.
 * @typedef {object} Parts
 * @property {number} started_ms
 * @property {number} next
 * @property {Part[]} parts
 */

/** @import { You } from "./session.js" */

/**
 * The answer to `/api/status`.
 * @typedef {object} Status
 * @property {string} state
 * @property {Record<string, { severity: string, text: string }>} problems
 * @property {{ product: string, package: string, provider: string, threshold: number | null, recipe: number }} engine
 * @property {number} parts
 * @property {number} passes
 * @property {number} rejects
 * @property {Record<string, number>} faults
 * @property {number} dropped_frames
 * @property {number} lost_frames
 * @property {number} camera_losses
 * @property {number} late_inspections
 * @property {number} missed_pulses
 * @property {number} late_pulses
 * @property {number} swaps
 * @property {Record<string, number>} outputs_dropped
 * @property {Record<string, number>} outputs_failed
 * @property {boolean} latched
 * @property {{ count: number, refused: string | null }} reloads
 * @property {boolean} recipes Whether there are packages to choose from.
 * @property {{ name: string, count: number, last_ms: number, mean_ms: number, worst_ms: number }[]} stages
 * @property {string} version
 * @property {You} you Who looks at the page, and what they may do.
 * @property {boolean} teaches Whether there is a page for teaching.
 * @property {boolean} labels Whether rejects can be copied to the label folder.
 * @property {number} uptime_s
 * @property {number} started_ms
 * @property {number | null} picture The part of the latest picture.
 * @property {number | null} last_reject
 * @property {number} reject_changes Differs when the list of rejects has changed.
 * @property {{ since_ms: number, journal: boolean, parts: number, passes: number, rejects: number,
 *   faults: number }} counted Of the present product and package.
 */

/** Whether a person did something since the last request. Polls alone prolong no session. */
let active = false;
for (const kind of ["pointerdown", "keydown", "wheel"]) {
  addEventListener(kind, () => (active = true), { capture: true, passive: true });
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
export function ask(path, options) {
  const headers = new Headers(options?.headers);
  if (active) headers.set("X-Weakrest-Active", "1");
  active = false;
  return fetch(path, { signal: AbortSignal.timeout(5000), ...options, headers });
}

/** The page may be looked at only by those who are signed in. */
export class SignedOut extends Error {}

/**
 * The answer to a question; the caller knows its type.
 * @param {string} path
 */
export async function read(path) {
  const response = await ask(path);
  if (response.status === 401) throw new SignedOut(path);
  if (!response.ok) throw new Error(path);
  return response.json();
}
