// @ts-check
// What the page shows about the current picture.

import { desk, fetchAll, indexOf, isThere, library, multiple, neighbor, nextOpen, offered, settings } from "./desk.js";
import { saver, stage, usable } from "./desk.js";
import { inner, make, say } from "./elements.js";
import { notify } from "./notices.js";
import { $, press } from "./page.js";
import { commonType } from "./picture.js";
import { count, fixed, number, t } from "./texts.js";

/** @import { Doc } from "./picture.js" */

const touch = matchMedia("(pointer: coarse)").matches;
const HINTS = touch
  ? {
      click: t("Tap the defect. Pan and zoom with two fingers."),
      rotated: t("Draw a line along the defect."),
      width: t("Now draw across the defect to set the width."),
      box: t("Drag from corner to corner. Tap a box to edit it."),
      polygon: t("Tap the corners of the defect in their order. Tap a shape to edit it."),
      corners: t("Tap the next corner, or the first one again to close."),
      line: t("Tap along a scratch or crack. Its line and width are found."),
      points: t("Tap the next point, or the last one again to end."),
      brush: t("Paint the defect."),
      eraser: t("Erase background."),
    }
  : {
      click: t("Left-click the defect. Right-click to exclude background."),
      rotated: t("Drag a line along the defect. Click a box to edit it."),
      width: t("Now move across the defect to set the width, and click."),
      box: t("Drag from corner to corner. Click a box to edit it."),
      polygon: t("Click the corners of the defect in their order. Click a shape to edit it."),
      corners: t("Click the next corner. The first one, or Enter, closes; Escape cancels."),
      line: t("Click along a scratch or crack. Its line and width are found."),
      points: t("Click the next point. The last one again, or Enter, ends; Escape cancels."),
      brush: t("Paint the defect. The right button erases."),
      eraser: t("Erase background. The right button paints."),
    };

export function showPicture() {
  const { current } = desk;
  if (!current) return;
  const { entry, doc, ready, problem } = current;
  const suggestion = offered();
  stage.enabled = usable() !== null;
  stage.present({
    id: current.id,
    image: ready.image,
    map: ready.map,
    nearest: ready.nearest,
    // Unknown until the server has read the picture.
    width: current.width ?? ready.image?.width ?? 1,
    height: current.height ?? ready.image?.height ?? 1,
    doc: current.loaded || current.touched ? doc : null,
    suggestion,
  });
  say($("name"), current.name);
  const times = multiple(entry);
  const facts =
    entry.score === null || times === null
      ? [t("not inspected yet")]
      : [t("score {0}", number(entry.score)), t("{0} × threshold", fixed(times, 2))];
  say($("score"), facts.join(" · "));
  $("canvas").setAttribute("aria-label", `${current.name}, ${summary(doc)}`);
  const missing = entry.missing ? t("{0} was removed from the folder.", current.name) : (entry.error ?? "");
  const lacking = problem && !(ready.image && current.loaded);
  showEmpty(missing || (lacking ? `${current.name}: ${problem.message}` : ""));
  $("offer").hidden = !suggestion;
  if (suggestion) {
    const sure = suggestion.sure
      ? t("Suggestion: the detector is sure.")
      : t("Suggestion: the detector is not sure.");
    say(inner($("offer"), "span"), sure);
  }
  showTypes();
  showButtons();
  showHint();
  showWorking();
  if (ready.image && current.loaded) ahead();
}

/** Fetches the next pictures while a person works on this one. */
function ahead() {
  const at = indexOf(desk.current);
  for (const entry of new Set([nextOpen(at), desk.order[at + 1]])) {
    if (!entry || !isThere(entry) || entry.id === desk.current?.id) continue;
    const picture = library.picture(entry);
    if (!picture.problem) fetchAll(picture);
  }
}

/**
 * A text in place of the picture.
 * @param {string} text
 */
export function showEmpty(text) {
  $("empty").hidden = !text;
  if (text) say($("empty"), text);
}

/**
 * A label in words.
 * @param {Doc} doc
 */
