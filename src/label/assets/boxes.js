// @ts-check
// The geometry of boxes, in pixels of the picture.

/** @typedef {[x: number, y: number]} Point */
/** @typedef {{ width: number, height: number }} Size */
/** @typedef {[left: number, top: number, right: number, bottom: number]} Upright */
/** @typedef {[Point, Point, Point, Point]} Rotated Four corners in order. */
/** @typedef {Upright | Rotated} Box */

/** @type {(value: number, low: number, high: number) => number} */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
/** @type {(value: number) => number} */
const rounded = (value) => Math.round(value * 10) / 10;
/** @type {(points: Point[]) => Rotated} */
const round = (points) => /** @type {Rotated} */ (points.map((p) => p.map(rounded)));

/**
 * @param {Box} box
 * @returns {box is Rotated}
 */
export const isRotated = (box) => Array.isArray(box[0]);
/** @type {(point: Point, size: Size) => boolean} */
export const inside = ([x, y], { width, height }) => x >= 0 && y >= 0 && x <= width && y <= height;
/** @type {(point: Point, size: Size) => Point} */
export const clip = ([x, y], { width, height }) => [clamp(x, 0, width), clamp(y, 0, height)];
/** @type {(box: Box) => Rotated} */
export const cornersOf = (box) => {
  if (isRotated(box)) return box;
  const [l, t, r, b] = box;
  return [
    [l, t],
    [r, t],
    [r, b],
    [l, b],
  ];
};
/** @type {(box: Box) => Point} */
export const centerOf = (box) => {
  const corners = cornersOf(box);
  /** @type {(axis: 0 | 1) => number} */
  const mean = (axis) => corners.reduce((sum, p) => sum + p[axis], 0) / 4;
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
 * The box with one corner moved and the opposite corner fixed; `null` if nothing would be left.
 * @type {(box: Box, corner: number, point: Point, picture: Size) => Box | null}
 */
export function resized(box, corner, point, picture) {
  const corners = cornersOf(box);
  const fixed = corners[(corner + 2) % 4];
  if (!isRotated(box)) return upright(fixed, clip(point, picture));
  const [a, b] = [corners[0], corners[1]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const [ux, uy] = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
  const [dx, dy] = [point[0] - fixed[0], point[1] - fixed[1]];
  const [u, v] = [dx * ux + dy * uy, dy * ux - dx * uy];
  if (Math.abs(u) < 1 || Math.abs(v) < 1) return null;
  /** @type {(s: number, t: number) => Point} */
  const at = (s, t) => [fixed[0] + s * ux - t * uy, fixed[1] + s * uy + t * ux];
  const made = round([at(0, 0), at(u, 0), at(u, v), at(0, v)]);
  return inside(centerOf(made), picture) ? made : null;
}

/**
 * The box moved, and kept on the picture.
 * @type {(box: Box, by: Point, picture: Size) => Box}
 */
export function moved(box, [dx, dy], picture) {
  if (!isRotated(box)) {
    const [l, t, r, b] = box;
    const [x, y] = [clamp(dx, -l, picture.width - r), clamp(dy, -t, picture.height - b)];
    return /** @type {Upright} */ ([l + x, t + y, r + x, b + y].map(rounded));
  }
  const center = centerOf(box);
  const to = clip([center[0] + dx, center[1] + dy], picture);
  return round(box.map(([x, y]) => [x + to[0] - center[0], y + to[1] - center[1]]));
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

/** @type {(box: Box, point: Point) => boolean} */
export function contains(box, [x, y]) {
  const corners = cornersOf(box);
  const sides = corners.map(([ax, ay], i) => {
    const [bx, by] = corners[(i + 1) % 4];
    return (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0;
  });
  return sides.every((side) => side === sides[0]);
}

/**
 * The distance from a point to the box's outline.
 * @type {(box: Box, point: Point) => number}
 */
export function rimDistance(box, [x, y]) {
  const corners = cornersOf(box);
  return Math.min(
    ...corners.map(([ax, ay], i) => {
      const [bx, by] = corners[(i + 1) % 4];
      const [dx, dy] = [bx - ax, by - ay];
      const t = clamp(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0, 1);
      return Math.hypot(x - ax - t * dx, y - ay - t * dy);
    }),
  );
}
