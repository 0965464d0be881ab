// @ts-check
// The canvas: turns pointers and keys into shapes. `view.js` places the picture, `painter.js` paints it.

import {
  along,
  clip,
  contains,
  cornersOf,
  inside,
  knobOf,
  moved,
  resized,
  rimDistance,
  turned,
  upright,
} from "./boxes.js";
import { Mask } from "./mask.js";
import { KNOB, Painter } from "./painter.js";
import { maskOf, withMask } from "./picture.js";
import { View } from "./view.js";

/** @import { Outline, Point, Rotated } from "./boxes.js" */
/** @import { Raster } from "./library.js" */
/** @import { Doc, Shape } from "./picture.js" */

/** @typedef {"click" | "rotated" | "box" | "polygon" | "line" | "brush" | "eraser"} Tool */
/** @typedef {{ index: number, shape: Outline }} Listed A box or polygon of the document. */
/** @typedef {Listed & { kind: "resize", corner: number }
 *         | Listed & { kind: "turn", center: Point }
 *         | Listed & { kind: "move" }} Grip What a pointer takes hold of. */
/** @typedef {{ kind: "stroke", erase: boolean, last: Point, shapes: Shape[] }} Stroke */
/** @typedef {{ kind: "upright", from: Point, to: Point }
 *         | { kind: "axis", from: Point, to: Point }} Span */
/** @typedef {{ kind: "width", axis: [Point, Point], made: Rotated }} Width */
/** @typedef {{ kind: "polygon", open: boolean, points: Point[], to: Point }} Corners Set so far, and where the next
 *          would be; open for a line. */
/** @typedef {Grip & { from: Point, made: Outline | null }} Grab */
/** @typedef {Stroke | Span | Width | Corners | Grab} Gesture */
/** @typedef {{ at: Point, from: Point, touch: boolean, drawing: boolean, panning: boolean,
 *              tap: boolean | null }} Pointer */

/**
 * What the canvas shows.
 * @typedef {object} Scene
 * @property {number | null} id
 * @property {Raster | null} image
 * @property {Raster | null} map
 * @property {Raster | null} nearest
 * @property {number} width
 * @property {number} height
 * @property {Doc | null} doc
 * @property {{ mask: Mask } | null} suggestion
 */

/**
 * What the page does with finished shapes and other changes.
 * @typedef {object} Hooks
 * @property {(point: Point, positive: boolean) => void} click
 * @property {(shapes: Shape[]) => void} stroke
 * @property {(points: Point[]) => void} line
 * @property {(shape: Outline) => void} add
 * @property {(index: number, shape: Outline) => void} change
 * @property {() => void} selection
 * @property {() => void} hint
 * @property {() => void} view
 */

const nothing = () => {};

