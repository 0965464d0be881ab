// @ts-check
// Drawings of numbers: trends, and where regions of rejects lie.

import { make } from "./elements.js";
import { count as counted, number, t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof SVGElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, string | number>} attributes
 */
function drawn(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

/**
 * One quantity over time. Where nothing is known, the line has a gap.
 * @param {string} name
 * @param {(number | null)[]} values
 * @param {string} [kind] The class of the line.
 * @param {(value: number) => string} [text]
 */
export function trend(name, values, kind = "", text = number) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  // A line that hardly moves must not look as if it did.
  const room = Math.max((high - low) * 0.1, Math.abs(high) * 0.05, 1e-9);
  const [bottom, top] = [low - room, high + room];
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) {
      pen = "M";
      return;
    }
    const x = values.length > 1 ? (1000 * i) / (values.length - 1) : 500;
    path += `${pen}${x.toFixed(1)} ${(100 - (100 * (value - bottom)) / (top - bottom)).toFixed(2)}`;
    if (pen === "M") path += "h0.1";
    pen = "L";
  });
  const range = t("{0} to {1}", text(low), text(high));
  const last = known.at(-1);
  const label = last === undefined ? name : t("{0}, {1}, last {2}", name, range, text(last));
  const svg = drawn("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img" });
  svg.setAttribute("aria-label", label);
  svg.append(drawn("path", { d: path, class: kind }));
  const figure = make("figure");
  const caption = make("figcaption");
  caption.append(make("span", name), make("span", known.length ? range : t("not known")));
  figure.append(caption, svg);
  return figure;
}

/**
 * How many rejects have a region in each cell.
 * @param {HTMLElement} place
 * @param {{ columns: number, rows: number, cells: number[], width: number | null, height: number | null }} heat
 * @param {string | null} picture The address of a picture of the part.
 */
export function spots(place, heat, picture) {
  const { columns, rows, cells } = heat;
  const most = Math.max(1, ...cells);
  const ratio = heat.width && heat.height ? heat.height / heat.width : 1;
  const svg = drawn("svg", {
    viewBox: `0 0 ${columns} ${columns * ratio}`,
    "aria-hidden": "true",
  });
  const side = (columns * ratio) / rows;
  cells.forEach((count, i) => {
    const cell = drawn("rect", {
      x: i % columns,
      y: Math.floor(i / columns) * side,
      width: 1,
      height: side,
      "fill-opacity": count ? (0.15 + (0.65 * count) / most).toFixed(3) : 0,
    });
    if (count) {
      const title = document.createElementNS(SVG, "title");
      title.textContent = counted(count, "{0} reject", "{0} rejects");
      cell.append(title);
    }
    svg.append(cell);
  });
  place.replaceChildren(svg);
  if (!picture) return;
  const image = make("img");
  image.alt = "";
  image.addEventListener("error", () => image.remove());
  image.src = picture;
  place.prepend(image);
}
