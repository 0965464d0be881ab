// @ts-check
// The last part, the latest picture, and the last rejects.

import { inner, make, say } from "./elements.js";
import { $, dress, ms, ratio, title } from "./page.js";
import { ask, read } from "./service.js";
import { clock, number, t, whole } from "./texts.js";

/** @import { Part, Parts, Status } from "./service.js" */

/** More regions than this are counted only. */
const REGIONS = 6;

/**
 * The big word: the last part's verdict while parts are inspected, otherwise what holds instead.
 * @param {Part | undefined} part
 * @param {Status} status
 */
export function showVerdict(part, status) {
  const stopped = status.state !== "Operational";
  $("before").hidden = !stopped || !part;
  if (stopped) return showStopped(part, status);
  dress($("verdict"), `verdict ${part?.verdict ?? ""}`);
  showWord(part ? t(part.verdict).toUpperCase() : "–");
  say($("part"), part ? title(part) : t("no part yet"));
  const multiple = part ? ratio(part) : null;
  $("ratio").hidden = multiple === null;
  if (multiple !== null) {
    const text = `${number(multiple)}×`;
    say(inner($("ratio"), "b"), text);
    inner($("ratio"), ".meter").setAttribute("aria-label", t("{0} the threshold", text));
    inner($("ratio"), "i").style.width = `${Math.min(multiple * 50, 100)}%`;
  }
  const count = part?.regions.length ?? 0;
  const areas =
    count < 2
      ? t("one region above the threshold")
      : count < 16
        ? t("{0} regions above the threshold", count)
        : t("16 regions or more above the threshold");
  say($("reason"), part?.reason || (count ? areas : ""));
  const scores = part && part.score !== null ? scoresOf(part) : "";
  say($("score"), part ? [scores, `${ms(part.latency_ms)} ms`].filter(Boolean).join(" · ") : "");
}

/** @param {string} word */
function showWord(word) {
  say($("word"), word);
  $("word").style.setProperty("--letters", String(word.length));
}

/** What a state without inspection is called, and what it means where no problem says it. */
const STOPPED = /** @type {Record<string, [word: string, meaning: string]>} */ ({
  Preoperational: [t("STARTING"), t("No part is inspected yet.")],
  Halted: [t("HALTED"), t("Every part is a fault until somebody resumes the line.")],
  Error: [t("ERROR"), t("Parts cannot be inspected.")],
});

/**
 * @param {Part | undefined} part
 * @param {Status} status
 */
function showStopped(part, { state, problems }) {
  const [word, meaning] = STOPPED[state] ?? [state.toUpperCase(), ""];
  dress($("verdict"), `verdict stopped ${state}`);
  showWord(word);
  say($("part"), meaning);
  $("ratio").hidden = true;
  const named = Object.entries(problems);
  const [component, problem] =
    named.find(([name, { severity }]) => (state === "Halted" ? name === "halted" : severity === "error")) ?? [];
  say($("reason"), problem ? `${t(component ?? "")}: ${problem.text}` : "");
  say($("score"), "");
  say($("before"), part ? t("Last part: {0}, {1}", t(part.verdict).toUpperCase(), title(part)) : "");
}

/** @type {(part: Part) => string} */
const scoresOf = ({ score, threshold }) => t("score {0} · threshold {1}", number(score), number(threshold));

/** What the picture shows: its part, and whether without the anomaly map. */
let shown = "";
/** @type {number | null} The part of the picture. */
export let pictured = null;

/**
 * Shows the latest picture. It is loaded before it replaces the old one, so nothing flickers.
 * @param {number | null} part
 */
export async function showPicture(part) {
  const plain = !$("overlay").checked;
  const wanted = `${part} ${plain}`;
  if (part === null || wanted === shown || document.hidden) return;
  const response = await ask(`/api/live.jpg${plain ? "?plain=1" : ""}`);
  if (!response.ok) return;
  const picture = new Image();
  picture.src = URL.createObjectURL(await response.blob());
  await new Promise((done) => {
    picture.onload = picture.onerror = done;
  });
  URL.revokeObjectURL(picture.src);
  // The answer names the part: it may be newer than the one asked for.
  const of = t("part {0}", whole(Number(response.headers.get("x-part"))));
  picture.alt = plain ? t("Latest picture, {0}", of) : t("Latest picture, {0}, with its anomaly map", of);
  $("picture").replaceChildren(picture);
  say($("caption"), of);
  pictured = part;
  shown = wanted;
}

