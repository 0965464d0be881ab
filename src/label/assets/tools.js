// @ts-check
// Tools, brush size, and what is shown over the picture.

import { desk, fetchAll, remember, stage } from "./desk.js";
import { say } from "./elements.js";
import { hideSide } from "./list.js";
import { notify } from "./notices.js";
import { $, press, toolButtons } from "./page.js";
import { showHint } from "./panel.js";
import { whole } from "./texts.js";

/** @import { Tool } from "./stage.js" */
/** @typedef {"mask" | "map" | "nearest"} Layer */

/** @param {Tool} tool */
export function choose(tool) {
  if (tool === "click" && desk.state && !desk.state.adclick) return;
  if (tool !== stage.tool) stage.cancel();
  stage.tool = tool;
  remember({ tool });
  for (const button of toolButtons()) press(button, button.dataset.tool === tool);
  const brushing = tool === "brush" || tool === "eraser";
  $("brushfield").hidden = !brushing;
  $("polarity").hidden = tool !== "click";
  setBrush(stage.brush);
  setNegative(false);
  showHint();
  stage.redraw();
}

/** @param {boolean} negative */
export function setNegative(negative) {
  stage.negative = negative;
  const radio = document.querySelector(`[name=polarity][value=${negative ? "negative" : "positive"}]`);
  if (radio instanceof HTMLInputElement) radio.checked = true;
}

/** The largest brush for the current picture. */
export const largest = () => {
  const { current } = desk;
  return current ? Math.max(16, (current.width ?? 0) / 3, (current.height ?? 0) / 3) : 500;
};

/** @param {number} size */
export function setBrush(size) {
  stage.brush = Math.round(Math.min(Math.max(size, 1), largest()));
  remember({ brush: stage.brush });
  $("brush").value = String((100 * Math.log(stage.brush)) / Math.log(largest()));
  say($("brushsize"), `${whole(stage.brush)} px`);
  stage.redraw();
}

/** @param {number} by */
export const grow = (by) =>
  setBrush(
    by > 0 ? Math.max(stage.brush + 1, stage.brush * 1.2) : Math.min(stage.brush - 1, stage.brush / 1.2),
  );

/** @param {number} value */
export function setOpacity(value) {
  stage.opacity = Math.min(Math.max(value, 0.1), 1);
  remember({ opacity: stage.opacity });
  $("opacity").value = String(Math.round(stage.opacity * 100));
  stage.redraw();
}

/** Shows the picture with the brightness and contrast of the sliders. */
export function setLight() {
  stage.brightness = Number($("brightness").value) / 100;
  stage.contrast = Number($("contrast").value) / 100;
  stage.redraw();
}

/** @param {Layer} layer */
export function toggle(layer) {
  const box = $(`show${layer}`);
  if (box.disabled) return notify(box.parentElement?.title ?? "");
  box.checked = !box.checked;
  shown(layer);
}

/**
 * Follows the check box of a layer.
 * @param {Layer} layer
 */
export function shown(layer) {
  stage.show[layer] = $(`show${layer}`).checked;
  if (layer === "map") remember({ map: stage.show.map });
  if (layer === "nearest" && desk.current) fetchAll(desk.current);
  stage.redraw();
}

/** Cancels what is half drawn, or returns to the canvas. */
export function escape() {
  if (stage.cancel()) return;
  hideSide();
  $("canvas").focus();
}
