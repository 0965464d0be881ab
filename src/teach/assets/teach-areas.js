// @ts-check
// Ignored areas, drawn on the live picture.

import { $, change, tell } from "./teach-api.js";
import { t } from "./texts.js";

/** @import { Area } from "./teach-api.js" */

const canvas = /** @type {HTMLCanvasElement} */ ($("areas"));
/** @type {Area[]} What is drawn. */
let areas = [];
/** @type {Area[]} What the service has. */
let kept = [];
/** Saves one after another. */
let saving = Promise.resolve();
/** @typedef {"rectangle" | "polygon" | "only"} Tool */
/** @type {"" | Tool} */
let tool = "";
/** @type {Area} The corners that were set so far. */
let draft = [];
/** @type {[number, number] | null} */
let pointer = null;
let dragging = false;

/** @param {Area[]} known */
export function showAreas(known) {
  [areas, kept] = [known, known];
  drawAreas();
}

/** @type {(event: PointerEvent) => [number, number]} */
function at(event) {
  const box = canvas.getBoundingClientRect();
  const share = (/** @type {number} */ v) => Math.round(Math.min(1, Math.max(0, v)) * 1e4) / 1e4;
  return [share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height)];
}

/** @type {(a: [number, number], b: [number, number]) => Area} */
const rectangle = ([x0, y0], [x1, y1]) => [
  [x0, y0],
  [x1, y0],
  [x1, y1],
  [x0, y1],
];

/**
 * Everything but a rectangle: around the picture, then the other way around the rectangle.
 * @type {(a: [number, number], b: [number, number]) => Area}
 */
function outside([x0, y0], [x1, y1]) {
  const [left, right, top, bottom] = [Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1)];
  const inner = rectangle([left, top], [right, bottom]);
  return [...rectangle([0, 0], [1, 1]), [0, 0], inner[0], ...inner.reverse()];
}

/** @type {(a: [number, number], b: [number, number]) => Area} */
const drawn = (a, b) => (tool === "only" ? outside(a, b) : rectangle(a, b));

export function drawAreas() {
  const box = canvas.getBoundingClientRect();
  const [width, height] = [Math.round(box.width), Math.round(box.height)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  if (!pen) return;
  pen.clearRect(0, 0, width, height);
  canvas.dataset.count = String(areas.length);
  pen.lineWidth = 2;
  let open = draft;
  if (draft.length && pointer) open = tool === "polygon" ? [...draft, pointer] : drawn(draft[0], pointer);
  for (const area of [...areas, open]) {
    if (!area.length) continue;
    pen.beginPath();
    area.forEach(([x, y], i) => (i ? pen.lineTo(x * width, y * height) : pen.moveTo(x * width, y * height)));
    pen.closePath();
    pen.fillStyle = "rgb(80 80 90 / 0.72)";
    pen.strokeStyle = "#ffffff";
    pen.fill();
    pen.stroke();
  }
}

/** @param {typeof tool} wanted */
function choose(wanted) {
  tool = tool === wanted ? "" : wanted;
  draft = [];
  for (const name of /** @type {const} */ (["only", "rectangle", "polygon"])) {
    $(name).setAttribute("aria-pressed", String(tool === name));
  }
  $("hint").textContent =
    tool === "rectangle" || tool === "only"
      ? t("Drag over the area, from corner to corner.")
      : tool === "polygon"
        ? t("Click the corners in their order; click the first one again to end. Escape cancels.")
        : t("Nothing inside an ignored area is learned, and nothing in it can reject.");
  canvas.style.cursor = tool ? "crosshair" : "";
  drawAreas();
}

/** @param {Area[]} wanted */
function save(wanted) {
  areas = wanted;
  drawAreas();
  saving = saving.then(async () => {
    const state = await change("settings", { ignore: wanted }, t("Ignored areas are saved. Enroll to use them."));
    if (state?.product) kept = state.product.ignore;
    // The next save has what was drawn since.
    if (areas === wanted) areas = kept;
    drawAreas();
  });
}

canvas.addEventListener("pointerdown", (event) => {
  if (!tool) return;
  canvas.setPointerCapture(event.pointerId);
  const corner = at(event);
  if (tool !== "polygon") {
    [draft, dragging] = [[corner], true];
  } else {
    const box = canvas.getBoundingClientRect();
    const near = ([x, y] = draft[0] ?? [9, 9]) =>
      Math.hypot((x - corner[0]) * box.width, (y - corner[1]) * box.height) < 14;
    if (draft.length > 2 && near()) {
      const done = draft;
      choose("polygon");
      save([...areas, done]);
      return;
    }
    draft = [...draft, corner];
  }
  drawAreas();
});
canvas.addEventListener("pointermove", (event) => {
  pointer = at(event);
  if (draft.length) drawAreas();
});
canvas.addEventListener("pointerup", (event) => {
  if (!dragging) return;
  dragging = false;
  const [from, to] = [draft[0], at(event)];
  const area = drawn(from, to);
  choose(tool);
  if (Math.abs(from[0] - to[0]) < 0.005 || Math.abs(from[1] - to[1]) < 0.005) {
    tell(t("The area is too small: drag over it."), true);
    return;
  }
  save([...areas, area]);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && tool) choose(tool);
});
window.addEventListener("resize", drawAreas);
for (const name of /** @type {const} */ (["only", "rectangle", "polygon"])) {
  $(name).addEventListener("click", () => choose(name));
}
$("undo").addEventListener("click", () => {
  if (areas.length) save(areas.slice(0, -1));
});
