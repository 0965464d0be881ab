// @ts-check
// Teaching: collect, enroll, try, judge, activate.

import { make, say } from "./elements.js";
import { showSession, whyNot } from "./session.js";
import { $, age, called, change, dialog, input, line, refill, setLine, tell } from "./teach-api.js";
import { drawAreas, showAreas } from "./teach-areas.js";
import { chosenThreshold, drawHistogram, showResult, showScores, showShadow, tile } from "./teach-result.js";
import { fixed, number, t } from "./texts.js";

/** @import { Answer, Product, Recent, Teaching } from "./teach-api.js" */
/** @import { Parts, Status } from "./service.js" */
/** @import { You } from "./session.js" */

/** Time between two polls, seen and hidden, in milliseconds. */
const [POLL, HIDDEN] = [700, 10000];
/** Good parts that a product should have. */
const WANTED = 20;

let timer = 0;
/** @type {string | null} The product whose settings stand in the form. */
let formOf = null;
let best = { sharpness: 0, clipped: 1 };
/** @type {Teaching | null} */
let state = null;
/** @type {number | null} */
let pictured = null;

/** @type {<T>(path: string) => Promise<T>} */
async function get(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(path);
  return response.json();
}

async function poll() {
  clearTimeout(timer);
  const asked = age();
  try {
    const [teaching, status] = await Promise.all([
      /** @type {Promise<Teaching>} */ (get("/api/teach")),
      /** @type {Promise<Status>} */ (get("/api/status")),
    ]);
    setLine(status);
    // An answer of before a change would undo what the page shows of it.
    if (asked === age()) show(teaching);
    showSession(status.you, () => void poll());
    allow(status.you);
    await Promise.all([showLive(status.picture), showThreshold()]);
    $("lost").hidden = true;
  } catch {
    $("lost").hidden = false;
  }
  timer = window.setTimeout(poll, document.hidden ? HIDDEN : POLL);
}

/** @param {Teaching | null} news */
function show(news) {
  if (!news) return;
  state = news;
  const { product, job, collecting } = news;
  if (line) {
    say($("state"), line.engine.product ? `${t(line.state)}: ${line.engine.product}` : t(line.state));
    $("state").className = `badge ${line.state}`;
  }
  refill($("obstacles"), news.obstacles, String, (text) => make("li", text, "notice warning"));
  refill($("products"), news.products, String, (name) => {
    const option = make("option");
    option.value = name;
    return option;
  });
  say($("chosen"), product ? t("Chosen: {0}", product.name) : t("Choose a product, or create one, to begin."));
  const enrolling = job?.running ?? false;
  for (const id of ["take", "timed", "off", "only", "rectangle", "polygon", "undo"]) input(id).disabled = !product;
  input("enroll").disabled = !product || enrolling;
  input("stop").disabled = !enrolling;
  $("progress").hidden = !enrolling;
  if (job) {
    $("progressbar").style.width = `${100 * job.share}%`;
    const left = job.left_s === null ? "" : t(", about {0} s left", Math.max(1, Math.round(job.left_s)));
    say($("progresstext"), `${t(job.step)} ${job.of ? t("{0} of {1}", job.done, job.of) : ""}${left}`);
  }
  $("failed").hidden = enrolling || !job?.error || job.error === "stopped";
  say($("failed"), job?.error ?? "");
  const going =
    collecting.mode === "timed"
      ? t("collecting, one every {0} s", collecting.seconds ?? "")
      : collecting.mode === "next"
        ? t("waiting for the next part")
        : "";
  say($("collecting"), news.refused ?? going);
  showAid(news);
  showRecent(news.recent);
  $("hold").setAttribute("aria-pressed", String(news.held));
  say($("hold"), news.held ? t("Let new parts come") : t("Hold these parts"));
  $("back").hidden = !news.has_previous;
  if (product) showProduct(product, news);
}

/**
 * Says at each control why whoever looks may not use it.
 * @param {You} you
 */
function allow(you) {
  for (const button of document.querySelectorAll("main button")) {
    if (button.matches(".show, #reset, #hold, #only, #rectangle, #polygon")) continue;
    const why = whyNot(you, button.closest("#recent") ? "operate" : "engineer");
    if (why) /** @type {HTMLButtonElement} */ (button).disabled = true;
    else if (button.matches("#new button, .drop, .pair button, #shadow, #back")) {
      /** @type {HTMLButtonElement} */ (button).disabled = false;
    }
    if (button.getAttribute("title") !== why) button.setAttribute("title", why);
  }
}

