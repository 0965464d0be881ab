// @ts-check
// Keys: what they do, and the help about them.

import { saver, stage, usable, watch } from "./desk.js";
import { accept, redo, remove, tag, undo } from "./edit.js";
import { make } from "./elements.js";
import { showFiles } from "./files.js";
import { showSide } from "./list.js";
import { $ } from "./page.js";
import { t } from "./texts.js";
import { choose, escape, grow, setNegative, setOpacity, toggle } from "./tools.js";
import { showTraining } from "./train.js";
import { skip, step } from "./turn.js";

/** A key held at least this long acts only while it is down, in milliseconds. */
const HELD_FROM = 350;

/** @typedef {[key: string, help: string, run?: () => unknown, also?: string]} Key */

/** @type {Record<string, Key[]>} */
const KEYS = {
  [t("Label")]: [
    ["G", t("Good, then next picture"), () => tag("good")],
    ["D", t("Defective, then next picture"), () => tag("defective")],
    ["S", t("Accept the suggestion"), accept],
    ["Enter", t("Skip to the next unlabeled picture"), () => stage.finish() || skip()],
    ["N", t("Next picture"), () => step(1), "PageDown"],
    ["P", t("Previous picture"), () => step(-1), "PageUp"],
  ],
  [t("Draw")]: [
    ["C", t("Click"), () => choose("click"), "1"],
    ["R", t("Rotated box"), () => choose("rotated"), "2"],
    ["U", t("Upright box"), () => choose("box"), "3"],
    ["Y", t("Polygon"), () => choose("polygon"), "4"],
    ["K", t("Line"), () => choose("line"), "5"],
    ["B", t("Brush"), () => choose("brush"), "6"],
    ["E", t("Eraser"), () => choose("eraser"), "7"],
    ["X", t("Click marks defect or background"), () => stage.tool === "click" && setNegative(!stage.negative)],
    ["[", t("Smaller brush"), () => grow(-1)],
    ["]", t("Larger brush"), () => grow(1)],
  ],
  [t("Edit")]: [
    ["Ctrl+Z", t("Undo"), undo],
    ["Ctrl+Shift+Z", t("Redo"), redo, "Ctrl+Y"],
    ["V", t("Select the next shape"), () => stage.cycle()],
    ["Delete", t("Remove the selected shape, or all"), remove, "Backspace"],
    ["Escape", t("Cancel the shape"), escape],
    ["T", t("Defect type"), () => $("type").select()],
    ["I", t("Prompt"), () => $("prompt").select()],
    ["Ctrl+S", t("Save now"), () => saver.retry()],
    ["F", t("Import and export"), showFiles],
    ["H", t("Train a head"), showTraining],
  ],
  [t("Draw without a mouse")]: [
    ["Arrows", t("Move the pointer (Shift: fast, Ctrl: slow)")],
    ["Space", t("Click, or start and end a shape")],
    ["Shift+Space", t("The same as the right button")],
  ],
  [t("View")]: [
    ["M", t("Marks"), () => toggle("mask")],
    ["A", t("Anomaly map"), () => toggle("map")],
    ["W", t("Good reference"), () => toggle("nearest")],
    [",", t("Less opaque"), () => setOpacity(stage.opacity - 0.1)],
    [".", t("More opaque"), () => setOpacity(stage.opacity + 0.1)],
    ["+", t("Zoom in"), () => stage.view.zoom(1.4), "="],
    ["-", t("Zoom out"), () => stage.view.zoom(1 / 1.4)],
    ["0", t("Fit to window"), () => stage.view.fit()],
    ["L", t("List of pictures"), showSide],
    ["?", t("This help"), () => $("help").showModal()],
  ],
};

/** @type {Map<string, () => unknown>} */
const RUN = new Map();
for (const [key, , run, also] of Object.values(KEYS).flat()) {
  if (run) RUN.set(key, run);
  if (run && also) RUN.set(also, run);
}
const PEEK = ["M", "A", "W"];
/** Keys that repeat while they are down. */
const REPEATED = [..."[],.+=-NPV", "PageDown", "PageUp", "Ctrl+Z", "Ctrl+Shift+Z"];
/** @type {Map<string, [x: number, y: number]>} */
const ARROWS = new Map([
  ["ArrowLeft", [-1, 0]],
  ["ArrowRight", [1, 0]],
  ["ArrowUp", [0, -1]],
  ["ArrowDown", [0, 1]],
]);
/** @type {{ key: string, since: number } | null} */
let held = null;

