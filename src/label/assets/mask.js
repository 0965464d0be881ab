// @ts-check
// The defective pixels of a picture. A mask never changes. A stroke returns a new one that shares all
// untouched rows, so a hundred undo steps cost little.

/** @import { Point } from "./boxes.js" */
/** @typedef {{ size: [height: number, width: number], counts: number[] }} Runs Row-major; zeros first. */
/** @typedef {number[]} Row Spans `[from, to, from, to, …]`, ascending and separate. */

/** @type {(row: Row, from: number, to: number) => Row} */
const joined = (row, from, to) => {
  const out = [];
  let i = 0;
  for (; i < row.length && row[i + 1] < from; i += 2) out.push(row[i], row[i + 1]);
  for (; i < row.length && row[i] <= to; i += 2) {
    from = Math.min(from, row[i]);
    to = Math.max(to, row[i + 1]);
  }
  out.push(from, to);
  for (; i < row.length; i++) out.push(row[i]);
  return out;
};
/** @type {(row: Row, from: number, to: number) => Row} */
const cut = (row, from, to) => {
  const out = [];
  for (let i = 0; i < row.length; i += 2) {
    if (row[i] < from) out.push(row[i], Math.min(row[i + 1], from));
    if (row[i + 1] > to) out.push(Math.max(row[i], to), row[i + 1]);
  }
  return out;
};
/** @type {Row} */
const NONE = [];

export class Mask {
  /** @type {Path2D | undefined} */
  #path;

  /** @param {number} width @param {number} height @param {Row[]} rows */
  constructor(width, height, rows) {
    this.width = width;
    this.height = height;
    this.rows = rows;
  }

  /** @param {number} width @param {number} height */
  static empty(width, height) {
    return new Mask(width, height, Array(height).fill(NONE));
  }

  /** @param {Runs} runs */
  static fromRuns({ size: [height, width], counts }) {
    /** @type {Row[]} */
    const rows = Array(height).fill(NONE);
    let at = 0;
    counts.forEach((count, i) => {
      const end = Math.min(at + count, width * height);
      for (let from = at; i % 2 && from < end;) {
        const y = Math.floor(from / width);
        const to = Math.min(end, (y + 1) * width);
        if (rows[y] === NONE) rows[y] = [];
        rows[y].push(from - y * width, to - y * width);
        from = to;
      }
      at = end;
    });
    return new Mask(width, height, rows);
  }

  /** @returns {Runs} */
  toRuns() {
    /** @type {number[]} */
    const counts = [];
    let at = 0;
    this.rows.forEach((row, y) => {
      for (let i = 0; i < row.length; i += 2) {
        const [from, to] = [y * this.width + row[i], y * this.width + row[i + 1]];
        if (from === at && counts.length) counts[counts.length - 1] += to - from;
        else counts.push(from - at, to - from);
        at = to;
      }
    });
    if (at < this.width * this.height) counts.push(this.width * this.height - at);
    return { size: [this.height, this.width], counts };
  }

  /** @param {Point} point */
  contains([x, y]) {
    const row = this.rows[Math.floor(y)] ?? NONE;
    return row.some((from, i) => i % 2 === 0 && from <= x && x < row[i + 1]);
  }

  /** @returns {Point[]} Left top and right bottom of what is marked. */
  get corners() {
    const lines = this.rows.flatMap((row, y) => (row.length ? [{ row, y }] : []));
    const left = lines.reduce((least, { row }) => Math.min(least, row[0]), this.width);
    const right = lines.reduce((most, { row }) => Math.max(most, row[row.length - 1]), 0);
    return [
      [left, lines[0]?.y ?? 0],
      [right, (lines.at(-1)?.y ?? 0) + 1],
    ];
  }

  get area() {
    let area = 0;
    for (const row of this.rows) for (let i = 0; i < row.length; i += 2) area += row[i + 1] - row[i];
    return area;
  }

  /**
   * The union with another mask of the picture.
   * @param {Mask} other
   */
  joined(other) {
    const rows = this.rows.slice();
    other.rows.forEach((row, y) => {
      for (let i = 0; i < row.length; i += 2) rows[y] = joined(rows[y], row[i], row[i + 1]);
    });
    return new Mask(this.width, this.height, rows);
  }

