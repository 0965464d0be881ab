// @ts-check
// Paints the picture and everything on it.

import { cornersOf, knobOf, upright } from "./boxes.js";

/** @import { Outline, Point } from "./boxes.js" */
/** @import { Click, Shape } from "./picture.js" */
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
    const shapes = gesture?.kind === "stroke" ? gesture.shapes : doc.shapes;
    for (const [i, shape] of shapes.entries()) {
      if (!show.mask || !("mask" in shape)) continue;
      c.globalAlpha = stage.opacity * (stage.selected === i ? 0.85 : 0.6);
      c.fillStyle = MASK;
      c.fill(shape.mask.path, "evenodd");
      c.globalAlpha = 1;
      this.#line(shape.mask.path, MASK, stage.selected === i ? 2.5 : 1.75);
    }
    if (show.mask && scene.suggestion && !gesture) {
      this.#line(scene.suggestion.mask.path, "#fff", 1.75, [7, 6]);
    }
    if (show.mask) this.#outlines(stage);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (show.mask) for (const shape of shapes) this.#name(shape, view);
    if (show.mask) doc.clicks.forEach((click) => this.#mark(click, view.toScreen([click.x, click.y])));
    if (stage.enabled) this.#pen(stage);
  }

  /** @param {Stage} stage @param {Raster} image */
  #back({ scene, show, opacity, brightness, contrast, view }, image) {
    const { width, height, ratio, scale, x, y } = view;
    const map = show.map ? scene.map : null;
    const nearest = show.nearest ? scene.nearest : null;
    const light = `brightness(${brightness}) contrast(${contrast})`;
    const made = [image, map, nearest, map && opacity, light, width, height, ratio, scale, x, y];
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
      c.filter = raster === map || (brightness === 1 && contrast === 1) ? "none" : light;
      c.drawImage(raster.at(scale * ratio * scene.width), 0, 0, scene.width, scene.height);
    }
  }

  /** @param {Stage} stage */
  #outlines(stage) {
    const { gesture } = stage;
    for (const { index, shape } of stage.outlines()) {
      const changed = gesture && "index" in gesture && gesture.index === index && gesture.made;
      this.#outline(changed || shape, stage.selected === index, stage.opacity);
    }
    if (gesture?.kind === "upright") {
      const box = upright(gesture.from, gesture.to);
      if (box) this.#outline({ box }, false, stage.opacity);
    } else if (gesture?.kind === "axis") this.#open([gesture.from, gesture.to]);
    else if (gesture?.kind === "polygon") {
      this.#open([...gesture.points, gesture.to]);
      const last = gesture.open ? gesture.points.length - 1 : 0;
      for (const [i, point] of gesture.points.entries()) this.#knob(point, i === last ? 5.5 : 3);
    } else if (gesture?.kind === "width") this.#outline({ rotated: gesture.made }, false, stage.opacity);
  }

  /** @param {Point[]} points */
  #open(points) {
    const path = new Path2D();
    points.forEach((p, i) => (i ? path.lineTo(...p) : path.moveTo(...p)));
    this.#line(path, BOX, 2);
  }

  /** @param {Point} point @param {number} radius */
  #knob(point, radius) {
    const c = this.#context;
    const dot = new Path2D();
    dot.arc(...point, radius / this.#scale, 0, 2 * Math.PI);
    this.#line(dot, BOX, 2);
    c.fillStyle = "#fff";
    c.fill(dot);
  }

  /**
   * Writes a shape's type above it.
   * @param {Shape} shape
   * @param {import("./view.js").View} view
   */
  #name(shape, view) {
    if (!shape.type) return;
    const corners = "mask" in shape ? shape.mask.corners : cornersOf(shape);
    const at = corners.map((point) => view.toScreen(point));
    const [x, y] = [Math.min(...at.map((p) => p[0])), Math.min(...at.map((p) => p[1]))];
    const c = this.#context;
    c.font = "600 13px system-ui, sans-serif";
    c.textBaseline = "bottom";
    c.lineJoin = "round";
    [c.strokeStyle, c.lineWidth, c.fillStyle] = [DARK, 4, "#fff"];
    const place = /** @type {const} */ ([shape.type, Math.max(x, 4), Math.max(y - 4, 18)]);
    c.strokeText(...place);
    c.fillText(...place);
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

  /** @param {Outline} shape @param {boolean} selected @param {number} opacity */
  #outline(shape, selected, opacity) {
    const c = this.#context;
    const path = outline(cornersOf(shape));
    c.globalAlpha = opacity * (selected ? 0.35 : 0.15);
    c.fillStyle = BOX;
    c.fill(path, "evenodd");
    c.globalAlpha = 1;
    this.#line(path, BOX, selected ? 2.5 : 2);
    if (!selected) return;
    for (const corner of cornersOf(shape)) this.#knob(corner, 4.5);
    if ("rotated" in shape) this.#knob(knobOf(shape.rotated, KNOB / this.#scale), 5.5);
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
  for (const shape of doc.shapes) {
    const isMask = "mask" in shape;
    const path = isMask ? shape.mask.path : outline(cornersOf(shape));
    c.strokeStyle = isMask ? MASK : BOX;
    if (isMask) c.fill(path, "evenodd");
    c.stroke(path);
  }
}
