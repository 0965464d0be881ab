// @ts-check
// Moving from picture to picture.

import { desk, fetchAll, indexOf, isThere, kindOf, library, neighbor, nextOpen, saver, settings, watch } from "./desk.js";
import { hideSide, showCurrent } from "./list.js";
import { notify } from "./notices.js";
import { showPicture } from "./panel.js";
import { t, whole } from "./texts.js";

/** @import { Entry } from "./server.js" */

/** How many pictures the estimate of the remaining time uses. */
const ESTIMATE = 12;

/** @param {Entry} entry */
export function open(entry) {
  if (entry.id === desk.current?.id) return;
  leave();
  const picture = library.picture(entry);
  desk.current = picture;
  // Another picture can show another defect.
  settings.type = null;
  desk.visited.add(entry.id);
  watch.turnTo(picture);
  if (!picture.touched && picture.loaded) library.refresh(picture);
  fetchAll(picture);
  showCurrent(entry);
  hideSide();
  showPicture();
}

/** The time spent on a picture after its last change belongs to its label. */
export function leave() {
  watch.stir();
  const { current } = desk;
  if (!current?.touched || current.doc.open || current.doc.tag === null) return;
  const others = desk.spent.filter((s) => s.id !== current.id);
  desk.spent = [...others, { id: current.id, seconds: current.seconds }].slice(-ESTIMATE);
  if (current.seconds - current.savedSeconds >= 0.5) saver.change(current);
}

/** @param {number} by */
export function step(by) {
  const entry = neighbor(indexOf(desk.current), Math.sign(by));
  if (entry) open(entry);
}

/** Opens the next unlabeled picture. */
export function skip() {
  const entry = nextOpen(indexOf(desk.current));
  if (entry) return open(entry);
  leave();
  const { order, state } = desk;
  if (order.length && order.every((e) => !isThere(e) || kindOf(e) !== null)) {
    const count = order.filter(isThere).length;
    notify(t("All {0} pictures are labeled. The labels are in {1}.", whole(count), state?.labels ?? ""), "done");
  }
}
