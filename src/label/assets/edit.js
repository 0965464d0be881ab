// @ts-check
// What a person does to the label of a picture.

import { desk, fetchAll, library, offered, remember, saver, settings, stage, usable, watch } from "./desk.js";
import { showProgress, showRow } from "./list.js";
import { Mask } from "./mask.js";
import { notify } from "./notices.js";
import { $ } from "./page.js";
import { penType, showHint, shownType, showPicture, showTypes, showWorking } from "./panel.js";
import { CLEARED, contentOf, maskOf, retyped, withMask } from "./picture.js";
import { asProblem, ask } from "./server.js";
import { t } from "./texts.js";
import { open, skip } from "./turn.js";

/** @import { Outline, Point } from "./boxes.js" */
/** @import { Doc, Picture, Shape } from "./picture.js" */
/** @import { Tag } from "./server.js" */

/** A mask that takes longer than this is announced, in milliseconds. */
const SLOW = 200;

/**
 * Changes the label of the current picture.
 * @param {Picture} picture
 * @param {Partial<Doc>} changes
 */
function act(picture, changes) {
  watch.stir();
  picture.apply({ type: changes.tag === "good" ? null : penType(), ...changes });
  desk.acted.push(picture);
  settle(picture);
}

/**
 * After any change: sends the clicks, or saves.
 * @param {Picture} picture
 */
export function settle(picture) {
  if (picture.doc.tag === null && !picture.doc.open && picture.doc.type !== null) {
    picture.doc = { ...picture.doc, type: null };
  }
  if (picture.doc.open) solve(picture);
  else {
    picture.asking?.abort();
    picture.asking = null;
    saver.change(picture);
  }
  if (picture === desk.current) showPicture();
  showRow(picture.entry);
  showProgress();
}

/** @param {Point} point @param {boolean} positive */
export function click([x, y], positive) {
  const picture = usable();
  if (!picture) return;
  const { doc } = picture;
  const of = penType();
  // Clicks of another type begin anew.
  const goesOn = doc.of === of;
  /** @type {(value: number) => number} */
  const at = (value) => Math.round(value * 100) / 100;
  act(picture, {
    clicks: [...(goesOn ? doc.clicks : []), { x: at(x), y: at(y), positive }],
    of,
    previous: goesOn && doc.open ? doc.previous : maskOf(doc.shapes, of),
    open: true,
  });
}

/**
 * Requests the mask of the clicks. An answer to an outdated request is dropped.
 * @param {Picture} picture
 */
async function solve(picture) {
  picture.asking?.abort();
  const asking = (picture.asking = new AbortController());
  const { doc } = picture;
  const timer = setTimeout(() => {
    picture.slow = true;
    showWorking();
  }, SLOW);
  try {
    const body = {
      clicks: doc.clicks,
      previous: doc.previous && doc.previous.toRuns(),
      prompt: (settings.prompts[shownType()] ?? "") || null,
      type: doc.of,
    };
    const path = `/api/pictures/${picture.id}/click`;
    const answer = await (await ask(path, { method: "POST", body, signal: asking.signal })).json();
    if (picture.doc !== doc) return;
    const mask = Mask.fromRuns(answer.mask);
    picture.set({ ...doc, shapes: withMask(doc.shapes, doc.of, mask), previous: null, open: false });
    if (answer.unknown_words) notify(t("Unknown words in the prompt. The mask was made without them."));
    if (!mask.area) notify(t("Nothing found here. Click closer to the center of the defect, or use the brush."));
    settle(picture);
  } catch (error) {
    if (asking.signal.aborted || picture.doc !== doc) return;
    withdraw(picture, doc);
    const problem = asProblem(error);
    notify(t("Click failed. {0}", problem.message), "error");
    if (problem.status === 409) {
      library.forget(picture);
      library.refresh(picture);
      fetchAll(picture);
    }
    settle(picture);
  } finally {
    clearTimeout(timer);
    if (picture.asking === asking || !picture.asking) picture.slow = false;
    showWorking();
  }
}

/**
 * Takes back clicks without an answer. Strokes and boxes drawn since then stay.
 * @param {Picture} picture
 * @param {Doc} doc
 */
function withdraw(picture, doc) {
  const before = picture.past.findLast((past) => !past.open);
  const drawn = { ...doc, clicks: before?.clicks ?? [], previous: null, open: false };
  if (!before || contentOf(before) !== contentOf(drawn)) return picture.set(drawn);
  while (picture.doc.open) {
    const past = picture.past.pop();
    if (!past) break;
    picture.doc = past;
  }
}

/**
 * Requests the mask of a thin line through points, and adds it.
 * @param {Point[]} points
 */
export async function line(points) {
  const picture = usable();
  if (!picture) return;
  const type = penType();
  try {
    const path = `/api/pictures/${picture.id}/line`;
    const answer = await (await ask(path, { method: "POST", body: { points } })).json();
    const mask = Mask.fromRuns(answer.mask);
    const { shapes } = picture.doc;
    paint(picture, withMask(shapes, type, maskOf(shapes, type)?.joined(mask) ?? mask));
  } catch (error) {
    notify(t("Line failed. {0}", asProblem(error).message), "error");
  }
}

