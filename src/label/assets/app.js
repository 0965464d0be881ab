// @ts-check
// The labeler's page: follows the server's state, and connects elements to what they do.

import { showConflict, decide } from "./conflict.js";
import { desk, fetchAll, library, nextOpen, saver, settings, stage, watch } from "./desk.js";
import {
  accept,
  add,
  change,
  click,
  promptChanged,
  redo,
  remove,
  line,
  stroke,
  tag,
  typeChanged,
  undo,
} from "./edit.js";
import { say } from "./elements.js";
import { exportTo, hooks, importFile, showFiles } from "./files.js";
import { down, showKeys, up } from "./keys.js";
import { entryAt, hideSide, showFiltered, showList, showProgress, showRow, showSide } from "./list.js";
import { notify } from "./notices.js";
import { $, toolButtons } from "./page.js";
import { showButtons, showEmpty, showHint, showPicture, showSaved, showTypes } from "./panel.js";
import { docOf } from "./picture.js";
import { asProblem, ask } from "./server.js";
import { t } from "./texts.js";
import { choose, largest, setBrush, setLight, setNegative, setOpacity, shown } from "./tools.js";
import { showTraining, startTraining, stopTraining } from "./train.js";
import { open, skip, step } from "./turn.js";

/** @import { Elements } from "./page.js" */
/** @import { Picture } from "./picture.js" */
/** @import { State } from "./server.js" */
/** @import { Tool } from "./stage.js" */

/** Time between two requests for the state, in milliseconds. */
const POLL = 4000;
/** The name of the current picture, across a reload. */
const AT = "weakrest label at";

// --- the server's state ---

let timer = 0;

async function poll() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      /** @type {State} */
      const fresh = await (await ask("/api/state", { timeout: 15000 })).json();
      if (desk.state && fresh.session !== desk.state.session) return beginAgain();
      const again = desk.lost;
      desk.lost = false;
      merge(fresh);
      if (again) saver.retry();
    } catch (error) {
      desk.lost = true;
      if (!desk.state) showEmpty(`${asProblem(error).message} ${t("This page retries by itself.")}`);
    }
    showSaved();
  }
  clearTimeout(timer);
  timer = window.setTimeout(poll, desk.state ? POLL : 1000);
}

/** The labeler was restarted and has new picture numbers. Unsaved labels are restored by name. */
function beginAgain() {
  desk.reloading = saver.isKept;
  if (desk.current) sessionStorage.setItem(AT, desk.current.name);
  location.reload();
}

/** @param {State} fresh */
function merge(fresh) {
  const first = desk.state === null;
  const before = new Map(desk.order.map((entry) => [entry.id, entry]));
  const wasPreparing = !desk.state || desk.state.preparing > 0;
  desk.state = fresh;
  order(fresh, wasPreparing);
  for (const entry of desk.order) {
    const picture = library.known(entry.id);
    if (!picture) continue;
    picture.entry = entry;
    const scored = entry.score !== null && before.get(entry.id)?.score === null;
    const elsewhere =
      picture.loaded && picture.clean && !saver.isUnsaved(picture) && entry.revision !== picture.revision;
    if (scored || elsewhere) library.refresh(picture);
    if (picture.isGone && !entry.missing && saver.isUnsaved(picture)) saver.retry();
  }
  if (first) begin(fresh);
  $("shownearest").disabled = !fresh.nearest;
  const toggle = $("shownearest").parentElement;
  if (toggle) {
    toggle.title = fresh.nearest ? "" : t("Needs weakrest label --good DIR: the folder of enrolled pictures.");
  }
  showList();
  showTypes();
  if (desk.current) {
    // Retry what could not be fetched.
    fetchAll(desk.current);
    showPicture();
  } else if (!desk.order.length) {
    showEmpty(t("No pictures in {0} yet. New pictures appear here.", fresh.folder));
  } else {
    const name = sessionStorage.getItem(AT);
    sessionStorage.removeItem(AT);
    open(desk.order.find((entry) => entry.name === name) ?? nextOpen(-1) ?? desk.order[0]);
  }
}

/**
 * Sorts the list. Visited pictures keep their order, before all others: going back retraces the way.
 * @param {State} fresh
 * @param {boolean} wasPreparing
 */
function order(fresh, wasPreparing) {
  const before = new Set(desk.order.map((entry) => entry.id));
  const now = new Map(fresh.pictures.map((entry) => [entry.id, entry]));
  const kept = desk.order.flatMap((entry) => now.get(entry.id) ?? []);
  if (wasPreparing || fresh.pictures.some((entry) => !before.has(entry.id))) {
    const seen = (/** @type {{ id: number }} */ { id }) => desk.visited.has(id);
    desk.order = [...kept.filter(seen), ...fresh.pictures.filter((entry) => !seen(entry))];
  } else desk.order = kept;
}

/**
 * Once, with the first state.
 * @param {State} state
 */
function begin(state) {
  saver.open(state.labels);
  document.title = t("label {0} – weakrest", state.product);
  say($("product"), state.product);
  $("promptfield").hidden = !state.adclick;
  $("noclicks").hidden = Boolean(state.adclick);
  for (const button of toolButtons()) if (button.dataset.tool === "click") button.hidden = !state.adclick;
  for (const [name, label] of saver.leftOver()) {
    const entry = desk.order.find((e) => e.name === name);
    if (!entry) continue;
    const picture = library.picture(entry);
    picture.set(docOf(label));
    [picture.revision, picture.seconds] = [label.revision, label.seconds ?? 0];
    saver.change(picture);
    desk.acted.push(picture);
  }
  stage.show.map = $("showmap").checked = settings.map;
  stage.opacity = settings.opacity;
  $("opacity").value = String(Math.round(settings.opacity * 100));
  stage.brush = settings.brush;
  choose(state.adclick || settings.tool !== "click" ? settings.tool : "rotated");
}

