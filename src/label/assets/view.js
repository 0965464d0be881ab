// @ts-check
// The part of the picture that the canvas shows: scale and offset.

/** @import { Point, Size } from "./boxes.js" */

const MARGIN = 14;

export class View {
  scale = 1;
  x = 0;
  y = 0;
  /** The whole picture is shown, also after a resize. */
  fitted = true;
  /** The canvas, in CSS pixels. */
  width = 1;
  height = 1;
  /** Device pixels per CSS pixel. */
  ratio = 1;
  /** @type {Size} */
  picture = { width: 1, height: 1 };
  #changed;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  fit() {
    this.scale = this.#fitting;
    this.x = (this.width - this.picture.width * this.scale) / 2;
    this.y = (this.height - this.picture.height * this.scale) / 2;
    this.fitted = true;
    this.#changed();
  }

  /**
   * Zooms around a point of the canvas, by default its center.
   * @param {number} factor
   * @param {Point} [at]
   */
  zoom(factor, at) {
    const [cx, cy] = at ?? [this.width / 2, this.height / 2];
    const fitting = this.#fitting;
    const next = Math.min(Math.max(this.scale * factor, fitting * 0.8), Math.max(64, fitting));
    const by = next / this.scale;
    this.#place(next, cx - (cx - this.x) * by, cy - (cy - this.y) * by);
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.#place(this.scale, this.x + dx, this.y + dy);
  }

  /** @param {number} width @param {number} height @param {number} ratio */
  resize(width, height, ratio) {
    const [dx, dy] = [(width - this.width) / 2, (height - this.height) / 2];
    [this.width, this.height, this.ratio] = [width, height, ratio];
    if (this.fitted) this.fit();
    else this.pan(dx, dy);
  }

  /**
   * From the canvas to the picture.
   * @param {Point} at
   * @returns {Point}
   */
  toPicture([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /**
   * From the picture to the canvas.
   * @param {Point} at
   * @returns {Point}
   */
  toScreen([x, y]) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  get #fitting() {
    /** @type {(whole: number) => number} */
    const room = (whole) => Math.max(whole - 2 * MARGIN, 16);
    return Math.min(room(this.width) / this.picture.width, room(this.height) / this.picture.height);
  }

  // The center of the canvas stays on the picture, so the picture cannot get lost.
  /** @param {number} scale @param {number} x @param {number} y */
  #place(scale, x, y) {
    /** @type {(at: number, length: number, room: number) => number} */
    const keep = (at, length, room) => Math.min(Math.max(at, room / 2 - length * scale), room / 2);
    this.x = keep(x, this.picture.width, this.width);
    this.y = keep(y, this.picture.height, this.height);
    this.scale = scale;
    this.fitted = false;
    this.#changed();
  }
}