/** @param {KeyboardEvent} event */
function named(event) {
  // Some keyboards need AltGr for brackets. Browsers report AltGr as Ctrl and Alt.
  const graph = event.getModifierState("AltGraph");
  if (event.altKey && !graph) return null;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const letter = /^[A-Z]$/.test(key) || event.key.length > 1;
  const control = (event.ctrlKey || event.metaKey) && !graph;
  return `${control ? "Ctrl+" : ""}${event.shiftKey && letter ? "Shift+" : ""}${key}`;
}

/**
 * Handles keys in dialogs and text fields; returns whether it did.
 * @param {KeyboardEvent} event
 * @param {Element} target
 */
function inText(event, target) {
  if (document.querySelector("dialog[open]")) {
    if (event.key === "?" && $("help").open) $("help").close();
    return true;
  }
  const text = "input:not([type=range], [type=checkbox], [type=radio])";
  if (!(target instanceof HTMLInputElement && target.matches(text))) return false;
  if (event.key === "Enter" || event.key === "Escape") {
    if (event.key === "Escape") target.value = target.defaultValue;
    event.preventDefault();
    $("canvas").focus();
  }
  return true;
}

/**
 * Handles keys of the list, buttons and other inputs; returns whether it did.
 * @param {KeyboardEvent} event
 * @param {Element} target
 * @param {string} key
 */
function inControl(event, target, key) {
  const item = target.closest("#list li");
  if (item && (key === "ArrowDown" || key === "ArrowUp")) {
    const next = key === "ArrowDown" ? item.nextElementSibling : item.previousElementSibling;
    const button = next?.firstElementChild;
    if (button instanceof HTMLElement) button.focus();
    event.preventDefault();
    return true;
  }
  const pressed = key === "Enter" || key === " ";
  return target.matches("button, input") && (pressed || (ARROWS.has(key) && target.matches("input")));
}

/** @param {KeyboardEvent} event */
export function down(event) {
  watch.stir();
  const arrow = ARROWS.get(event.key);
  if (event.key === "Tab" || arrow) document.body.classList.add("keys");
  const target = event.target instanceof Element ? event.target : document.body;
  if (inText(event, target)) return;
  const key = named(event);
  if (key === null || event.isComposing || inControl(event, target, key)) return;
  if (event.key === " ") {
    event.preventDefault();
    if (!event.repeat) stage.hold(true);
    return;
  }
  if (arrow) {
    event.preventDefault();
    const by = event.shiftKey ? 40 : event.ctrlKey ? 1 : 8;
    stage.nudge(arrow[0] * by, arrow[1] * by);
    return;
  }
  const run = RUN.get(key);
  if (!run) return;
  event.preventDefault();
  if (event.repeat && !REPEATED.includes(key)) return;
  if (PEEK.includes(key)) held = { key, since: performance.now() };
  run();
}

/** @param {KeyboardEvent} event */
export function up(event) {
  if (event.key === " ") {
    const { target } = event;
    const free = target instanceof Element && target.matches("body, canvas");
    if (!stage.hold(false) && free && usable()) stage.press(event.shiftKey !== stage.negative);
  } else if (held && event.key.toUpperCase() === held.key) {
    if (performance.now() - held.since > HELD_FROM) RUN.get(held.key)?.();
    held = null;
  }
}

/** Fills the help. */
export function showKeys() {
  const sections = Object.entries(KEYS).map(([title, keys]) => {
    const section = make("section");
    section.append(make("h3", title));
    for (const [key, help] of keys) {
      const line = make("p", help);
      const names = make("span");
      key.split(/\+(?=.)/).forEach((name) => names.append(" ", make("kbd", t(name))));
      line.append(names);
      section.append(line);
    }
    return section;
  });
  $("keys").replaceChildren(...sections);
}