library.arrived = (picture) => {
  // The server may have what is drawn already: then nothing is left to save.
  if (saver.isUnsaved(picture) && picture.clean) saver.change(picture);
  if (picture.isReplaced) {
    picture.isReplaced = false;
    replaced(picture);
  }
  if (picture.lost) {
    notify(t("A mask of {0} cannot be read: {1}. The next save replaces it.", picture.name, picture.lost), "error");
    picture.lost = null;
  }
  if (picture.isOther) return void poll();
  if (picture === desk.current) showPicture();
  showRow(picture.entry);
};

/**
 * The file of an open picture was replaced.
 * @param {Picture} picture
 */
function replaced(picture) {
  library.forget(picture);
  library.refresh(picture);
  fetchAll(picture);
  const next = saver.isUnsaved(picture) ? t("Then press Ctrl+S, or change the label, to save it.") : "";
  notify(`${t("{0} has changed on disk. Check that the label still fits.", picture.name)} ${next}`, "error");
}

saver.hooks = {
  status: () => {
    showSaved();
    if (desk.current) showRow(desk.current.entry);
  },
  saved: (picture) => {
    showRow(picture.entry);
    showProgress();
  },
  conflict: showConflict,
  changed: (picture) => {
    picture.revision = null;
    replaced(picture);
    // The labeler may have been restarted.
    poll();
  },
};

stage.hooks = {
  click,
  line,
  stroke,
  add,
  change,
  selection: () => {
    showButtons();
    showTypes();
  },
  hint: showHint,
  view: () => say($("fit"), `${Math.round(stage.scene.id === null ? 100 : stage.view.scale * 100)} %`),
};

// --- the page's elements ---

document.addEventListener("keydown", down);
document.addEventListener("keyup", up);
for (const type of ["pointermove", "pointerdown", "wheel"]) {
  document.addEventListener(type, () => watch.stir(), { passive: true, capture: true });
}
// A mouse click on a button does not take the keyboard from the canvas.
document.addEventListener("mousedown", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (!target.closest("button, label:has([type=checkbox], [type=radio])")) return;
  event.preventDefault();
  // Text in a field belongs to this picture, not to the next one.
  if (document.activeElement?.matches("#type, #prompt")) $("canvas").focus({ preventScroll: true });
});
for (const range of document.querySelectorAll("[type=range]")) {
  range.addEventListener("pointerup", () => $("canvas").focus());
}
for (const button of toolButtons()) {
  button.addEventListener("click", () => choose(/** @type {Tool} */ (button.dataset.tool)));
}
$("list").addEventListener("click", (event) => {
  const entry = entryAt(event.target);
  if (entry) open(entry);
});

/** @type {(id: keyof Elements, type: string, run: () => unknown) => void} */
const on = (id, type, run) => $(id).addEventListener(type, () => run());
on("good", "click", () => tag("good"));
on("defective", "click", () => tag("defective"));
on("accept", "click", accept);
on("undo", "click", undo);
on("redo", "click", redo);
on("clear", "click", remove);
on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
on("jump", "click", skip);
on("in", "click", () => stage.view.zoom(1.4));
on("out", "click", () => stage.view.zoom(1 / 1.4));
on("fit", "click", () => stage.view.fit());
on("listopen", "click", showSide);
on("helpopen", "click", () => $("help").showModal());
on("filesopen", "click", showFiles);
on("trainopen", "click", showTraining);
on("trainstart", "click", startTraining);
on("trainstop", "click", stopTraining);
on("import", "click", importFile);
on("mine", "click", () => decide(false));
on("theirs", "click", () => decide(true));
on("save", "click", () => (saver.conflicts.length ? showConflict() : saver.retry()));
on("showmask", "change", () => shown("mask"));
on("showmap", "change", () => shown("map"));
on("shownearest", "change", () => shown("nearest"));
on("brush", "input", () => setBrush(Math.exp((Number($("brush").value) / 100) * Math.log(largest()))));
on("opacity", "input", () => setOpacity(Number($("opacity").value) / 100));
on("brightness", "input", setLight);
on("contrast", "input", setLight);
on("search", "input", showFiltered);
on("which", "change", showFiltered);
on("type", "change", typeChanged);
on("prompt", "change", promptChanged);
for (const id of /** @type {const} */ (["type", "prompt"])) {
  on(id, "focus", () => ($(id).defaultValue = $(id).value));
  on(id, "blur", showTypes);
}
for (const radio of document.querySelectorAll("[name=polarity]")) {
  radio.addEventListener("change", () => setNegative(/** @type {any} */ (radio).value === "negative"));
}
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => exportTo(/** @type {HTMLElement} */ (button).dataset.format ?? ""));
}
hooks.imported = poll;
document.addEventListener("pointerdown", (event) => {
  document.body.classList.remove("keys");
  const target = /** @type {Element} */ (event.target);
  if (!target.closest("#side, #listopen")) hideSide();
  if (target === $("help")) $("help").close();
});
document.addEventListener("visibilitychange", () => {
  watch.skip();
  if (!document.hidden) poll();
});
addEventListener("beforeunload", (event) => {
  if (desk.reloading) return;
  if (saver.unsaved || desk.current?.doc.open) event.preventDefault();
});
addEventListener("online", () => saver.retry());
showKeys();
poll();
