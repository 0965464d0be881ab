// @ts-check
// The service's page: polls the state, and sends what the buttons ask for.

import { showChart } from "./chart.js";
import { make, say } from "./elements.js";
import { $, dress, duration, fill, moment, ms, title } from "./page.js";
import {
  fadePicture,
  forgetPictures,
  isPresent,
  keyOf,
  lostText,
  showPicture,
  showRejects,
  showVerdict,
} from "./parts.js";
import { SignedOut, ask, read } from "./service.js";
import { openForm, readYou, showSession, whyNot } from "./session.js";
import { number, t, whole } from "./texts.js";

/** @import { Part, Parts, Status } from "./service.js" */

/** The chart shows this many parts at most. */
const KEPT = 500;
/** Time between two polls, seen and hidden, in milliseconds. */
const [POLL, HIDDEN] = [700, 10000];
/** @type {("trigger" | "halt" | "resume" | "reload")[]} */
const BUTTONS = ["trigger", "halt", "resume", "reload"];

/** @type {Part[]} */
let parts = [];
/** The next part to ask for. */
let after = 0;
/** @type {number | null} When the service was started. */
let started = null;
/** The package whose scores are shown. */
let charted = "";
/** @type {number | null} */
let lastAnswer = null;
let busy = false;
/** Whether people sign in with accounts. */
let accounts = false;
/** Whether the form to sign in was opened by itself: once is enough. */
let offered = false;
let timer = 0;
/** @type {[action: string, success?: string, body?: object]} The change that waits for a token. */
let asked = [""];

async function poll() {
  if (busy) return schedule(50);
  busy = true;
  let wait = document.hidden ? HIDDEN : POLL;
  try {
    /** @type {[Status, Parts]} */
    const [status, news] = await Promise.all([read("/api/status"), read(`/api/parts?after=${after}`)]);
    if (status.started_ms !== started || news.started_ms !== started) {
      // The service was started again: part numbers begin at 1, so ask again from the start.
      if (started !== null) wait = 0;
      started = status.started_ms;
      [parts, after] = [[], 0];
      forgetPictures();
    }
    if (wait) {
      after = news.next;
      parts = parts.concat(news.parts).slice(-KEPT);
      showStatus(status);
      const present = parts.filter((part) => isPresent(part, status));
      const last = parts.at(-1)?.run === null ? parts.at(-1) : undefined;
      showVerdict(last, status);
      if (news.parts.length || !present.length || status.engine.package !== charted) showChart(present);
      charted = status.engine.package;
      const label = status.labels && status.you.changes !== "refused" ? labelPart : null;
      await Promise.all([showPicture(status.picture), showRejects(status, started, label)]);
      const unfit = whyNot(status.you, "engineer");
      for (const button of document.querySelectorAll("button.label")) {
        if (button instanceof HTMLButtonElement) [button.disabled, button.title] = [unfit !== "", unfit];
      }
      fadePicture(last);
      lastAnswer = Date.now();
      offered = false;
      connected(true);
    }
  } catch (e) {
    if (e instanceof SignedOut) await signedOut();
    else connected(false);
  }
  busy = false;
  schedule(wait);
}

/** @param {number} wait */
function schedule(wait) {
  clearTimeout(timer);
  timer = window.setTimeout(poll, wait);
}

/** @param {boolean} yes */
function connected(yes) {
  document.body.classList.toggle("stale", !yes);
  $("lost").hidden = yes;
  if (yes) return;
  say($("lost"), lostText(lastAnswer));
  document.title = `${t("no connection")} – weakrest`;
  for (const name of BUTTONS) $(name).disabled = true;
}

/** Whoever is not signed in sees nothing of the line. */
async function signedOut() {
  try {
    const you = await readYou();
    // What was shown before is not for whoever comes next.
    if (started !== null) return location.reload();
    showSession(you, () => schedule(0));
    document.body.classList.add("stale");
    for (const name of BUTTONS) $(name).disabled = true;
    say($("lost"), t("Sign in to see the line."));
    $("lost").hidden = false;
    if (!offered) openForm();
    offered = true;
  } catch {
    connected(false);
  }
}

