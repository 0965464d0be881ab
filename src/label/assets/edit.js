// @ts-check
// What a person does to the label of a picture.

import { desk, fetchAll, library, offered, remember, saver, settings, stage, usable, watch } from "./desk.js";
import { showProgress, showRow } from "./list.js";
import { notify } from "./notices.js";
import { $ } from "./page.js";
import { showHint, shownType, showPicture, showTypes, showWorking } from "./panel.js";
import { CLEARED, contentOf, docOf } from "./picture.js";
import { asProblem, ask } from "./server.js";
import { t } from "./texts.js";
import { open, skip } from "./turn.js";

/** @import { Box, Point } from "./boxes.js" */
/** @import { Mask } from "./mask.js" */
/** @import { Doc, Picture } from "./picture.js" */
/** @import { Tag } from "./server.js" */
/** @import { BoxKind } from "./stage.js" */

/** A mask that takes longer than this is announced, in milliseconds. */
const SLOW = 200;

/**
 * Changes the label of the current picture.
 * @param {Picture} picture
 * @param {Partial<Doc>} change
 */
function act(picture, change) {
  watch.stir();
  const type = change.tag === "good" ? null : (picture.doc.type ?? (settings.type || null));
  picture.apply({ type, ...change });
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
  /** @type {(value: number) => number} */
  const at = (value) => Math.round(value * 100) / 100;
  act(picture, {
    clicks: [...doc.clicks, { x: at(x), y: at(y), positive }],
    previous: doc.open ? doc.previous : doc.mask,
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
      type: doc.type,
    };
    const path = `/api/pictures/${picture.id}/click`;
    const answer = await (await ask(path, { method: "POST", body, signal: asking.signal })).json();
    if (picture.doc !== doc) return;
    const mask = docOf({ tag: null, boxes: [], rotated: [], mask: answer.mask, type: null }).mask;
    picture.set({ ...doc, mask, previous: null, open: false });
    if (answer.unknown_words) notify(t("Unknown words in the prompt. The mask was made without them."));
    if (!mask) notify(t("Nothing found here. Click closer to the center of the defect, or use the brush."));
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

/** @param {Mask} mask */
export function stroke(mask) {
  const picture = usable();
  if (!picture) return;
  const { doc } = picture;
  const nothing = !mask.area;
  if (nothing && !doc.mask) return;
  if (nothing) act(picture, { mask: null, clicks: [], previous: null, open: false });
  else act(picture, { mask, previous: doc.open ? mask : null });
}

/** @param {BoxKind} kind @param {Box} box */
export function addBox(kind, box) {
  const picture = usable();
  if (!picture) return;
  act(picture, { [kind]: [...picture.doc[kind], box] });
  stage.selected = { kind, index: picture.doc[kind].length - 1 };
  showHint();
}

/** @param {BoxKind} kind @param {number} index @param {Box} box */
export function changeBox(kind, index, box) {
  const picture = usable();
  if (picture) act(picture, { [kind]: picture.doc[kind].map((old, i) => (i === index ? box : old)) });
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

/** Removes the selected box, or else the whole label. */
export function remove() {
  const picture = usable();
  if (!picture) return;
  const { selected } = stage;
  const { doc } = picture;
  stage.cancel();
  if (selected) act(picture, { [selected.kind]: doc[selected.kind].filter((_, i) => i !== selected.index) });
  else if (doc.tag !== null || doc.open) act(picture, CLEARED);
}

export function undo() {
  if (stage.drawing) return stage.cancel();
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
  if (picture && suggestion) act(picture, { mask: suggestion.mask });
}

export function typeChanged() {
  const type = $("type").value.trim();
  settings.type = type;
  const picture = usable();
  if (picture && picture.doc.tag === "defective" && (picture.doc.type ?? "") !== type) {
    act(picture, { type: type || null });
  }
  showTypes();
}

export function promptChanged() {
  remember({ prompts: { ...settings.prompts, [shownType()]: $("prompt").value.trim() } });
  // A prompt may improve a mask made from clicks alone.
  const picture = usable();
  if (picture?.doc.clicks.length) act(picture, { previous: picture.doc.mask, open: true });
}