export class Stage {
  /** @type {Scene} Call `redraw` after changing it. */
  scene = {
    id: null,
    image: null,
    map: null,
    nearest: null,
    doc: null,
    suggestion: null,
    width: 1,
    height: 1,
  };
  show = { mask: true, map: false, nearest: false };
  opacity = 0.6;
  /** How the picture is shown, as a multiple. Nothing is judged by it. */
  brightness = 1;
  contrast = 1;
  /** @type {Tool} */
  tool = "click";
  brush = 24;
  negative = false;
  enabled = false;
  /** @type {string | null} The type of what is painted next. */
  type = null;
  /** @type {number | null} The selected shape. */
  selected = null;
  /** @type {Hooks} */
  hooks = {
    click: nothing,
    line: nothing,
    stroke: nothing,
    add: nothing,
    change: nothing,
    selection: nothing,
    hint: nothing,
    view: nothing,
  };
  view = new View(() => {
    this.hooks.view();
    this.redraw();
  });
  /** @type {Gesture | null} */
  gesture = null;
  /** @type {Point | null} The mouse, on the canvas. */
  hover = null;
  /** @type {Point | null} The keyboard's pointer, on the picture. */
  cursor = null;
  space = false;
  #spaceUsed = false;
  /** @type {Map<number, Pointer>} */
  #pointers = new Map();
  #frame = 0;
  #painter;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.#painter = new Painter(canvas);
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#lost(event));
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.redraw();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    // The middle button would scroll or paste otherwise.
    canvas.addEventListener("auxclick", (event) => event.preventDefault());
    canvas.addEventListener("mousedown", (event) => {
      if (event.button === 1) event.preventDefault();
    });
  }

  /**
   * Shows a picture.
   * @param {Scene} scene
   */
  present(scene) {
    const other =
      this.scene.id !== scene.id || this.scene.width !== scene.width || this.scene.height !== scene.height;
    this.scene = scene;
    this.view.picture = { width: scene.width, height: scene.height };
    // Another tab may have removed it.
    if (this.selected !== null && this.selected >= (scene.doc?.shapes.length ?? 0)) this.selected = null;
    if (other) {
      this.cancel();
      [this.selected, this.cursor] = [null, null];
      this.view.fit();
    }
    this.redraw();
  }

  redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#painter.paint(this);
    });
  }

  get drawing() {
    return this.gesture !== null;
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    /** @type {(length: number) => number} */
    const pixels = (length) => Math.max(1, Math.round(length * ratio));
    this.#painter.resize(pixels(clientWidth), pixels(clientHeight));
    this.view.resize(clientWidth || 1, clientHeight || 1, ratio);
    this.#painter.paint(this);
  }

  /**
   * @param {MouseEvent} event
   * @returns {Point}
   */
  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // --- pointers ---

  /** @param {PointerEvent} event */
  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.cursor = null;
    const at = this.#at(event);
    const touch = event.pointerType === "touch";
    /** @type {Pointer} */
    const pointer = { at, from: at, touch, drawing: false, panning: false, tap: null };
    this.#pointers.set(event.pointerId, pointer);
    const fingers = [...this.#pointers.values()].filter((p) => p.touch);
    if (touch && fingers.length > 1) {
      // A second finger: the first one does not draw.
      for (const finger of fingers) [finger.drawing, finger.panning, finger.tap] = [false, true, null];
      if (this.gesture?.kind !== "polygon") this.cancel();
      return;
    }
    if (event.button === 1 || this.space) {
      pointer.panning = true;
      this.#spaceUsed = true;
      this.canvas.style.cursor = "grabbing";
      return;
    }
    const negative = (event.button === 2 || event.shiftKey) !== this.negative;
    // A second finger may follow: a tap counts when the finger is lifted.
    const corner =
      this.tool === "line" ||
      (this.tool === "polygon" && (this.drawing || !this.#grip(this.view.toPicture(at), true)));
    if (touch && (this.tool === "click" || corner)) pointer.tap = negative;
    else if (event.button === 0 || ["click", "brush", "eraser"].includes(this.tool)) {
      pointer.drawing = true;
      this.hover = at;
      this.begin(this.view.toPicture(at), negative, touch);
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    const at = this.#at(event);
    if (!pointer) {
      if (event.pointerType === "touch") return;
      [this.hover, this.cursor] = [at, null];
      this.move(this.view.toPicture(at));
      this.#point();
      this.redraw();
      return;
    }
    const fingers = [...this.#pointers.values()].filter((p) => p.touch && p.panning);
    if (pointer.panning && fingers.length === 2) {
      const other = fingers.find((p) => p !== pointer) ?? fingers[0];
      /** @type {(p: Point) => Point} */
      const middle = (p) => [(p[0] + other.at[0]) / 2, (p[1] + other.at[1]) / 2];
      /** @type {(p: Point) => number} */
      const apart = (p) => Math.hypot(p[0] - other.at[0], p[1] - other.at[1]) || 1;
      const [was, is] = [middle(pointer.at), middle(at)];
      this.view.pan(is[0] - was[0], is[1] - was[1]);
      this.view.zoom(apart(at) / apart(pointer.at), is);
    } else if (pointer.panning) {
      this.view.pan(at[0] - pointer.at[0], at[1] - pointer.at[1]);
    } else if (pointer.drawing) {
      if (!pointer.touch) this.hover = at;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length && this.gesture?.kind === "stroke" ? all : [event]) {
        this.move(this.view.toPicture(this.#at(each)));
      }
    }
    if (Math.hypot(at[0] - pointer.from[0], at[1] - pointer.from[1]) > 10) pointer.tap = null;
    pointer.at = at;
    this.redraw();
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    this.#pointers.delete(event.pointerId);
    const at = this.view.toPicture(this.#at(event));
    if (pointer.tap !== null) this.begin(at, pointer.tap, true);
    else if (pointer.drawing) this.end(at);
    this.#point();
    this.redraw();
  }

  /** @param {PointerEvent} event */
  #lost(event) {
    const pointer = this.#pointers.get(event.pointerId);
    this.#pointers.delete(event.pointerId);
    if (pointer?.drawing) this.cancel();
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    // A pinch on a touch pad arrives as small wheel steps with Ctrl.
    this.view.zoom(
      Math.exp(-Math.max(-240, Math.min(240, pixels)) * (event.ctrlKey ? 0.01 : 0.002)),
      this.#at(event),
    );
  }

  /** Shows what the pointer would do. */
  #point() {
    let cursor = "crosshair";
    if (this.space) cursor = "grab";
    else if (!this.enabled) cursor = "default";
    else if (this.tool === "brush" || this.tool === "eraser") cursor = "none";
    else if (this.hover && this.#isBoxTool) {
      const grip = this.#grip(this.view.toPicture(this.hover), false);
      if (grip) cursor = { resize: "nwse-resize", turn: "grab", move: "move" }[grip.kind];
    }
    this.canvas.style.cursor = cursor;
  }

  /**
   * Presses or releases the space bar. Returns whether the picture was panned with it.
   * @param {boolean} space
   */
  hold(space) {
    const used = this.#spaceUsed;
    if (space !== this.space) this.#spaceUsed = false;
    this.space = space;
    this.#point();
    return used;
  }

  // --- drawing: one point begins, others follow, one ends ---

  get #isBoxTool() {
    return this.tool === "box" || this.tool === "rotated" || this.tool === "polygon";
  }

  /** @param {Point} point @param {boolean} negative @param {boolean} [touch] */
  begin(point, negative, touch = false) {
    const { scene } = this;
    if (!this.enabled || !scene.doc) return;
    const grip = this.#isBoxTool && !this.drawing ? this.#grip(point, touch) : null;
    // What is drawn next has the type that is shown while nothing is selected.
    if (!this.drawing) this.selected = grip?.index ?? null;
    this.hooks.selection();
    if (this.tool === "click") {
      if (inside(point, scene)) this.hooks.click(point, !negative);
    } else if (this.tool === "brush" || this.tool === "eraser") {
      const erase = (this.tool === "eraser") !== negative;
      this.gesture = { kind: "stroke", erase, last: point, shapes: scene.doc.shapes };
      this.move(point);
    } else if (this.gesture?.kind === "width") {
      this.move(point);
    } else if (this.gesture?.kind === "polygon") {
      const at = clip(point, scene);
      const { points, open } = this.gesture;
      // A polygon ends where it began, a line where it is.
      const last = points[open ? points.length - 1 : 0];
      const reach = (touch ? 22 : 9) / this.view.scale;
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) <= reach) this.finish();
      else this.gesture = { ...this.gesture, points: [...points, at], to: at };
    } else {
      const at = clip(point, scene);
      if (grip) {
        this.gesture = /** @type {Grab} */ ({ ...grip, from: point, made: null });
      } else if (this.tool === "polygon" || this.tool === "line") {
        this.gesture = { kind: "polygon", open: this.tool === "line", points: [at], to: at };
        this.hooks.hint();
      } else {
        this.gesture = { kind: this.tool === "box" ? "upright" : "axis", from: at, to: at };
      }
    }
    this.redraw();
  }

  /** @param {Point} point */
  move(point) {
    const { gesture, scene } = this;
    if (!gesture || !scene.doc) return;
    if (gesture.kind === "stroke") {
      gesture.shapes = this.#stroked(gesture, point);
      gesture.last = point;
    } else if (gesture.kind === "upright" || gesture.kind === "axis" || gesture.kind === "polygon") {
      gesture.to = clip(point, scene);
    } else if (gesture.kind === "width") {
      gesture.made = along(gesture.axis, point);
    } else {
      const { shape } = gesture;
      /** @type {Point} */
      const by = [point[0] - gesture.from[0], point[1] - gesture.from[1]];
      if (gesture.kind === "move") {
        // A small movement only selects.
        if (gesture.made || Math.hypot(...by) * this.view.scale > 3) gesture.made = moved(shape, by, scene);
      } else if (gesture.kind === "resize") {
        gesture.made = resized(shape, gesture.corner, point, scene) ?? gesture.made;
      } else if ("rotated" in shape) {
        const [cx, cy] = gesture.center;
        /** @type {(at: Point) => number} */
        const angle = ([x, y]) => Math.atan2(y - cy, x - cx);
        gesture.made = { rotated: turned(shape.rotated, angle(point) - angle(gesture.from)) };
      }
    }
    this.redraw();
  }

  /**
   * The shapes with a stroke: of the chosen type, or erased from all masks.
   * @param {Stroke} stroke
   * @param {Point} to
   */
  #stroked({ shapes, last, erase }, to) {
    const { width, height } = this.scene;
    /** @type {(mask: Mask) => Mask} */
    const stroke = (mask) => mask.stroke(last, to, this.brush / 2, erase);
    if (erase) return shapes.map((shape) => ("mask" in shape ? { ...shape, mask: stroke(shape.mask) } : shape));
    return withMask(shapes, this.type, stroke(maskOf(shapes, this.type) ?? Mask.empty(width, height)));
  }

  /** Ends the polygon or line that is being drawn, if it has enough points. Returns whether one was drawn. */
  finish() {
    if (this.gesture?.kind !== "polygon") return false;
    const { open } = this.gesture;
    /** @type {Point[]} */
    const points = this.gesture.points.map(([x, y]) => [Math.round(x * 10) / 10, Math.round(y * 10) / 10]);
    if (points.length > (open ? 1 : 2)) {
      this.gesture = null;
      if (open) this.hooks.line(points);
      else this.hooks.add({ polygon: points });
      this.redraw();
    }
    return true;
  }

  /** Takes back what was drawn last of an unfinished shape. */
  back() {
    const { gesture } = this;
    if (gesture?.kind !== "polygon" || gesture.points.length < 2) return void this.cancel();
    this.gesture = { ...gesture, points: gesture.points.slice(0, -1) };
    this.redraw();
  }

  /** Selects the next shape, after the last one none. */
  cycle() {
    const next = this.selected === null ? 0 : this.selected + 1;
    this.selected = next < (this.scene.doc?.shapes.length ?? 0) ? next : null;
    this.hooks.selection();
    this.redraw();
  }

  /** @param {Point} point */
  end(point) {
    if (this.gesture?.kind === "polygon") return;
    this.move(point);
    const gesture = this.gesture;
    if (!gesture) return;
    this.gesture = null;
    const far =
      "to" in gesture ? Math.hypot(gesture.to[0] - gesture.from[0], gesture.to[1] - gesture.from[1]) : 0;
    if (gesture.kind === "stroke") this.hooks.stroke(gesture.shapes);
    else if (gesture.kind === "upright") {
      const box = far * this.view.scale > 4 ? upright(gesture.from, gesture.to) : null;
      if (box) this.hooks.add({ box });
      else this.#select(point);
    } else if (gesture.kind === "axis") {
      if (far * this.view.scale > 6 && far >= 1) {
        /** @type {[Point, Point]} */
        const axis = [gesture.from, gesture.to];
        this.gesture = { kind: "width", axis, made: along(axis, gesture.to) };
        this.hooks.hint();
      } else this.#select(point);
    } else if (gesture.kind === "width") this.hooks.add({ rotated: gesture.made });
    else if (gesture.made) this.hooks.change(gesture.index, gesture.made);
    this.redraw();
  }

  /** Drops the unfinished shape and the selection. Returns false if there was neither. */
  cancel() {
    const had = this.gesture !== null || this.selected !== null;
    [this.gesture, this.selected] = [null, null];
    this.hooks.selection();
    this.redraw();
    return had;
  }

  // --- the keyboard's own pointer ---

  /** @param {number} dx @param {number} dy In CSS pixels. */
  nudge(dx, dy) {
    const { width, height } = this.scene;
    const { width: w, height: h } = this.view;
    const start =
      this.cursor ?? (this.hover ? this.view.toPicture(this.hover) : this.view.toPicture([w / 2, h / 2]));
    this.cursor = this.cursor
      ? clip([start[0] + dx / this.view.scale, start[1] + dy / this.view.scale], { width, height })
      : clip(start, { width, height });
    this.hover = null;
    // The pointer stays in view.
    const [x, y] = this.view.toScreen(this.cursor);
    /** @type {(at: number, room: number) => number} */
    const out = (at, room) => (at < 30 ? 30 - at : at > room - 30 ? room - 30 - at : 0);
    if (!this.view.fitted) this.view.pan(out(x, w), out(y, h));
    this.move(this.cursor);
    this.redraw();
  }

  /**
   * Presses the button at the keyboard's pointer; the next call releases it.
   * @param {boolean} negative
   */
  press(negative) {
    if (!this.cursor) return this.nudge(0, 0);
    const kind = this.gesture?.kind;
    if (kind === "stroke" || kind === "upright" || kind === "axis" || kind === "width")
      this.end(this.cursor);
    else {
      this.begin(this.cursor, negative);
      // The keyboard only selects shapes.
      if (this.gesture && "index" in this.gesture) this.gesture = null;
    }
  }

  // --- shapes under the pointer ---

  /** @returns {Listed[]} */
  outlines() {
    return (this.scene.doc?.shapes ?? []).flatMap((shape, index) => ("mask" in shape ? [] : { index, shape }));
  }

  /**
   * What a pointer takes hold of.
   * @param {Point} point
   * @param {boolean} touch
   * @returns {Grip | null}
   */
  #grip(point, touch) {
    const reach = (touch ? 22 : 9) / this.view.scale;
    /** @type {(at: Point) => boolean} */
    const near = ([x, y]) => Math.hypot(x - point[0], y - point[1]) <= reach;
    const all = this.outlines();
    const chosen = all.find(({ index }) => index === this.selected);
    if (chosen) {
      const { shape } = chosen;
      const corner = cornersOf(shape).findIndex(near);
      if (corner >= 0) return { ...chosen, kind: "resize", corner };
      if ("rotated" in shape && near(knobOf(shape.rotated, KNOB / this.view.scale))) {
        const [a, , c] = shape.rotated;
        return { ...chosen, kind: "turn", center: [(a[0] + c[0]) / 2, (a[1] + c[1]) / 2] };
      }
      if (contains(shape, point)) return { ...chosen, kind: "move" };
    }
    const rim = all.findLast(({ shape }) => rimDistance(shape, point) <= reach / 2);
    return rim ? { ...rim, kind: "move" } : null;
  }

  /** @param {Point} point */
  #select(point) {
    const shapes = this.scene.doc?.shapes ?? [];
    const hit = (/** @type {Shape} */ shape) =>
      "mask" in shape ? shape.mask.contains(point) : contains(shape, point);
    // Boxes lie over masks.
    const at = this.outlines().findLast(({ shape }) => contains(shape, point))?.index ?? shapes.findLastIndex(hit);
    this.selected = at < 0 ? null : at;
    this.hooks.selection();
  }
}