/** Which list of rejects is shown. */
let rejectShown = "";

/** @type {(part: Part, status: Status) => boolean} Whether the present package inspected a part. */
export const isPresent = (part, { engine }) =>
  part.package === engine.package && part.product === engine.product;

/**
 * Shows the last rejects of the present package.
 * @param {Status} status
 * @param {number} started Names this run: part numbers start again with the service.
 * @param {((part: Part) => void) | null} label Has a part labeled, where that is possible.
 */
export async function showRejects(status, started, label) {
  const wanted = `${started} ${status.reject_changes} ${status.engine.package}`;
  if (wanted === rejectShown) return;
  /** @type {Parts} */
  const { parts } = await read("/api/rejects");
  const known = new Map([...$("rejects").querySelectorAll("li")].map((item) => [item.dataset.key, item]));
  const items = parts
    .reverse()
    .filter((part) => isPresent(part, status))
    .map((part) => {
      const key = `${part.run ?? started} ${part.part}`;
      return known.get(key) ?? reject(part, key, `/api/rejects/${keyOf(part)}.jpg?${started}`, label);
    });
  $("rejects").replaceChildren(...items);
  $("none").hidden = items.length > 0;
  rejectShown = wanted;
}

/** @type {(part: Part) => string} How the service names a reject. */
export const keyOf = ({ run, part }) => (run === null ? `${part}` : `${run}-${part}`);

/**
 * @param {Part} part
 * @param {string} key
 * @param {string} source
 * @param {((part: Part) => void) | null} label
 */
function reject(part, key, source, label) {
  const [item, button, picture] = [make("li"), make("button"), make("img")];
  item.dataset.key = key;
  button.type = "button";
  button.setAttribute("aria-label", t("Enlarge {0}", title(part)));
  picture.src = source;
  picture.alt = "";
  picture.addEventListener("error", () => picture.replaceWith(make("em", t("its picture is not kept any more"))));
  button.append(picture, make("b", `${number(ratio(part))}×`), make("span", title(part)));
  button.addEventListener("click", () => enlarge(part, source));
  item.append(button);
  if (label) {
    const own = make("button", t("Label"), "label");
    own.type = "button";
    own.setAttribute("aria-label", t("Copy {0} to the label folder", title(part)));
    own.addEventListener("click", () => label(part));
    item.append(own);
  }
  return item;
}

/** @param {Part} part @param {string} source */
function enlarge(part, source) {
  $("largepicture").src = source;
  $("largepicture").alt = t("Rejected part {0} with its anomaly map", whole(part.part));
  const regions = part.regions.slice(0, REGIONS);
  const sizes = regions.map((r) => t("{0} × {1} px at x {2}, y {3}", r.width, r.height, r.x, r.y));
  const scores = `${title(part)} · ${scoresOf(part)}`;
  say($("largetext"), [scores, ...sizes].join("\n"));
  $("large").showModal();
}

/** The service was started again: forget the pictures of the old run. */
export function forgetPictures() {
  [shown, pictured, rejectShown] = ["", null, ""];
  $("picture").replaceChildren(make("p", t("no picture yet")));
  say($("caption"), "");
}

/**
 * Fades a picture of another part than the last one.
 * @param {Part | undefined} last
 */
export function fadePicture(last) {
  $("old").hidden = !(last?.verdict === "fault" && pictured !== null && pictured !== last.part);
  $("picture").classList.toggle("faded", !$("old").hidden);
}

/** @type {(since: number | null) => string} */
export const lostText = (since) =>
  since === null
    ? t("No connection to the service.")
    : t("No connection to the service since {0}. This page shows the state of that time.", clock(since));