/** @param {Status} s */
function showStatus(s) {
  const product = s.engine.product || "weakrest";
  say($("product"), product);
  document.title = `${t(s.state)} – ${product}`;
  say($("state"), t(s.state));
  dress($("state"), `badge ${s.state}`);
  showProblems(Object.entries(s.problems));
  $("teach").hidden = !s.teaches;

  showSession(s.you, () => schedule(0));
  accounts = s.you.changes === "account";
  const why = whyNot(s.you, "operate");
  const refused = why !== "";
  $("trigger").disabled = refused || s.state !== "Operational";
  $("halt").disabled = refused || s.state === "Halted";
  $("resume").disabled = refused || !(s.state === "Halted" || s.latched);
  $("reload").disabled = whyNot(s.you, "engineer") !== "" || reload.asked;
  showReload(s.reloads);
  void showRecipes(s);
  say($("may"), accounts ? why : "");
  for (const name of BUTTONS) if ($(name).title !== why) $(name).title = why;

  const { counted } = s;
  const counts = {
    parts: counted.parts,
    passes: counted.passes,
    rejected: counted.rejects,
    faults: counted.faults,
  };
  const since = counted.journal
    ? t("{0} with this package, since {1}", product, moment(counted.since_ms))
    : t("{0} with this package, since the start of the service, {1}", product, moment(counted.since_ms));
  say($("since"), since);
  for (const id of /** @type {const} */ (["parts", "passes", "rejected", "faults"])) {
    say($(id), whole(counts[id]));
    $(id).parentElement?.classList.toggle("zero", counts[id] === 0);
  }
  const times = s.stages.map(({ name, count, last_ms, mean_ms, worst_ms }) => {
    const [last, mean, worst] = [last_ms, mean_ms, worst_ms].map((v) => (count ? ms(v) : "–"));
    return [t(name), last, mean, worst];
  });
  fill($("stages"), times);
  const losses = lossesOf(s);
  fill($("beside"), losses.length ? losses : [[t("nothing lost, late or missed"), ""]]);
  const facts = [
    s.engine.package && t("package {0}", s.engine.package.slice(0, 12)),
    s.engine.provider,
    t("threshold {0}", number(s.engine.threshold)),
    t("running for {0}", duration(s.uptime_s)),
    `weakrest ${s.version}`,
  ];
  say($("footer"), facts.filter(Boolean).join(" · "));
}

/** The reload that was asked for, and how many there were before it. */
const reload = { asked: false, before: 0 };

/**
 * Says how the reload ended that was asked for. A change beyond the package starts this page's server again.
 * @param {Status["reloads"]} reloads
 */
function showReload({ count, refused }) {
  if (!reload.asked) {
    reload.before = count;
  } else if (count > reload.before) {
    reload.asked = false;
    answer(refused ?? t("The new configuration is in use."), refused !== null);
  }
}

/** The recipe for which the list was read. */
let listed = -1;

/** @param {Status} s */
async function showRecipes({ recipes, engine, you }) {
  $("recipes").hidden = !recipes;
  $("recipe").disabled = whyNot(you, "engineer") !== "" || reload.asked;
  if (!recipes || reload.asked || listed === engine.recipe) return;
  listed = engine.recipe;
  /** @type {{ recipes: { number: number, name: string }[] }} */
  const known = await read("/api/recipes");
  const all = [{ number: 0, name: t("configuration") }, ...known.recipes];
  const options = all.map((recipe) => {
    const option = make("option", `${recipe.number} ${recipe.name}`);
    option.value = String(recipe.number);
    return option;
  });
  $("recipe").replaceChildren(...options);
  $("recipe").value = String(engine.recipe);
}

/** @param {[component: string, problem: { severity: string, text: string }][]} problems */
function showProblems(problems) {
  const key = JSON.stringify(problems);
  if ($("problems").dataset.key === key) return;
  $("problems").dataset.key = key;
  $("problems").hidden = !problems.length;
  const items = problems.map(([component, problem]) => {
    const item = make("li", undefined, `notice ${problem.severity}`);
    item.append(make("b", `${t(component)} `), problem.text);
    return item;
  });
  $("problems").replaceChildren(...items);
}