export function summary(doc) {
  if (doc.tag === null) return t("no label");
  if (doc.tag === "good") return t("good");
  const pixels = doc.shapes.reduce((sum, shape) => sum + ("mask" in shape ? shape.mask.area : 0), 0);
  const polygons = doc.shapes.filter((shape) => "polygon" in shape).length;
  const boxes = doc.shapes.filter((shape) => "box" in shape || "rotated" in shape).length;
  const shapes = [
    pixels && count(pixels, "mask of {0} pixel", "mask of {0} pixels"),
    boxes && count(boxes, "{0} box", "{0} boxes"),
    polygons && count(polygons, "{0} polygon", "{0} polygons"),
  ];
  const types = new Set([...doc.shapes.map((shape) => shape.type), doc.type].filter(Boolean));
  return [t("defective"), ...types, ...shapes].filter(Boolean).join(", ");
}

export function showButtons() {
  const { current } = desk;
  if (!current) return;
  const { doc, past, future } = current;
  const can = usable() !== null;
  press($("good"), doc.tag === "good");
  press($("defective"), doc.tag === "defective");
  $("good").disabled = $("defective").disabled = !can;
  $("undo").disabled = !past.length && !desk.acted.some((p) => p.past.length);
  $("redo").disabled = !future.length;
  $("clear").disabled = !can || (doc.tag === null && !doc.open);
  say(inner($("clear"), "span"), stage.selected === null ? t("Clear") : t("Remove"));
  const at = indexOf(current);
  $("previous").disabled = !neighbor(at, -1);
  $("next").disabled = !neighbor(at, 1);
}

export function showHint() {
  const selected = touch
    ? t("Drag a corner to resize, the inside to move. Remove deletes the shape.")
    : t("Drag a corner to resize, the inside to move. The Delete key removes the shape.");
  const width = stage.gesture?.kind === "width" && HINTS.width;
  const { gesture } = stage;
  const polygon = gesture?.kind === "polygon" && (gesture.open ? HINTS.points : HINTS.corners);
  say($("hint"), width || polygon || (stage.selected !== null && !stage.drawing ? selected : HINTS[stage.tool]));
}

export function showWorking() {
  $("working").hidden = !(desk.current?.doc.open && desk.current.slow);
}

// --- defect type and prompt ---

/** The defect type of the next shape: what was chosen, or what all shapes of this picture have. */
export const penType = () => (settings.type ?? (desk.current && commonType(desk.current.doc))) || null;

/** The defect type of the selected shape, or of the next one. */
export const shownType = () => {
  const selected = stage.selected === null ? undefined : desk.current?.doc.shapes[stage.selected];
  return (selected ? selected.type : penType()) ?? "";
};

export function showTypes() {
  const { state } = desk;
  if (!state) return;
  stage.type = penType();
  const docs = desk.order.flatMap((entry) => library.known(entry.id)?.doc ?? []);
  const own = docs.flatMap((doc) => [...doc.shapes, doc].flatMap(({ type }) => type ?? []));
  options($("types"), [...new Set([...state.types, ...own])]);
  const shown = shownType();
  if (document.activeElement !== $("type")) $("type").value = shown;
  options($("prompts"), state.prompts[shown] ?? Object.values(state.prompts).flat());
  if (document.activeElement !== $("prompt")) $("prompt").value = settings.prompts[shown] ?? "";
}

/** @param {HTMLElement} list @param {string[]} values */
function options(list, values) {
  const key = JSON.stringify(values);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  const option = (/** @type {string} */ value) => Object.assign(make("option"), { value });
  list.replaceChildren(...values.map(option));
}

// --- whether everything is saved ---

/** @type {string | undefined} */
let told = "";

export function showSaved() {
  const { status } = saver;
  const detail = status[2];
  let [kind, text] = status;
  if (!desk.state) [kind, text] = ["saving", t("Connecting…")];
  if (desk.lost && kind !== "trouble") [kind, text] = ["trouble", t("No connection to the labeler")];
  $("save").className = `plain ${kind}`;
  say($("saved"), text);
  if (detail !== told) {
    told = detail;
    document.querySelector("#notices .saving")?.remove();
    if (detail) notify(detail, "error saving");
  }
}