/** @param {Product} product @param {Teaching} news */
function showProduct(product, news) {
  if (formOf !== product.name) {
    formOf = product.name;
    input("name").value = product.name;
    /** @type {HTMLSelectElement} */ ($("quality")).value = product.quality;
    input("percent").value = String(product.false_reject_percent);
  }
  const count = product.good.length;
  say($("count"), count < WANTED ? t("{0} of {1}", count, WANTED) : `${count}`);
  $("take").classList.toggle("main", count < WANTED);
  showAreas(product.ignore);
  showPictures("good", product.good);
  showPictures("bad", product.bad);
  say($("badcount"), product.bad.length ? `${product.bad.length}` : t("none yet"));
  showResult(product);
  showShadow(news.shadow, product);
  input("activate").disabled = product.is_active || !product.candidate || (news.job?.running ?? false);
  say($("activate"), product.is_active ? t("Activate") : activating(news.target));
  refill($("events"), [...product.history].reverse(), String, (note) => make("li", note));
}

/**
 * What activating does, beside the new verdicts.
 * @param {Teaching["target"]} target
 */
function activating(target) {
  if (target?.is_new) return t("Activate as new recipe {0}", target.recipe);
  if (target?.replaces) return t("Activate and replace {0}", target.replaces);
  return target?.recipe ? t("Activate as recipe {0}", target.recipe) : t("Activate");
}

/** @param {Answer} answer @param {string[]} names */
function showPictures(answer, names) {
  refill($(answer), [...names].reverse(), String, (name) => {
    const item = tile(`/api/teach/${answer}/${name}`, called(name));
    const drop = make("button", t("Remove"), "drop");
    drop.type = "button";
    drop.setAttribute("aria-label", t("Remove {0}", called(name)));
    drop.addEventListener("click", async () => show(await change("remove", { answer, picture: name })));
    item.append(drop);
    return item;
  });
}

/** @param {Recent[]} recent */
function showRecent(recent) {
  const key = (/** @type {Recent} */ r) => `${r.id} ${r.answer}`;
  refill($("recent"), recent.slice(0, 24), key, (r) => {
    const ratio = r.score === null || !r.threshold ? "" : ` · ${number(r.score / r.threshold)}×`;
    const item = tile(`/api/teach/recent/${r.id}`, t("part {0} · {1}", r.part, t(r.verdict)) + ratio, r.verdict);
    const pair = make("div", undefined, "pair");
    for (const answer of /** @type {const} */ (["good", "bad"])) {
      const button = make("button", answer === "good" ? t("Good") : t("Bad"));
      button.type = "button";
      button.setAttribute("aria-pressed", String(r.answer === answer));
      button.setAttribute("aria-label", answer === "good" ? t("Part {0} was good", r.part) : t("Part {0} was bad", r.part));
      button.addEventListener("click", async () => show(await change("answer", { id: r.id, answer })));
      pair.append(button);
    }
    item.append(pair);
    return item;
  });
}

/** @type {(share: number) => string} */
const percent = (share) => `${fixed(100 * share, 1)} %`;

/** @param {Teaching} news */
function showAid({ aid }) {
  if (!aid.size[0]) return;
  best = { sharpness: Math.max(best.sharpness, aid.sharpness), clipped: Math.min(best.clipped, aid.clipped) };
  const scale = Math.max(8, 1.15 * best.sharpness);
  say($("sharpness"), t("{0} (best {1})", fixed(aid.sharpness, 1), fixed(best.sharpness, 1)));
  $("sharpnessbar").style.width = `${(100 * aid.sharpness) / scale}%`;
  $("sharpnessbest").style.left = `${(100 * best.sharpness) / scale}%`;
  say($("brightness"), fixed(aid.brightness, 0));
  $("brightnessbar").style.width = `${(100 * aid.brightness) / 255}%`;
  say($("clipped"), t("{0} (best {1})", percent(aid.clipped), percent(best.clipped)));
  $("clippedbar").style.width = `${100 * aid.clipped}%`;
  $("clippedbest").style.left = `${100 * best.clipped}%`;
}

