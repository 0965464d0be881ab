// @ts-check
// A picture with its label: what is drawn, what can be undone, and what the server has.

import { Mask } from "./mask.js";

/** @import { Rotated, Upright } from "./boxes.js" */
/** @import { Entry, Label, Problem, Tag } from "./server.js" */
/** @import { Raster } from "./library.js" */

/** @typedef {{ x: number, y: number, positive: boolean }} Click */

/**
 * What is drawn on a picture.
 * @typedef {object} Doc
 * @property {Tag | null} tag
 * @property {Upright[]} boxes
 * @property {Rotated[]} rotated
 * @property {Mask | null} mask
 * @property {string | null} type
 * @property {Click[]} clicks
 * @property {Mask | null} previous The mask that the clicks start from.
 * @property {boolean} open Whether the clicks still wait for their mask.
 */

/** @typedef {"image" | "detail" | "map" | "nearest"} Part What is fetched of a picture. */

/** @type {Doc} */
const BLANK = {
  tag: null,
  boxes: [],
  rotated: [],
  mask: null,
  type: null,
  clicks: [],
  previous: null,
  open: false,
};

/** What clearing a label changes: all but its type. */
export const CLEARED = { ...BLANK };
delete (/** @type {Partial<Doc>} */ (CLEARED).type);

/** @param {Doc} doc */
const hasShapes = (doc) => Boolean(doc.mask || doc.boxes.length || doc.rotated.length);

/**
 * The label in `doc` as text. Equal texts are equal labels.
 * @param {Doc} doc
 */
export const contentOf = ({ tag, boxes, rotated, mask, type }) =>
  JSON.stringify({ tag, boxes, rotated, mask: mask && mask.toRuns(), type });

/**
 * The document of a label.
 * @param {Omit<Label, "revision">} label
 * @returns {Doc}
 */
export function docOf(label) {
  const mask = label.mask && Mask.fromRuns(label.mask);
  return {
    ...BLANK,
    tag: label.tag,
    boxes: label.boxes,
    rotated: label.rotated,
    mask: mask?.area ? mask : null,
    type: label.type,
  };
}

export class Picture {
  doc = BLANK;
  /** @type {Doc[]} */
  past = [];
  /** @type {Doc[]} */
  future = [];
  /** @type {string | null} */
  revision = null;
  /** The content that the server has. */
  saved = contentOf(BLANK);
  seconds = 0;
  savedSeconds = 0;
  touched = false;
  /** @type {{ mask: Mask, sure: boolean } | null} */
  suggestion = null;
  loaded = false;
  /** The file behind this picture was replaced by another. */
  isReplaced = false;
  /** The server has no such picture at the moment. */
  isGone = false;
  /** The server has another picture under this number. */
  isOther = false;
  /** @type {string | null} Why a mask of the label cannot be read. */
  lost = null;

  /** Being saved. */
  sending = false;
  /** Why the server refuses to save it. */
  refused = "";
  /** @type {Label | null} Another label that was saved meanwhile. */
  conflict = null;
  /** @type {AbortController | null} The request for the clicks' mask. */
  asking = null;
  /** That request takes long. */
  slow = false;

  /** @type {Partial<Record<Part, Promise<unknown> | null>>} Requests on their way or done. */
  parts = {};
  /** @type {Partial<Record<Part, Problem | null>>} Why parts could not be fetched. */
  problems = {};
  /** @type {Record<"image" | "map" | "nearest", Raster | null>} */
  ready = { image: null, map: null, nearest: null };
  /** @type {{ detail: string | null, image: string | null }} The file content behind both parts. */
  content = { detail: null, image: null };

  /** @param {Entry} entry */
  constructor(entry) {
    this.entry = entry;
    this.id = entry.id;
    this.name = entry.name;
    this.width = entry.width;
    this.height = entry.height;
  }

  get problem() {
    return this.problems.detail ?? this.problems.image ?? null;
  }

  get clean() {
    return !this.doc.open && contentOf(this.doc) === this.saved;
  }

  /**
   * Makes a change that can be undone.
   * @param {Partial<Doc>} change
   */
  apply(change) {
    this.past.push(this.doc);
    this.future = [];
    this.set({ ...this.doc, ...change });
  }

  /** @param {Doc} doc */
  set(doc) {
    const mask = doc.mask?.area ? doc.mask : null;
    const shaped = hasShapes({ ...doc, mask });
    this.doc = { ...doc, mask, tag: shaped ? "defective" : doc.tag };
    this.touched = true;
  }

  /** Returns false if there is nothing to undo. */
  undo() {
    return this.#step(this.past, this.future);
  }

  /** Returns false if there is nothing to redo. */
  redo() {
    return this.#step(this.future, this.past);
  }

  /** @param {Doc[]} from @param {Doc[]} to */
  #step(from, to) {
    const doc = from.pop();
    if (!doc) return false;
    to.push(this.doc);
    this.doc = doc;
    this.touched = true;
    return true;
  }

  /**
   * Takes the server's label and drops what was done here.
   * @param {Label} label
   */
  adopt(label) {
    this.doc = docOf(label);
    [this.past, this.future, this.touched] = [[], [], false];
    this.settle(label);
    this.seconds = this.savedSeconds;
  }

  /**
   * Notes what the server has; the drawing stays.
   * @param {Label} label
   */
  settle(label) {
    this.revision = label.revision;
    this.saved = contentOf(docOf(label));
    this.savedSeconds = label.seconds ?? 0;
  }
}