/**
 * What was lost or late, with its count.
 * @param {Status} s
 */
function lossesOf(s) {
  /** @type {[name: string, count: number][]} */
  const all = [
    [t("frames dropped"), s.dropped_frames],
    [t("frames lost"), s.lost_frames],
    [t("camera lost"), s.camera_losses],
    [t("late inspections"), s.late_inspections],
    [t("missed pulses"), s.missed_pulses],
    [t("late pulses"), s.late_pulses],
    [t("packages swapped"), s.swaps],
  ];
  /** @type {(counts: Record<string, number>, name: (key: string) => string) => [string, number][]} */
  const each = (counts, name) => Object.entries(counts).map(([key, n]) => [name(key), n]);
  return [
    ...each(s.faults, (kind) => t("faults: {0}", t(kind))),
    ...all,
    ...each(s.outputs_dropped, (name) => t("{0}: parts dropped", name)),
    ...each(s.outputs_failed, (name) => t("{0}: parts failed", name)),
  ]
    .filter(([, n]) => n)
    .map(([name, n]) => [name, whole(n)]);
}

// --- changes ---

let fading = 0;

/** @param {string} text @param {boolean} bad */
function answer(text, bad) {
  say($("answer"), text);
  dress($("answer"), bad ? "notice error" : "notice");
  $("answer").hidden = !text;
  clearTimeout(fading);
  if (!bad) fading = window.setTimeout(() => ($("answer").hidden = true), 5000);
}

/** @param {Part} part */
const labelPart = (part) =>
  change(`rejects/${keyOf(part)}/label`, t("Copied {0} to the label folder.", title(part)));

/** @param {string} action @param {string} [success] @param {object} [body] */
async function change(action, success = "", body) {
  // Set before it is asked for: the end may come before the answer.
  if (action === "reload" || action === "recipe") [reload.asked, listed] = [true, -1];
  try {
    /** @type {Record<string, string>} */
    const headers = { "X-Weakrest": "1" };
    const token = sessionStorage.getItem("token");
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await ask(`/api/${action}`, { method: "POST", headers, body: body && JSON.stringify(body) });
    const told = await response.json();
    if (!response.ok) reload.asked = false;
    if (response.status === 401 && accounts) {
      openForm();
    } else if (response.status === 401) {
      const why = token ? t("Wrong token.") : t("This needs a token.");
      say($("why"), `${why} ${t("The token is in the file that web.token_file names.")}`);
      asked = [action, success, body];
      $("token").value = "";
      $("ask").showModal();
    } else {
      const done = action === "trigger" ? t("Triggered part {0}.", whole(told.part ?? 0)) : success;
      const problem = response.ok ? told.warning : told.error;
      answer(problem ?? done, problem !== undefined);
      schedule(0);
    }
  } catch {
    reload.asked = false;
    answer(t("The service does not answer."), true);
  }
}

$("trigger").addEventListener("click", () => change("trigger"));
$("resume").addEventListener("click", () => change("resume"));
$("reload").addEventListener("click", () => change("reload", t("Reading configuration and package …")));
$("recipe").addEventListener("change", () => {
  const [recipe] = $("recipe").selectedOptions;
  if (confirm(t("Inspect the next parts with recipe {0}?", recipe.textContent ?? ""))) {
    change("recipe", t("Loading the recipe …"), { recipe: Number(recipe.value) });
  } else {
    listed = -1;
  }
});
$("halt").addEventListener("click", () => {
  if (confirm(t("Halt the line? Every part is a fault until you resume."))) change("halt");
});
$("ask")
  .querySelector("form")
  ?.addEventListener("submit", () => {
    sessionStorage.setItem("token", $("token").value.trim());
    change(...asked);
  });
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
$("large").addEventListener("click", (event) => {
  if (event.target === $("large")) $("large").close();
});
$("overlay").addEventListener("change", () => schedule(0));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) schedule(0);
});
poll();