/** @param {number | null} part */
async function showLive(part) {
  if (part === null || part === pictured || document.hidden) return;
  const response = await fetch("/api/live.jpg?plain=1", { signal: AbortSignal.timeout(5000) });
  if (!response.ok) return;
  pictured = part;
  const image = /** @type {HTMLImageElement} */ ($("live"));
  const before = image.src;
  image.src = URL.createObjectURL(await response.blob());
  URL.revokeObjectURL(before);
  image.hidden = false;
  $("blind").hidden = true;
  drawAreas();
}

let asked = "";

/** The scores of the active package, and what its threshold would do. */
async function showThreshold() {
  if (!line?.engine.package) {
    say($("expected"), t("There is no active package yet."));
    input("use").disabled = true;
    return;
  }
  const value = chosenThreshold();
  const key = `${line.engine.package} ${value.toFixed(4)} ${line.parts}`;
  if (key === asked) return;
  asked = key;
  /** @type {{ good: number[], bad: number[], per_1000: [number, number, number], caught: number }} */
  const at = await get(`/api/teach/threshold?value=${value}`);
  /** @type {Parts} */
  const latest = await get("/api/parts");
  const live = latest.parts.filter((p) => p.score !== null);
  const of = (/** @type {string} */ verdict) => live.filter((p) => p.verdict === verdict).map((p) => Number(p.score));
  const threshold = line.engine.threshold ?? 1;
  showScores({ good: [...at.good, ...of("pass")], bad: [...at.bad, ...of("reject")], threshold });
  const above = live.filter((p) => Number(p.score) > value).length;
  const [expected, low, high] = at.per_1000.map((v) => fixed(v, v < 10 ? 1 : 0));
  const promised = at.good.length
    ? t(
        "By {0} good pictures: {1} false rejects per 1,000 parts (95 % between {2} and {3}).",
        at.good.length,
        expected,
        low,
        high,
      )
    : t("This package was enrolled elsewhere, so its good scores are not known here.");
  const caught = at.bad.length ? t("{0} of {1} known defects are rejected.", at.caught, at.bad.length) : "";
  const multiple = t("Threshold {0} ({1}× the present one).", number(value), number(value / threshold));
  say($("expected"), [multiple, promised, caught, t("Of the latest {0} parts it would reject {1}.", live.length, above)].join(" "));
  input("use").disabled = Math.abs(value / threshold - 1) < 0.002;
}

$("new").addEventListener("submit", async (event) => {
  event.preventDefault();
  formOf = null;
  show(await change("product", { name: input("name").value }));
});
/** @type {(id: string, action: () => Promise<Teaching | null>) => void} */
const on = (id, action) => $(id).addEventListener("click", async () => show(await action()));
on("take", () => change("collect", { mode: "next", count: 1 }));
on("timed", () => change("collect", { mode: "timed", seconds: Number(input("seconds").value) }));
on("off", () => change("collect", { mode: "off" }));
on("hold", () => change("hold", { on: !state?.held }));
on("stop", () => change("stop"));
on("back", () => change("back", undefined, t("The package before is active again.")));
on("shadow", () => change("shadow", { on: !state?.shadow.running }));
on("enroll", async () => {
  const quality = /** @type {HTMLSelectElement} */ ($("quality")).value;
  const settings = { quality, false_reject_percent: Number(input("percent").value) };
  return (await change("settings", settings)) && change("enroll");
});
on("use", () =>
  change("threshold", { value: chosenThreshold() }, t("A package with this threshold is ready: see the result, then activate.")),
);

/** @param {string} [reason] */
async function activate(reason) {
  const candidate = state?.product?.candidate;
  if (!candidate) return;
  const news = await change("activate", { package: candidate.package, reason }, t("The package is being loaded."));
  show(news);
}
$("activate").addEventListener("click", () => {
  const lost = state?.product?.changes?.newly_missed ?? [];
  if (!lost.length) return void activate();
  const what = lost.map(called).join("; ");
  say($("whytext"), t("This package misses {0} known defects that the active one rejects: {1}.", lost.length, what));
  input("reason").value = "";
  dialog("why").showModal();
});
$("why")
  .querySelector("form")
  ?.addEventListener("submit", () => void activate(input("reason").value));
$("slider").addEventListener("input", () => {
  input("slider").dataset.moved = "1";
  drawHistogram();
  void showThreshold();
});
$("reset").addEventListener("click", () => (best = { sharpness: 0, clipped: 1 }));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) void poll();
});
window.addEventListener("unhandledrejection", () => tell(t("The page has met an error; load it again."), true));
void poll();