/** @param {Shape[]} drawn */
export function stroke(drawn) {
  const picture = usable();
  if (picture) paint(picture, drawn);
}

/**
 * Takes shapes with changed masks.
 * @param {Picture} picture
 * @param {Shape[]} drawn
 */
function paint(picture, drawn) {
  const { doc } = picture;
  const shapes = drawn.filter((shape) => !("mask" in shape) || shape.mask.area);
  if (!shapes.some((shape) => "mask" in shape) && !doc.shapes.some((shape) => "mask" in shape)) return;
  const mask = maskOf(shapes, doc.of);
  if (mask) act(picture, { shapes, previous: doc.open ? mask : null });
  else act(picture, { shapes, clicks: [], previous: null, open: false });
}

/** @param {Outline} shape */
export function add(shape) {
  const picture = usable();
  if (!picture) return;
  act(picture, { shapes: [...picture.doc.shapes, { ...shape, type: penType() }] });
  stage.selected = picture.doc.shapes.length - 1;
  showTypes();
  showHint();
}

/** @param {number} index @param {Outline} shape */
export function change(index, shape) {
  const picture = usable();
  if (!picture) return;
  const changed = (/** @type {Shape} */ old) => ({ ...shape, type: old.type });
  act(picture, { shapes: picture.doc.shapes.map((old, i) => (i === index ? changed(old) : old)) });
}

/**
 * Tags the picture and opens the next one.
 * @param {Tag} value
 */
export function tag(value) {
  const picture = usable();
  if (!picture) return;
  if (value === "good") act(picture, { ...CLEARED, tag: "good" });
  else if (picture.doc.tag !== "defective") act(picture, { tag: "defective" });
  skip();
}

/** Removes the last corner of a polygon that is being drawn, the selected shape, or else the whole label. */
export function remove() {
  const picture = usable();
  if (!picture) return;
  if (stage.drawing) return stage.back();
  const { selected } = stage;
  const { doc } = picture;
  stage.cancel();
  if (selected !== null) {
    const shapes = doc.shapes.filter((_, i) => i !== selected);
    // Clicks go with their mask.
    act(picture, maskOf(shapes, doc.of) ? { shapes } : { shapes, clicks: [], previous: null, open: false });
  } else if (doc.tag !== null || doc.open) act(picture, CLEARED);
}

export function undo() {
  if (stage.drawing) return stage.back();
  stage.cancel();
  // The last change may be the tag of the picture before.
  let picture = desk.current;
  if (picture?.past.length) {
    const at = desk.acted.lastIndexOf(picture);
    desk.acted = desk.acted.filter((_, i) => i !== at);
  } else {
    while (desk.acted.length && !picture?.past.length) picture = desk.acted.pop() ?? null;
  }
  if (!picture?.past.length) return;
  if (picture !== desk.current) open(picture.entry);
  watch.stir();
  picture.undo();
  settle(picture);
}

export function redo() {
  stage.cancel();
  const { current } = desk;
  if (!current?.redo()) return;
  desk.acted.push(current);
  settle(current);
}

export function accept() {
  const [picture, suggestion] = [usable(), offered()];
  if (!picture || !suggestion) return;
  act(picture, { shapes: withMask(picture.doc.shapes, penType(), suggestion.mask) });
}

/** The type of the selected shape; else of the next ones, and of those of this picture that have none yet. */
export function typeChanged() {
  const type = $("type").value.trim() || null;
  const picture = usable();
  const { selected } = stage;
  settings.type = type ?? "";
  if (picture && picture.doc.tag === "defective") {
    const { doc } = picture;
    /** @type {(shape: Shape, index: number) => boolean} */
    const which = (shape, index) => (selected === null ? shape.type === null : index === selected);
    const shapes = retyped(doc.shapes, which, type);
    const differs = doc.shapes.length
      ? doc.shapes.some((shape, i) => which(shape, i) && shape.type !== type)
      : doc.type !== type;
    if (differs) {
      const chosen = selected === null ? undefined : shapes[Math.min(selected, shapes.length - 1)];
      const clicked = doc.shapes.findIndex((shape) => "mask" in shape && shape.type === doc.of);
      const of = clicked >= 0 && which(doc.shapes[clicked], clicked) ? type : doc.of;
      act(picture, { shapes, type, of });
      stage.selected = chosen ? shapes.indexOf(chosen) : null;
    }
  }
  showTypes();
}

export function promptChanged() {
  remember({ prompts: { ...settings.prompts, [shownType()]: $("prompt").value.trim() } });
  // A prompt may improve a mask made from clicks alone.
  const picture = usable();
  if (picture?.doc.clicks.length) act(picture, { previous: maskOf(picture.doc.shapes, picture.doc.of), open: true });
}
