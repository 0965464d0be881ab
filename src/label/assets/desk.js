// @ts-check
// What the page works on: the pictures, the current one, the settings of the person.

import { Library } from "./library.js";
import { $ } from "./page.js";
import { Saver } from "./saver.js";
import { Stage } from "./stage.js";
import { Stopwatch } from "./stopwatch.js";

/** @import { Picture } from "./picture.js" */
/** @import { Entry, State } from "./server.js" */
/** @import { Tool } from "./stage.js" */

export const library = new Library();
export const saver = new Saver();
export const stage = new Stage($("canvas"));
export const watch = new Stopwatch();

export const desk = {
  /** @type {State | null} The latest answer of the server. */
  state: null,
  /** @type {Entry[]} The pictures in the order of the list. */
  order: [],
  /** @type {Picture | null} The picture on the canvas. */
  current: null,
  /** The server does not answer. */
  lost: false,
  /** The page reloads itself. */
  reloading: false,
  /** @type {Picture[]} The pictures of the latest changes, for undo across pictures. */
  acted: [],
  /** @type {{ id: number, seconds: number }[]} The time spent on the latest pictures. */
  spent: [],
  /** @type {Set<number>} */
  visited: new Set(),
};

// --- settings, kept in the browser ---

const PLACE = "weakrest label settings";

/**
 * @typedef {object} Settings
 * @property {Tool} tool
 * @property {number} brush
 * @property {number} opacity
 * @property {boolean} map
 * @property {string | null} type Type of the next shape, of this picture alone; null if none was chosen.
 * @property {Record<string, string>} prompts
 */

/** @type {Settings} */
export const settings = {
  tool: "click",
  brush: 24,
  opacity: 0.6,
  map: false,
  type: null,
  prompts: {},
  ...stored(),
};
settings.type = null;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(PLACE) ?? "null") ?? {};
  } catch {
    return {};
  }
}

/** @param {Partial<Settings>} change */
export function remember(change) {
  Object.assign(settings, change);
  try {
    localStorage.setItem(PLACE, JSON.stringify(settings));
  } catch {
    // Without storage the settings last as long as the page.
  }
}

// --- facts about pictures ---

/**
 * The score as a multiple of the threshold.
 * @param {Entry} entry
 */
export const multiple = (entry) => {
  const threshold = desk.state?.threshold ?? 0;
  return entry.score === null || !(threshold > 0) ? null : entry.score / threshold;
};

/** @param {Entry} entry */
export const kindOf = (entry) => {
  const picture = library.known(entry.id);
  return picture && (picture.loaded || picture.touched)
    ? picture.doc.tag
    : (entry.kind ?? (entry.done ? "defective" : null));
};

/**
 * Whether the file exists and is readable.
 * @param {Entry} entry
 */
export const isThere = (entry) => !entry.missing && !entry.error;

/** @param {Picture | null} picture */
export const indexOf = (picture) => desk.order.findIndex((entry) => entry.id === picture?.id);

/** What the list shows. */
export const filter = {
  text: "",
  /** @type {"all" | "open" | "good" | "defective"} */
  which: "all",
};

/**
 * Whether the list shows a picture.
 * @param {Entry} entry
 */
export const isListed = (entry) => {
  const kind = kindOf(entry);
  const fits = filter.which === "all" || (filter.which === "open" ? kind === null : kind === filter.which);
  return fits && entry.name.toLowerCase().includes(filter.text);
};

/**
 * The first unlabeled picture of the list after an index, searched around the end of the list.
 * @param {number} from
 */
export function nextOpen(from) {
  const turn = [...desk.order.slice(from + 1), ...desk.order.slice(0, Math.max(from, 0))];
  return turn.find((entry) => isThere(entry) && kindOf(entry) === null && isListed(entry));
}

/**
 * The next picture of the list after an index, or before it.
 * @param {number} from
 * @param {number} by 1 or -1.
 */
export function neighbor(from, by) {
  for (let at = from + by; at >= 0 && at < desk.order.length; at += by) {
    if (isListed(desk.order[at])) return desk.order[at];
  }
  return undefined;
}

/** The current picture, if it can be drawn on. */
export const usable = () => {
  const { current } = desk;
  return current?.loaded && current.ready.image && isThere(current.entry) ? current : null;
};

/** The suggestion for the current picture, while it has no label. */
export const offered = () => {
  const picture = usable();
  if (!picture) return null;
  const { doc, suggestion } = picture;
  return doc.tag === null && !doc.open && !doc.clicks.length ? suggestion : null;
};

/**
 * Fetches all parts of a picture. The good reference of the next pictures is fetched only while it is shown.
 * @param {Picture} picture
 */
export const fetchAll = (picture) =>
  library.fetch(picture, Boolean(desk.state?.nearest) && (picture === desk.current || stage.show.nearest));
