// @ts-check
// Two tabs saved different labels of one picture: the person chooses.

import { desk, library, saver } from "./desk.js";
import { settle } from "./edit.js";
import { inner, say } from "./elements.js";
import { sketch } from "./painter.js";
import { $ } from "./page.js";
import { summary } from "./panel.js";
import { docOf } from "./picture.js";
import { t } from "./texts.js";

/** @import { Doc } from "./picture.js" */

export async function showConflict() {
  const [picture] = saver.conflicts;
  if (!picture?.conflict || $("conflict").open) return;
  say($("conflicttitle"), t("{0} was also saved by another tab", picture.name));
  $("conflict").showModal();
  /** @type {[HTMLCanvasElement, string, Doc][]} */
  const sides = [
    [$("minecanvas"), t("This tab"), picture.doc],
    [$("theirscanvas"), t("Other tab"), docOf(picture.conflict)],
  ];
  for (const [canvas, title, doc] of sides) {
    const text = `${title}: ${summary(doc)}`;
    const figure = canvas.parentElement;
    if (figure) say(inner(figure, "figcaption"), text);
    canvas.ariaLabel = text;
    sketch(canvas, picture, doc);
  }
  library.fetch(picture, false);
  await Promise.allSettled([picture.parts.image, picture.parts.detail]);
  for (const [canvas, , doc] of sides) sketch(canvas, picture, doc);
}

/** @param {boolean} takeTheirs */
export function decide(takeTheirs) {
  const [picture] = saver.conflicts;
  $("conflict").close();
  if (!picture) return;
  saver.resolve(picture, takeTheirs);
  if (takeTheirs) desk.acted.push(picture);
  settle(picture);
  if (saver.conflicts.length) showConflict();
}
