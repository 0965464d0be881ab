// @ts-check
// A picture with its label: what is drawn, what can be undone, and what the server has.

import { Mask } from "./mask.js";

/** @import { Outline } from "./boxes.js" */
/** @import { Drawing, Entry, Label, Problem, Tag } from "./server.js" */
/** @import { Raster } from "./library.js" */

/** @typedef {{ x: number, y: number, positive: boolean }} Click */

/** @typedef {(Outline | { mask: Mask }) & { type: string | null }} Shape There is one mask at most of each type. */

/**
 * What is drawn on a picture.
 * @typedef {object} Doc
 * @property {Tag | null} tag
 * @property {Shape[]} shapes
 * @property {string | null} type Of a defect without a shape.
 * @property {Click[]} clicks
 * @property {string | null} of The type whose mask the clicks make.
 * @property {Mask | null} previous The mask that the clicks start from.
 * @property {boolean} open Whether the clicks still wait for their mask.
 */

/** @typedef {"image" | "detail" | "map" | "nearest"} Part What is fetched of a picture. */

/** @type {Doc} */
const BLANK = {
  tag: null,
  shapes: [],
  type: null,
  clicks: [],
  of: null,
  previous: null,
  open: false,
};

/** What clearing a label changes: all but its type. */
export const CLEARED = { ...BLANK };
delete (/** @type {Partial<Doc>} */ (CLEARED).type);

/**
 * The mask of a type.
 * @param {Shape[]} shapes
 * @param {string | null} type
 */
export function maskOf(shapes, type) {
  const found = shapes.find((shape) => "mask" in shape && shape.type === type);
  return found && "mask" in found ? found.mask : null;
}

/**
 * The shapes with the mask of a type set, or removed.
 * @param {Shape[]} shapes
 * @param {string | null} type
 * @param {Mask | null} mask
 * @returns {Shape[]}
 */
export function withMask(shapes, type, mask) {
  const at = shapes.findIndex((shape) => "mask" in shape && shape.type === type);
  if (!mask?.area) return shapes.filter((_, i) => i !== at);
  if (at < 0) return [...shapes, { mask, type }];
  return shapes.map((shape, i) => (i === at ? { mask, type } : shape));
}

/**
 * The shapes with another type of those that `which` takes. Masks of one type become one.
 * @param {Shape[]} shapes
 * @param {(shape: Shape, index: number) => boolean} which
 * @param {string | null} type
 * @returns {Shape[]}
 */
export function retyped(shapes, which, type) {
  /** @type {Shape[]} */
  let made = [];
  shapes.forEach((old, i) => {
    const shape = which(old, i) ? { ...old, type } : old;
    const other = "mask" in shape ? maskOf(made, shape.type) : null;
    if ("mask" in shape && other) made = withMask(made, shape.type, shape.mask.joined(other));
    else made = [...made, shape];
  });
  return made;
}

/**
 * The type that all shapes have.
 * @param {Doc} doc
 */
export const commonType = ({ shapes, type }) =>
  shapes.length ? (shapes.every((s) => s.type === shapes[0].type) ? shapes[0].type : null) : type;

/** @type {(shape: Shape) => Drawing} */
const drawingOf = (shape) => ("mask" in shape ? { mask: shape.mask.toRuns(), type: shape.type } : shape);

/**
 * What of a document is saved.
 * @param {Doc} doc
 */
export const savedOf = ({ tag, shapes, type }) => ({ tag, shapes: shapes.map(drawingOf), type });

/**
 * The label in `doc` as text. Equal texts are equal labels.
 * @param {Doc} doc
 */
export const contentOf = (doc) => {
  // In one order of keys.
  const { tag, shapes, type } = savedOf(doc);
  return JSON.stringify([tag, type, shapes.map((s) => Object.entries(s).sort((a, b) => (a[0] < b[0] ? -1 : 1)))]);
};

/**
 * The document of a label.
 * @param {Omit<Label, "revision">} label
 * @returns {Doc}
 */
export function docOf(label) {
  const shapes = label.shapes.map((shape) =>
    "mask" in shape ? { mask: Mask.fromRuns(shape.mask), type: shape.type } : shape,
  );
  return { ...BLANK, tag: label.tag, shapes, type: label.type };
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
    const shapes = doc.shapes.filter((shape) => !("mask" in shape) || shape.mask.area);
    const shaped = shapes.length > 0;
    this.doc = { ...doc, shapes, tag: shaped ? "defective" : doc.tag, type: shaped ? null : doc.type };
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
