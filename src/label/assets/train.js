// @ts-check
// Training a head from the labels: starts it, follows it, and shows how the head compares.

import { desk, saver } from "./desk.js";
import { make, say } from "./elements.js";
import { $ } from "./page.js";
import { asProblem, ask } from "./server.js";
import { fixed, t, whole } from "./texts.js";

/** @typedef {{ rejected: number, false_rejects: number, margin: number }} Results */

/**
 * The answer to `/api/train`.
 * @typedef {object} Training
 * @property {boolean} running
 * @property {string} step
 * @property {number} done
 * @property {number} of
 * @property {string | null} error
 * @property {{ better: boolean, defective: number, good: number, with_head: Results, without: Results } | null} result
 * @property {string | null} package The package with the head, if it is better.
 */

/** Time between two looks, in milliseconds. */
const POLL = 700;
let timer = 0;

export function showTraining() {
  $("training").showModal();
  void follow();
}

async function follow() {
  clearTimeout(timer);
  if (!$("training").open) return;
  try {
    show(await (await ask("/api/train")).json());
  } catch (error) {
    trouble(asProblem(error).message);
  }
  timer = window.setTimeout(follow, POLL);
}

/** @param {string} path @param {object} body */
async function change(path, body) {
  try {
    show(await (await ask(path, { method: "POST", body })).json());
  } catch (error) {
    trouble(asProblem(error).message);
  }
}

export async function startTraining() {
  if (saver.unsaved) return trouble(t("Wait until everything is saved."));
  trouble("");
  await change("/api/train", {});
}

export const stopTraining = () => change("/api/train/stop", {});

/** @param {string} text */
function trouble(text) {
  say($("trainingtrouble"), text);
}

/** @param {Training | null} training */
function show(training) {
  const running = training?.running ?? false;
  const possible = desk.state?.nearest ?? false;
  $("trainstart").disabled = running || !possible;
  $("trainstop").disabled = !running;
  // What was wrong before is not of this training.
  if (running) trouble("");
  if (!possible) trouble(t("Needs weakrest label --good DIR: the folder of enrolled pictures."));
  $("trainingprogress").hidden = !running;
  $("trainingbar").max = Math.max(training?.of ?? 1, 1);
  $("trainingbar").value = training?.done ?? 0;
  const counted = training?.of ? ` ${t("{0} of {1}", whole(training.done), whole(training.of))}` : "";
  say($("trainingstep"), training?.step ? t(training.step) + counted : t("Working…"));
  if (training?.error) trouble(training.error === "stopped" ? t("Stopped: nothing was written.") : training.error);
  const result = running ? null : (training?.result ?? null);
  $("trainingresult").hidden = !result;
  if (result) showResult(result, training?.package ?? "");
}

/** @param {NonNullable<Training["result"]>} result @param {string} written */
function showResult({ better, defective, good, with_head, without }, written) {
  const of = (/** @type {number} */ n, /** @type {number} */ all) => t("{0} of {1}", whole(n), whole(all));
  const times = (/** @type {number} */ margin) => `${fixed(margin, 2)}×`;
  const rows = [
    ["", t("with the head"), t("without")],
    [t("defects found"), of(with_head.rejected, defective), of(without.rejected, defective)],
    [t("false rejects"), of(with_head.false_rejects, good), of(without.false_rejects, good)],
    [t("defects, of the threshold"), times(with_head.margin), times(without.margin)],
  ];
  const lines = rows.map((cells, y) => {
    const line = make("tr");
    line.append(...cells.map((text, x) => make(x && y ? "td" : "th", text)));
    return line;
  });
  $("trainingnumbers").replaceChildren(...lines);
  const end = better
    ? t("The head is better. The package with it is {0}", written)
    : t("The head is not better, so nothing was written. Mark more of what is missed, with masks, boxes or polygons.");
  say($("trainingend"), end);
}
