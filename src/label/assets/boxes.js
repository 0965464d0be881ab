// @ts-check
// The geometry of boxes and polygons, in pixels of the picture.

/** @typedef {[x: number, y: number]} Point */
/** @typedef {{ width: number, height: number }} Size */
/** @typedef {[left: number, top: number, right: number, bottom: number]} Upright */
/** @typedef {[Point, Point, Point, Point]} Rotated Four corners in order. */
/** @typedef {Point[]} Polygon Corners in order, at least three. */
/** @typedef {{ box: Upright } | { rotated: Rotated } | { polygon: Polygon }} Outline A shape with corners. */

/** @type {(value: number, low: number, high: number) => number} */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** @type {(value: number) => number} */
const rounded = (value) => Math.round(value * 10) / 10;
/** @type {(points: Point[]) => Rotated} */
const round = (points) => /** @type {Rotated} */ (points.map((p) => p.map(rounded)));

/** @type {(point: Point, size: Size) => boolean} */
export const inside = ([x, y], { width, height }) => x >= 0 && y >= 0 && x <= width && y <= height;
/** @type {(point: Point, size: Size) => Point} */
export const clip = ([x, y], { width, height }) => [clamp(x, 0, width), clamp(y, 0, height)];
/** @type {(shape: Outline) => Point[]} */
export const cornersOf = (shape) => {
  if ("rotated" in shape) return shape.rotated;
  if ("polygon" in shape) return shape.polygon;
  const [l, t, r, b] = shape.box;
  return [
    [l, t],
    [r, t],
    [r, b],
    [l, b],
  ];
};
/** @type {(corners: Point[]) => Point} */
export const centerOf = (corners) => {
  /** @type {(axis: 0 | 1) => number} */
  const mean = (axis) => corners.reduce((sum, p) => sum + p[axis], 0) / corners.length;
  return [mean(0), mean(1)];
};

/**
 * An upright box between two points; `null` if it has no area.
 * @type {(a: Point, b: Point) => Upright | null}
 */
export function upright([x0, y0], [x1, y1]) {
  const sides = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
  const box = /** @type {Upright} */ (sides.map(rounded));
  return box[2] - box[0] >= 1 && box[3] - box[1] >= 1 ? box : null;
}

/**
 * A rotated box along an axis. Each side lies as far from the axis as `point` does.
 * @type {(axis: [Point, Point], point: Point) => Rotated}
 */
export function along([from, to], point) {
  const length = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const [nx, ny] = [-(to[1] - from[1]) / length, (to[0] - from[0]) / length];
  const half = Math.max(Math.abs((point[0] - from[0]) * nx + (point[1] - from[1]) * ny), 0.5);
  const [dx, dy] = [nx * half, ny * half];
  return round([
    [from[0] + dx, from[1] + dy],
    [to[0] + dx, to[1] + dy],
    [to[0] - dx, to[1] - dy],
    [from[0] - dx, from[1] - dy],
  ]);
}

/**
 * The shape with one corner moved; of a box the opposite corner is fixed. `null` if nothing would be left.
 * @type {(shape: Outline, corner: number, point: Point, picture: Size) => Outline | null}
 */
export function resized(shape, corner, point, picture) {
  const corners = cornersOf(shape);
  if ("polygon" in shape) {
    const to = /** @type {Point} */ (clip(point, picture).map(rounded));
    return { polygon: corners.map((old, i) => (i === corner ? to : old)) };
  }
  const fixed = corners[(corner + 2) % 4];
  if ("box" in shape) {
    const box = upright(fixed, clip(point, picture));
    return box && { box };
  }
  const [a, b] = [corners[0], corners[1]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const [ux, uy] = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
  const [dx, dy] = [point[0] - fixed[0], point[1] - fixed[1]];
  const [u, v] = [dx * ux + dy * uy, dy * ux - dx * uy];
  if (Math.abs(u) < 1 || Math.abs(v) < 1) return null;
  /** @type {(s: number, t: number) => Point} */
  const at = (s, t) => [fixed[0] + s * ux - t * uy, fixed[1] + s * uy + t * ux];
  const made = round([at(0, 0), at(u, 0), at(u, v), at(0, v)]);
  return inside(centerOf(made), picture) ? { rotated: made } : null;
}

/**
 * The shape moved, and kept on the picture.
 * @type {(shape: Outline, by: Point, picture: Size) => Outline}
 */
export function moved(shape, [dx, dy], picture) {
  const corners = cornersOf(shape);
  if ("rotated" in shape) {
    const center = centerOf(corners);
    const to = clip([center[0] + dx, center[1] + dy], picture);
    return { rotated: round(corners.map(([x, y]) => [x + to[0] - center[0], y + to[1] - center[1]])) };
  }
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  const x = clamp(dx, -Math.min(...xs), picture.width - Math.max(...xs));
  const y = clamp(dy, -Math.min(...ys), picture.height - Math.max(...ys));
  const made = round(corners.map((p) => [p[0] + x, p[1] + y]));
  return "box" in shape ? { box: [...made[0], ...made[2]] } : { polygon: made };
}

/**
 * A rotated box turned about its center by `angle`, in radians.
 * @type {(box: Rotated, angle: number) => Rotated}
 */
export function turned(box, angle) {
  const [cx, cy] = centerOf(box);
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  return round(
    box.map(([x, y]) => [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos]),
  );
}

/**
 * The handle that turns a rotated box: `distance` beyond the middle of its first side.
 * @type {(box: Rotated, distance: number) => Point}
 */
export function knobOf(box, distance) {
  const [cx, cy] = centerOf(box);
  const [x, y] = [(box[0][0] + box[1][0]) / 2, (box[0][1] + box[1][1]) / 2];
  const length = Math.hypot(x - cx, y - cy) || 1;
  return [x + ((x - cx) / length) * distance, y + ((y - cy) / length) * distance];
}

/** @type {(shape: Outline, point: Point) => boolean} By the even-odd rule. */
export function contains(shape, [x, y]) {
  const corners = cornersOf(shape);
  const crossed = corners.filter(([ax, ay], i) => {
    const [bx, by] = corners[(i + 1) % corners.length];
    return ay <= y !== by <= y && x > ax + ((y - ay) * (bx - ax)) / (by - ay);
  });
  return crossed.length % 2 === 1;
}

/**
 * The distance from a point to the shape's outline.
 * @type {(shape: Outline, point: Point) => number}
 */
export function rimDistance(shape, [x, y]) {
  const corners = cornersOf(shape);
  return Math.min(
    ...corners.map(([ax, ay], i) => {
      const [bx, by] = corners[(i + 1) % corners.length];
      const [dx, dy] = [bx - ax, by - ay];
      const t = clamp(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0, 1);
      return Math.hypot(x - ax - t * dx, y - ay - t * dy);
    }),
  );
}
