// @ts-check
// Paints the picture and everything on it.

import { cornersOf, isRotated, knobOf, upright } from "./boxes.js";

/** @import { Box, Point } from "./boxes.js" */
/** @import { Click } from "./picture.js" */
/** @import { Raster } from "./library.js" */
/** @import { Stage } from "./stage.js" */

export const MASK = "#ff2e9a";
export const BOX = "#19b5fe";
const DARK = "rgb(0 0 0 / 0.65)";
/** From this scale on, single pixels of the picture are shown sharp. */
const CRISP_FROM = 1.5;
/** Distance of the turning handle from its box, in CSS pixels. */
export const KNOB = 26;

/** @type {(points: Point[]) => Path2D} */
export const outline = (points) => {
  const path = new Path2D();
  points.forEach((p, i) => (i ? path.lineTo(...p) : path.moveTo(...p)));
  path.closePath();
  return path;
};

export class Painter {
  #context;
  #scale = 1;
  /** Everything behind the drawing, painted again only if it differs. */
  #layer = document.createElement("canvas");
  /** @type {unknown[]} What the layer was painted from. */
  #made = [];

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  }

  /** @param {number} width @param {number} height In device pixels. */
  resize(width, height) {
    this.#made = [];
    for (const canvas of [this.canvas, this.#layer]) [canvas.width, canvas.height] = [width, height];
  }

  /** @param {Stage} stage */
  paint(stage) {
    const c = this.#context;
    const { scene, show, view, gesture } = stage;
    const { ratio, scale, x, y } = view;
    this.#scale = scale;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, view.width, view.height);
    if (!scene.image) return;
    this.#back(stage, scene.image);
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(this.#layer, 0, 0);
    c.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    const { doc } = scene;
    if (!doc) return;
    const mask = gesture?.kind === "stroke" ? gesture.mask : doc.mask;
    if (show.mask && mask) {
      c.globalAlpha = stage.opacity * 0.6;
      c.fillStyle = MASK;
      c.fill(mask.path, "evenodd");
      c.globalAlpha = 1;
      this.#line(mask.path, MASK, 1.75);
    }
    if (show.mask && scene.suggestion && !gesture) {
      this.#line(scene.suggestion.mask.path, "#fff", 1.75, [7, 6]);
    }
    if (show.mask) this.#boxes(stage);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (show.mask) doc.clicks.forEach((click) => this.#mark(click, view.toScreen([click.x, click.y])));
    if (stage.enabled) this.#pen(stage);
  }

  /** @param {Stage} stage @param {Raster} image */
  #back({ scene, show, opacity, view }, image) {
    const { width, height, ratio, scale, x, y } = view;
    const map = show.map ? scene.map : null;
    const nearest = show.nearest ? scene.nearest : null;
    const made = [image, map, nearest, map && opacity, width, height, ratio, scale, x, y];
    if (made.every((value, i) => value === this.#made[i])) return;
    this.#made = made;
    const c = /** @type {CanvasRenderingContext2D} */ (this.#layer.getContext("2d"));
    c.reset();
    c.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    c.imageSmoothingQuality = "high";
    for (const raster of [image, nearest, map]) {
      if (!raster) continue;
      // Pixels of the picture are sharp. Map and reference have fewer pixels and are smooth.
      c.imageSmoothingEnabled = raster !== image || scale * ratio < CRISP_FROM;
      if (raster === map) c.globalAlpha = opacity;
      c.drawImage(raster.at(scale * ratio * scene.width), 0, 0, scene.width, scene.height);
    }
  }

  /** @param {Stage} stage */
  #boxes(stage) {
    const { gesture } = stage;
    for (const b of stage.boxes()) {
      const changed =
        gesture && "of" in gesture && gesture.of === b.of && gesture.index === b.index && gesture.made;
      this.#box(changed || b.box, stage.isSelected(b), stage.opacity);
    }
    if (gesture?.kind === "upright") {
      const box = upright(gesture.from, gesture.to);
      if (box) this.#box(box, false, stage.opacity);
    } else if (gesture?.kind === "axis") {
      const path = new Path2D();
      path.moveTo(...gesture.from);
      path.lineTo(...gesture.to);
      this.#line(path, BOX, 2);
    } else if (gesture?.kind === "width") this.#box(gesture.made, false, stage.opacity);
  }

  /**
   * A line with a dark rim. It is equally wide at each zoom.
   * @param {Path2D} path
   * @param {string} color
   * @param {number} width
   * @param {number[]} [dash]
   */
  #line(path, color, width, dash = []) {
    const [c, scale] = [this.#context, this.#scale];
    c.lineJoin = "round";
    c.setLineDash([]);
    c.strokeStyle = DARK;
    c.lineWidth = (width + 1.75) / scale;
    c.stroke(path);
    c.setLineDash(dash.map((d) => d / scale));
    c.strokeStyle = color;
    c.lineWidth = width / scale;
    c.stroke(path);
    c.setLineDash([]);
  }

  /** @param {Box} box @param {boolean} selected @param {number} opacity */
  #box(box, selected, opacity) {
    const [c, scale] = [this.#context, this.#scale];
    const path = outline(cornersOf(box));
    c.globalAlpha = opacity * (selected ? 0.35 : 0.15);
    c.fillStyle = BOX;
    c.fill(path);
    c.globalAlpha = 1;
    this.#line(path, BOX, selected ? 2.5 : 2);
    if (!selected) return;
    /** @type {(point: Point, radius: number) => void} */
    const knob = (point, radius) => {
      const dot = new Path2D();
      dot.arc(...point, radius / scale, 0, 2 * Math.PI);
      this.#line(dot, BOX, 2);
      c.fillStyle = "#fff";
      c.fill(dot);
    };
    for (const corner of cornersOf(box)) knob(corner, 4.5);
    if (isRotated(box)) knob(knobOf(box, KNOB / scale), 5.5);
  }

  /** @param {Click} click @param {Point} at */
  #mark({ positive }, [x, y]) {
    const c = this.#context;
    c.beginPath();
    c.arc(x, y, 7.5, 0, 2 * Math.PI);
    c.fillStyle = positive ? "#0a8f6c" : "#c8102e";
    c.fill();
    c.lineWidth = 1.75;
    c.strokeStyle = "#fff";
    c.stroke();
    c.beginPath();
    c.moveTo(x - 3.5, y);
    c.lineTo(x + 3.5, y);
    if (positive) {
      c.moveTo(x, y - 3.5);
      c.lineTo(x, y + 3.5);
    }
    c.stroke();
  }

  /**
   * The brush's rim, and the keyboard's pointer.
   * @param {Stage} stage
   */
  #pen(stage) {
    const c = this.#context;
    /** @type {(draw: () => void) => void} */
    const twice = (draw) => {
      c.beginPath();
      draw();
      [c.strokeStyle, c.lineWidth] = [DARK, 3];
      c.stroke();
      [c.strokeStyle, c.lineWidth] = ["#fff", 1.25];
      c.stroke();
    };
    const { cursor } = stage;
    const at = cursor ? stage.view.toScreen(cursor) : stage.hover;
    if (!at) return;
    const [x, y] = at;
    if (stage.tool === "brush" || stage.tool === "eraser") {
      const radius = Math.max((stage.brush / 2) * this.#scale, 1);
      if (!stage.space) twice(() => c.arc(x, y, radius, 0, 2 * Math.PI));
    }
    if (cursor) {
      twice(() => {
        for (const [dx, dy] of [
          [1, 0],
          [-1, 0],
          [0, 1],
          [0, -1],
        ]) {
          c.moveTo(x + 5 * dx, y + 5 * dy);
          c.lineTo(x + 18 * dx, y + 18 * dy);
        }
      });
    }
  }
}

/**
 * A small picture of a label.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./picture.js").Picture} picture
 * @param {import("./picture.js").Doc} doc
 */
export function sketch(canvas, { width, height, ready }, doc) {
  if (!width || !height) return;
  const c = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const scale = Math.min(canvas.width / width, canvas.height / height);
  c.reset();
  c.translate((canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2);
  c.scale(scale, scale);
  if (ready.image) c.drawImage(ready.image.full, 0, 0, width, height);
  [c.lineWidth, c.strokeStyle, c.fillStyle] = [2 / scale, MASK, "rgb(255 46 154 / 0.4)"];
  if (doc.mask) {
    c.fill(doc.mask.path, "evenodd");
    c.stroke(doc.mask.path);
  }
  c.strokeStyle = BOX;
  for (const box of [...doc.boxes, ...doc.rotated]) c.stroke(outline(cornersOf(box)));
}
