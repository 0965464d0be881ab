// The canvas: shows a picture with what is drawn on it, and turns the hands of whoever draws into shapes.

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

const MASK = "#ff2e9a";
const BOX = "#19b5fe";
const DARK = "rgb(0 0 0 / 0.65)";
const MARGIN = 14;
const CRISP_FROM = 1.5;
const KNOB = 26;

export class Stage {
  /** What is to be seen; `redraw` after changing it. */
  scene = { image: null, map: null, nearest: null, doc: null, suggestion: null, width: 1, height: 1 };
  show = { mask: true, map: false, nearest: false };
  opacity = 0.6;
  tool = "click";
  brush = 24;
  negative = false;
  enabled = false;
  /** The selected box: `{ kind: "boxes" | "rotated", index }`. */
  selected = null;
  #view = { scale: 1, x: 0, y: 0, fitted: true };
  #size = { width: 1, height: 1, ratio: 1 };
  #pointers = new Map();
  #gesture = null;
  #hover = null;
  #cursor = null;
  #space = false;
  #spaceUsed = false;
  #frame = 0;
  #layer = document.createElement("canvas");
  #made = [];

  constructor(canvas, hooks) {
    [this.canvas, this.hooks] = [canvas, hooks];
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    const listen = (type, run, options) => canvas.addEventListener(type, run.bind(this), options);
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#lost);
    listen("pointerleave", () => {
      this.#hover = null;
      this.redraw();
    });
    listen("contextmenu", (event) => event.preventDefault());
    listen("wheel", this.#wheel, { passive: false });
    // The middle button would otherwise scroll, or paste.
    listen("auxclick", (event) => event.preventDefault());
    listen("mousedown", (event) => event.button === 1 && event.preventDefault());
  }

  /** Shows another picture, as a whole. */
  present(scene) {
    const other =
      this.scene.id !== scene.id || this.scene.width !== scene.width || this.scene.height !== scene.height;
    this.scene = scene;
    if (other) {
      this.cancel();
      [this.selected, this.#cursor] = [null, null];
      this.fit();
    }
    this.redraw();
  }

  redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  // --- the view ---

  get scale() {
    return this.#view.scale;
  }

  get drawing() {
    return this.#gesture !== null;
  }

  fit() {
    const { width, height } = this.#size;
    const scale = this.#fitting();
    const [x, y] = [(width - this.scene.width * scale) / 2, (height - this.scene.height * scale) / 2];
    this.#view = { scale, x, y, fitted: true };
    this.hooks.view();
    this.redraw();
  }

  zoom(factor, at) {
    const { width, height } = this.#size;
    const [cx, cy] = at ?? [width / 2, height / 2];
    const { scale, x, y } = this.#view;
    const next = Math.min(Math.max(scale * factor, this.#fitting() * 0.8), Math.max(64, this.#fitting()));
    const by = next / scale;
    this.#place(next, cx - (cx - x) * by, cy - (cy - y) * by);
  }

  pan(dx, dy) {
    this.#place(this.#view.scale, this.#view.x + dx, this.#view.y + dy);
  }

  #fitting() {
    const { width, height } = this.#size;
    const room = (whole) => Math.max(whole - 2 * MARGIN, 16);
    return Math.min(room(width) / this.scene.width, room(height) / this.scene.height);
  }

  // The middle of the canvas stays on the picture, so that it is never lost from sight.
  #place(scale, x, y) {
    const { width, height } = this.#size;
    const keep = (at, length, room) => Math.min(Math.max(at, room / 2 - length * scale), room / 2);
    this.#view = {
      scale,
      x: keep(x, this.scene.width, width),
      y: keep(y, this.scene.height, height),
      fitted: false,
    };
    this.hooks.view();
    this.redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    const before = this.#size;
    this.#made = [];
    this.#size = { width: clientWidth || 1, height: clientHeight || 1, ratio };
    for (const canvas of [this.canvas, this.#layer]) {
      canvas.width = Math.max(1, Math.round(clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    }
    if (this.#view.fitted) this.fit();
    else this.pan((this.#size.width - before.width) / 2, (this.#size.height - before.height) / 2);
    this.#draw();
  }

  #toPicture(x, y) {
    const { scale, x: left, y: top } = this.#view;
    return [(x - left) / scale, (y - top) / scale];
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  // --- pointers ---

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.#cursor = null;
    const at = this.#at(event);
    const touch = event.pointerType === "touch";
    const pointer = { at, from: at, touch, drawing: false, panning: false, tap: null };
    this.#pointers.set(event.pointerId, pointer);
    const fingers = [...this.#pointers.values()].filter((p) => p.touch);
    if (touch && fingers.length > 1) {
      // A second finger: the first did not mean to draw.
      for (const finger of fingers) [finger.drawing, finger.panning, finger.tap] = [false, true, null];
      this.cancel();
      return;
    }
    if (event.button === 1 || this.#space) {
      pointer.panning = true;
      this.#spaceUsed = true;
      this.canvas.style.cursor = "grabbing";
      return;
    }
    const negative = (event.button === 2 || event.shiftKey) !== this.negative;
    // A finger may be the first of two: a tap counts when it is lifted.
    if (touch && this.tool === "click") pointer.tap = negative;
    else if (event.button === 0 || ["click", "brush", "eraser"].includes(this.tool)) {
      pointer.drawing = true;
      this.#hover = at;
      this.begin(this.#toPicture(...at), negative, touch);
    }
  }

  #move(event) {
    const pointer = this.#pointers.get(event.pointerId);
    const at = this.#at(event);
    if (!pointer) {
      if (event.pointerType === "touch") return;
      [this.#hover, this.#cursor] = [at, null];
      this.move(this.#toPicture(...at));
      this.#point();
      this.redraw();
      return;
    }
    const fingers = [...this.#pointers.values()].filter((p) => p.touch && p.panning);
    if (pointer.panning && fingers.length === 2) {
      const other = fingers.find((p) => p !== pointer) ?? fingers[0];
      const middle = (p) => [(p[0] + other.at[0]) / 2, (p[1] + other.at[1]) / 2];
      const apart = (p) => Math.hypot(p[0] - other.at[0], p[1] - other.at[1]) || 1;
      const [was, is] = [middle(pointer.at), middle(at)];
      this.pan(is[0] - was[0], is[1] - was[1]);
      this.zoom(apart(at) / apart(pointer.at), is);
    } else if (pointer.panning) {
      this.pan(at[0] - pointer.at[0], at[1] - pointer.at[1]);
    } else if (pointer.drawing) {
      if (!pointer.touch) this.#hover = at;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const e of all.length && this.#gesture?.kind === "stroke" ? all : [event]) {
        this.move(this.#toPicture(...this.#at(e)));
      }
    }
    if (pointer.tap !== null && Math.hypot(at[0] - pointer.from[0], at[1] - pointer.from[1]) > 10)
      pointer.tap = null;
    pointer.at = at;
    this.redraw();
  }

  #up(event) {
    const pointer = this.#pointers.get(event.pointerId);
    if (!pointer) return;
    this.#pointers.delete(event.pointerId);
    const at = this.#toPicture(...this.#at(event));
    if (pointer.tap !== null) this.begin(at, pointer.tap, true);
    else if (pointer.drawing) this.end(at);
    this.#point();
    this.redraw();
  }

  #lost(event) {
    const pointer = this.#pointers.get(event.pointerId);
    this.#pointers.delete(event.pointerId);
    if (pointer?.drawing) this.cancel();
  }

  #wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    // A pinch on a touch pad arrives as a wheel with Ctrl, in small steps.
    this.zoom(
      Math.exp(-Math.max(-240, Math.min(240, pixels)) * (event.ctrlKey ? 0.01 : 0.002)),
      this.#at(event),
    );
  }

  #point() {
    let cursor = "crosshair";
    if (this.#space) cursor = "grab";
    else if (!this.enabled) cursor = "default";
    else if (this.tool === "brush" || this.tool === "eraser") cursor = "none";
    else if (this.#hover && this.#isBoxTool) {
      const grip = this.#grip(this.#toPicture(...this.#hover), false);
      if (grip) cursor = { resize: "nwse-resize", turn: "grab", move: "move" }[grip.kind];
    }
    this.canvas.style.cursor = cursor;
  }

  /** Whether the space bar is held; told whether it moved anything when it is let go. */
  hold(space) {
    const used = this.#spaceUsed;
    if (space !== this.#space) this.#spaceUsed = false;
    this.#space = space;
    this.#point();
    return used;
  }

  // --- drawing: one point begins, others follow, one ends ---

  get #isBoxTool() {
    return this.tool === "box" || this.tool === "rotated";
  }

  begin(point, negative, touch = false) {
    if (!this.enabled) return;
    const { scene } = this;
    if (this.tool === "click") {
      if (inside(point, scene)) this.hooks.click(point, !negative);
    } else if (this.tool === "brush" || this.tool === "eraser") {
      const erase = (this.tool === "eraser") !== negative;
      const before = scene.doc.mask ?? Mask.empty(scene.width, scene.height);
      this.#gesture = {
        kind: "stroke",
        erase,
        last: point,
        mask: before.stroke(point, point, this.brush / 2, erase),
      };
    } else if (this.#gesture?.kind === "width") {
      this.move(point);
    } else {
      const grip = this.#grip(point, touch);
      if (grip) {
        this.selected = { kind: grip.of, index: grip.index };
        this.#gesture = { ...grip, from: point, made: null };
      } else {
        this.#gesture = {
          kind: this.tool === "box" ? "upright" : "axis",
          from: clip(point, scene),
          to: clip(point, scene),
          touch,
        };
      }
      this.hooks.selection();
    }
    this.redraw();
  }

  move(point) {
    const gesture = this.#gesture;
    if (!gesture) return;
    const { scene } = this;
    if (gesture.kind === "stroke") {
      gesture.mask = gesture.mask.stroke(gesture.last, point, this.brush / 2, gesture.erase);
      gesture.last = point;
    } else if (gesture.kind === "upright" || gesture.kind === "axis") {
      gesture.to = clip(point, scene);
    } else if (gesture.kind === "width") {
      gesture.made = along(gesture.axis, point);
    } else {
      const box = scene.doc[gesture.of][gesture.index];
      const by = [point[0] - gesture.from[0], point[1] - gesture.from[1]];
      if (gesture.kind === "move") {
        // A hand that only selects trembles a little.
        if (gesture.made || Math.hypot(...by) * this.scale > 3) gesture.made = moved(box, by, scene);
      } else if (gesture.kind === "resize") {
        gesture.made = resized(box, gesture.corner, point, scene) ?? gesture.made;
      } else {
        const [cx, cy] = gesture.center;
        const angle = ([x, y]) => Math.atan2(y - cy, x - cx);
        gesture.made = turned(box, angle(point) - angle(gesture.from));
      }
    }
    this.redraw();
  }

  end(point) {
    if (this.#gesture?.kind !== "stroke") this.move(point);
    const gesture = this.#gesture;
    if (!gesture) return;
    this.#gesture = null;
    const far =
      gesture.from &&
      gesture.to &&
      Math.hypot(gesture.to[0] - gesture.from[0], gesture.to[1] - gesture.from[1]);
    if (gesture.kind === "stroke") this.hooks.stroke(gesture.mask);
    else if (gesture.kind === "upright") {
      const box = far * this.scale > 4 && upright(gesture.from, gesture.to);
      if (box) this.hooks.addBox("boxes", box);
      else this.#select(point);
    } else if (gesture.kind === "axis") {
      if (far * this.scale > 6 && far >= 1) {
        const axis = [gesture.from, gesture.to];
        this.#gesture = { kind: "width", axis, made: along(axis, gesture.to) };
        this.hooks.hint();
      } else this.#select(point);
    } else if (gesture.kind === "width") this.hooks.addBox("rotated", gesture.made);
    else if (gesture.made) this.hooks.changeBox(gesture.of, gesture.index, gesture.made);
    this.redraw();
  }

  /** Leaves what is half drawn; false where nothing was. */
  cancel() {
    const had = this.#gesture !== null || this.selected !== null;
    [this.#gesture, this.selected] = [null, null];
    this.hooks.selection();
    this.redraw();
    return had;
  }

  /** What the next movement does, for the hint. */
  get stage() {
    return this.#gesture?.kind ?? null;
  }

  // --- the keyboard's own pointer ---

  nudge(dx, dy) {
    const { width, height } = this.scene;
    const { width: w, height: h } = this.#size;
    const start =
      this.#cursor ?? (this.#hover ? this.#toPicture(...this.#hover) : this.#toPicture(w / 2, h / 2));
    this.#cursor = this.#cursor
      ? clip([start[0] + dx / this.scale, start[1] + dy / this.scale], { width, height })
      : clip(start, { width, height });
    this.#hover = null;
    // What one steers stays in sight.
    const [x, y] = this.#toScreen(this.#cursor);
    const out = (at, room) => (at < 30 ? 30 - at : at > room - 30 ? room - 30 - at : 0);
    if (!this.#view.fitted) this.pan(out(x, w), out(y, h));
    this.move(this.#cursor);
    this.redraw();
  }

  /** As if the button was pressed, and at the next time let go, where the keyboard's pointer is. */
  press(negative) {
    if (!this.#cursor) return this.nudge(0, 0);
    const kind = this.#gesture?.kind;
    if (kind === "stroke" || kind === "upright" || kind === "axis" || kind === "width")
      this.end(this.#cursor);
    else {
      this.begin(this.#cursor, negative);
      // Boxes are taken hold of by mouse or finger alone: here one only selects them.
      if (this.#gesture?.of) this.#gesture = null;
    }
  }

  #toScreen([x, y]) {
    const { scale, x: left, y: top } = this.#view;
    return [x * scale + left, y * scale + top];
  }

  // --- boxes under the pointer ---

  #boxes() {
    const { doc } = this.scene;
    if (!doc) return [];
    const list = (of) => doc[of].map((box, index) => ({ of, index, box }));
    return [...list("boxes"), ...list("rotated")];
  }

  #isSelected({ of, index }) {
    return this.selected?.kind === of && this.selected.index === index;
  }

  #grip(point, touch) {
    const reach = (touch ? 22 : 9) / this.scale;
    const near = ([x, y]) => Math.hypot(x - point[0], y - point[1]) <= reach;
    const all = this.#boxes();
    const chosen = all.find((b) => this.#isSelected(b));
    if (chosen) {
      const corner = cornersOf(chosen.box).findIndex(near);
      if (corner >= 0) return { ...chosen, kind: "resize", corner };
      if (chosen.of === "rotated" && near(knobOf(chosen.box, KNOB / this.scale))) {
        const [a, , c] = chosen.box;
        return { ...chosen, kind: "turn", center: [(a[0] + c[0]) / 2, (a[1] + c[1]) / 2] };
      }
      if (contains(chosen.box, point)) return { ...chosen, kind: "move" };
    }
    const rim = all.findLast((b) => rimDistance(b.box, point) <= reach / 2);
    return rim ? { ...rim, kind: "move" } : null;
  }

  #select(point) {
    const hit = this.#boxes().findLast((b) => contains(b.box, point));
    this.selected = hit ? { kind: hit.of, index: hit.index } : null;
    this.hooks.selection();
  }

  // --- painting ---

  #draw() {
    const { context: c, scene, show } = this;
    const { width, height, ratio } = this.#size;
    const { scale, x, y } = this.#view;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    if (!scene.image) return;
    const picture = () => c.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    this.#back();
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(this.#layer, 0, 0);
    picture();
    const { doc } = scene;
    if (!doc) return;
    const gesture = this.#gesture;
    const mask = gesture?.kind === "stroke" ? gesture.mask : doc.mask;
    if (show.mask && mask) {
      c.globalAlpha = this.opacity * 0.6;
      c.fillStyle = MASK;
      c.fill(mask.path, "evenodd");
      c.globalAlpha = 1;
      this.#line(mask.path, MASK, 1.75);
    }
    if (show.mask && scene.suggestion && !gesture) {
      this.#line(scene.suggestion.mask.path, "#fff", 1.75, [7, 6]);
    }
    if (show.mask) {
      for (const b of this.#boxes()) {
        const changed = gesture?.of === b.of && gesture.index === b.index && gesture.made;
        this.#box(changed || b.box, this.#isSelected(b));
      }
      if (gesture?.kind === "upright") {
        const box = upright(gesture.from, gesture.to);
        if (box) this.#box(box, false);
      } else if (gesture?.kind === "axis") {
        const path = new Path2D();
        path.moveTo(...gesture.from);
        path.lineTo(...gesture.to);
        this.#line(path, BOX, 2);
      } else if (gesture?.kind === "width") this.#box(gesture.made, false);
    }
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (show.mask) doc.clicks.forEach((click) => this.#mark(click));
    if (this.enabled) this.#pen();
  }

  /** What lies behind all that is drawn; made anew only where it differs. */
  #back() {
    const { scene, show, opacity } = this;
    const { width, height, ratio } = this.#size;
    const { scale, x, y } = this.#view;
    const map = show.map && scene.map;
    const nearest = show.nearest && scene.nearest;
    const made = [scene.image, map, nearest, map && opacity, width, height, ratio, scale, x, y];
    if (made.every((value, i) => value === this.#made[i])) return;
    this.#made = made;
    const c = this.#layer.getContext("2d");
    c.reset();
    c.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
    c.imageSmoothingQuality = "high";
    for (const image of [scene.image, nearest, map].filter(Boolean)) {
      const { small } = image;
      const best = small && scale * ratio * scene.width <= small.width ? small : image;
      // Pixels of the picture are seen as they are; what was made of fewer is smooth.
      c.imageSmoothingEnabled = image !== scene.image || scale * ratio < CRISP_FROM;
      if (image === map) c.globalAlpha = opacity;
      c.drawImage(best, 0, 0, scene.width, scene.height);
    }
  }

  /** A line in the picture's pixels, as wide everywhere on the screen, with a dark rim. */
  #line(path, color, width, dash = []) {
    const { context: c, scale } = this;
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

  #box(box, selected) {
    const { context: c, scale } = this;
    const outline = (points) => {
      const path = new Path2D();
      points.forEach((p, i) => (i ? path.lineTo(...p) : path.moveTo(...p)));
      path.closePath();
      return path;
    };
    const path = outline(cornersOf(box));
    c.globalAlpha = this.opacity * (selected ? 0.35 : 0.15);
    c.fillStyle = BOX;
    c.fill(path);
    c.globalAlpha = 1;
    this.#line(path, BOX, selected ? 2.5 : 2);
    if (!selected) return;
    const knob = (point, radius) => {
      const dot = new Path2D();
      dot.arc(...point, radius / scale, 0, 2 * Math.PI);
      this.#line(dot, BOX, 2);
      c.fillStyle = "#fff";
      c.fill(dot);
    };
    for (const corner of cornersOf(box)) knob(corner, 4.5);
    if (Array.isArray(box[0])) knob(knobOf(box, KNOB / scale), 5.5);
  }

  #mark({ x, y, positive }) {
    const { context: c } = this;
    const [sx, sy] = this.#toScreen([x, y]);
    c.beginPath();
    c.arc(sx, sy, 7.5, 0, 2 * Math.PI);
    c.fillStyle = positive ? "#0a8f6c" : "#c8102e";
    c.fill();
    c.lineWidth = 1.75;
    c.strokeStyle = "#fff";
    c.stroke();
    c.beginPath();
    c.moveTo(sx - 3.5, sy);
    c.lineTo(sx + 3.5, sy);
    if (positive) {
      c.moveTo(sx, sy - 3.5);
      c.lineTo(sx, sy + 3.5);
    }
    c.stroke();
  }

  /** The brush's rim, and the keyboard's pointer. */
  #pen() {
    const { context: c } = this;
    const twice = (draw) => {
      for (const [color, width] of [
        [DARK, 3],
        ["#fff", 1.25],
      ]) {
        c.beginPath();
        draw();
        [c.strokeStyle, c.lineWidth] = [color, width];
        c.stroke();
      }
    };
    const at = this.#cursor ? this.#toScreen(this.#cursor) : this.#hover;
    if (!at) return;
    const [x, y] = at;
    if (this.tool === "brush" || this.tool === "eraser") {
      const radius = Math.max((this.brush / 2) * this.scale, 1);
      if (!this.#space) twice(() => c.arc(x, y, radius, 0, 2 * Math.PI));
    }
    if (this.#cursor) {
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
