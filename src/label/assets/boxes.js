// Upright boxes `[left, top, right, bottom]` and rotated ones `[[x, y], …]`, four corners in order, in pixels of
// the picture.

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const rounded = (value) => Math.round(value * 10) / 10;
const round = (points) => points.map((p) => p.map(rounded));

export const inside = ([x, y], { width, height }) => x >= 0 && y >= 0 && x <= width && y <= height;
export const clip = ([x, y], { width, height }) => [clamp(x, 0, width), clamp(y, 0, height)];
export const cornersOf = (box) => {
  if (Array.isArray(box[0])) return box;
  const [l, t, r, b] = box;
  return [
    [l, t],
    [r, t],
    [r, b],
    [l, b],
  ];
};
export const centerOf = (box) => {
  const corners = cornersOf(box);
  return [0, 1].map((axis) => corners.reduce((sum, p) => sum + p[axis], 0) / 4);
};

/** An upright box between two points, or `null` when it has no area. */
export function upright([x0, y0], [x1, y1]) {
  const box = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map(rounded);
  return box[2] - box[0] >= 1 && box[3] - box[1] >= 1 ? box : null;
}

/** A rotated box along an axis, as far to both sides as `point` is off it. */
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

/** With one corner drawn elsewhere, the opposite one in place; `null` when nothing would be left. */
export function resized(box, corner, point, picture) {
  const corners = cornersOf(box);
  const fixed = corners[(corner + 2) % 4];
  if (!Array.isArray(box[0])) return upright(fixed, clip(point, picture));
  const [a, b] = [corners[0], corners[1]];
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const [ux, uy] = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
  const [dx, dy] = [point[0] - fixed[0], point[1] - fixed[1]];
  const [u, v] = [dx * ux + dy * uy, dy * ux - dx * uy];
  if (Math.abs(u) < 1 || Math.abs(v) < 1) return null;
  const at = (s, t) => [fixed[0] + s * ux - t * uy, fixed[1] + s * uy + t * ux];
  const made = round([at(0, 0), at(u, 0), at(u, v), at(0, v)]);
  return inside(centerOf(made), picture) ? made : null;
}

export function moved(box, [dx, dy], picture) {
  if (!Array.isArray(box[0])) {
    const [l, t, r, b] = box;
    const [x, y] = [clamp(dx, -l, picture.width - r), clamp(dy, -t, picture.height - b)];
    return [l + x, t + y, r + x, b + y].map(rounded);
  }
  const center = centerOf(box);
  const to = clip([center[0] + dx, center[1] + dy], picture);
  return round(box.map(([x, y]) => [x + to[0] - center[0], y + to[1] - center[1]]));
}

/** A rotated box turned by `angle`, in radians, about its center. */
export function turned(box, angle) {
  const [cx, cy] = centerOf(box);
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  return round(
    box.map(([x, y]) => [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos]),
  );
}

/** Where a rotated box is turned by: beyond the middle of its first side, `distance` away. */
export function knobOf(box, distance) {
  const [cx, cy] = centerOf(box);
  const [x, y] = [(box[0][0] + box[1][0]) / 2, (box[0][1] + box[1][1]) / 2];
  const length = Math.hypot(x - cx, y - cy) || 1;
  return [x + ((x - cx) / length) * distance, y + ((y - cy) / length) * distance];
}

export function contains(box, [x, y]) {
  const corners = cornersOf(box);
  const sides = corners.map(([ax, ay], i) => {
    const [bx, by] = corners[(i + 1) % 4];
    return (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0;
  });
  return sides.every((side) => side === sides[0]);
}

/** Distance of a point to the box's rim. */
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