  /**
   * This mask with the stroke of a round brush added or erased.
   * @param {Point} from
   * @param {Point} to
   * @param {number} radius
   * @param {boolean} erase
   */
  stroke([x0, y0], [x1, y1], radius, erase) {
    const rows = this.rows.slice();
    /** @type {(y: number, from: number, to: number) => void} */
    const change = (y, from, to) => {
      [from, to] = [Math.max(from, 0), Math.min(to, this.width)];
      if (from < to) rows[y] = (erase ? cut : joined)(rows[y], from, to);
    };
    const length = Math.hypot(x1 - x0, y1 - y0) || 1;
    const [nx, ny] = [(-(y1 - y0) / length) * radius, ((x1 - x0) / length) * radius];
    const corners = [
      [x0 + nx, y0 + ny],
      [x1 + nx, y1 + ny],
      [x1 - nx, y1 - ny],
      [x0 - nx, y0 - ny],
    ];
    const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius));
    const bottom = Math.min(this.height, Math.ceil(Math.max(y0, y1) + radius));
    for (let y = top; y < bottom; y++) {
      // The stroke is convex: a row of pixel centers meets it in one span.
      const middle = y + 0.5;
      let [from, to] = [Infinity, -Infinity];
      /** @type {(x: number) => void} */
      const meet = (x) => void ([from, to] = [Math.min(from, x), Math.max(to, x)]);
      for (const [cx, cy] of [
        [x0, y0],
        [x1, y1],
      ]) {
        const half = Math.sqrt(radius * radius - (middle - cy) ** 2);
        if (half >= 0) (meet(cx - half), meet(cx + half));
      }
      corners.forEach(([ax, ay], i) => {
        const [bx, by] = corners[(i + 1) % 4];
        if (ay > middle !== by > middle) meet(ax + ((middle - ay) / (by - ay)) * (bx - ax));
      });
      change(y, Math.ceil(from - 0.5), Math.floor(to - 0.5) + 1);
    }
    // A brush finer than a pixel still marks the pixel under it.
    for (const [x, y] of [
      [x0, y0],
      [x1, y1],
    ].map((p) => p.map(Math.floor))) {
      if (y >= 0 && y < this.height) change(y, x, x + 1);
    }
    return new Mask(this.width, this.height, rows);
  }

  /** The outline along pixel edges. Fill it by the even-odd rule, or stroke it. */
  get path() {
    this.#path ??= this.#trace();
    return this.#path;
  }

  // Both ends of a span are vertical edges of length 1. Along each line between two rows, the edges that end
  // there are linked in pairs; edges at the same place come first. The links form closed outlines.
  #trace() {
    /** @type {[xs: number[], ys: number[], above: number[], below: number[]]} */
    const [xs, ys, above, below] = [[], [], [], []];
    let last = NONE;
    let first = 0;
    for (let y = 0; y <= this.height; y++) {
      const row = this.rows[y] ?? NONE;
      const start = xs.length;
      for (const x of row) {
        xs.push(x);
        ys.push(y);
      }
      let [i, j, open] = [0, 0, -1];
      /** @type {(a: number, b: number) => void} */
      const link = (a, b) => {
        (a < start ? below : above)[a] = b;
        (b < start ? below : above)[b] = a;
      };
      while (i < last.length || j < row.length) {
        if (i < last.length && j < row.length && last[i] === row[j]) {
          link(first + i++, start + j++);
          continue;
        }
        const edge = j >= row.length || last[i] < row[j] ? first + i++ : start + j++;
        if (open < 0) open = edge;
        else {
          link(open, edge);
          open = -1;
        }
      }
      [last, first] = [row, start];
    }
    const path = new Path2D();
    const seen = new Uint8Array(xs.length);
    for (let start = 0; start < xs.length; start++) {
      if (seen[start]) continue;
      path.moveTo(xs[start], ys[start]);
      let edge = start;
      let down = true;
      do {
        seen[edge] = 1;
        /** @type {number} */
        const line = down ? ys[edge] + 1 : ys[edge];
        /** @type {number} */
        const next = (down ? below : above)[edge];
        down = ys[next] === line;
        if (xs[next] !== xs[edge]) {
          path.lineTo(xs[edge], line);
          path.lineTo(xs[next], line);
        }
        edge = next;
      } while (edge !== start);
      path.closePath();
    }
    return path;
  }
}
