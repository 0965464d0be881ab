// What is being worked on: pictures as loaded, what has been drawn on each and can be undone, the seconds spent.

import { Mask } from "./mask.js";

/** What the server said no to, or that it said nothing (`status` 0). */
export class Problem extends Error {
  constructor(status, text, body) {
    super(text);
    [this.status, this.body] = [status, body];
  }
}

/** An answer of the server's, which is `ok`. */
export async function ask(path, { method = "GET", body, signal, timeout = 30000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  const headers = body ? { "Content-Type": "application/json", "X-Weakrest": "1" } : {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      body: body && JSON.stringify(body),
      headers,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "The labeler does not answer. Is weakrest label still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) {
    await tokenFromPerson(Boolean(token));
    return ask(path, { method, body, signal, timeout });
  }
  throw new Problem(response.status, answer.error ?? `The labeler answered ${response.status}.`, answer);
}

let person = null;

/** Asks the person for the token, once for all requests that wait for it. */
function tokenFromPerson(wrong) {
  person ??= new Promise((done) => {
    const dialog = document.getElementById("tokens");
    const input = document.getElementById("token");
    const why = wrong ? "That is not the token." : "Whoever labels from another machine needs the token.";
    document.getElementById("tokenwhy").textContent = `${why} It is in the file that --token-file names.`;
    const given = () => {
      if (!input.value.trim()) return;
      sessionStorage.setItem("token", input.value.trim());
      input.value = "";
      input.onkeydown = null;
      dialog.oncancel = null;
      dialog.close();
      person = null;
      done();
    };
    document.getElementById("tokengiven").onclick = given;
    input.onkeydown = (event) => event.key === "Enter" && given();
    // Nothing can be saved without it.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
    input.focus();
  });
  return person;
}

const BLANK = {
  tag: null,
  boxes: [],
  rotated: [],
  mask: null,
  type: null,
  clicks: [],
  previous: null,
  open: false,
};

export const hasShapes = (doc) => Boolean(doc.mask || doc.boxes.length || doc.rotated.length);

/** What is drawn, without what only matters while drawing: equal texts are equal labels. */
export const contentOf = ({ tag, boxes, rotated, mask, type }) =>
  JSON.stringify({ tag, boxes, rotated, mask: mask && mask.toRuns(), type });

/** A label as the server tells it, as a document. */
export function docOf(label) {
  const mask = label.mask && Mask.fromRuns(label.mask);
  return {
    ...BLANK,
    tag: label.tag,
    boxes: label.boxes,
    rotated: label.rotated,
    mask: mask?.area ? mask : null,
    type: label.type,
  };
}

export class Picture {
  doc = BLANK;
  past = [];
  future = [];
  revision = null;
  /** The content that the server has. */
  saved = contentOf(BLANK);
  seconds = 0;
  savedSeconds = 0;
  touched = false;
  suggestion = null;
  loaded = false;
  /** Of the parts that could not be had, why. */
  problems = {};
  /** What the file held that `detail` told of, and that the image shows. */
  content = { detail: null, image: null };
  isReplaced = false;
  isGone = false;
  /** The server means another picture by this number. */
  isOther = false;
  /** What of its label cannot be read. */
  lost = null;
  /** What is being fetched, and what has come. */
  parts = {};
  ready = {};

  constructor(entry) {
    this.entry = entry;
    [this.id, this.name, this.width, this.height] = [entry.id, entry.name, entry.width, entry.height];
  }

  get problem() {
    return this.problems.detail ?? this.problems.image ?? null;
  }

  get clean() {
    return !this.doc.open && contentOf(this.doc) === this.saved;
  }

  /** A step that can be undone. */
  apply(change) {
    this.past.push(this.doc);
    this.future = [];
    this.set({ ...this.doc, ...change });
  }

  set(doc) {
    const mask = doc.mask?.area ? doc.mask : null;
    const shaped = hasShapes({ ...doc, mask });
    this.doc = { ...doc, mask, tag: shaped ? "defective" : doc.tag };
    this.touched = true;
  }

  /** Back to how it was before; false where there is nothing before. */
  undo() {
    if (!this.past.length) return false;
    this.future.push(this.doc);
    this.doc = this.past.pop();
    this.touched = true;
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.doc);
    this.doc = this.future.pop();
    this.touched = true;
    return true;
  }

  /** Takes over what the server has, as if nothing had been done here. */
  adopt(label) {
    this.doc = docOf(label);
    [this.past, this.future, this.touched] = [[], [], false];
    this.settle(label);
    this.seconds = this.savedSeconds;
  }

  /** Notes what the server has, without changing what is drawn. */
  settle(label) {
    this.revision = label.revision;
    this.saved = contentOf(docOf(label));
    this.savedSeconds = label.seconds ?? 0;
  }
}

/** The pictures by their number, with what is fetched of them ahead. */
export class Library {
  /** Decoded pictures are large: so many are kept. */
  static KEPT = 6;
  #pictures = new Map();
  #recent = [];
  #arrived;

  /** `arrived(picture)` is told of every part that is there, or cannot be had. */
  constructor(arrived) {
    this.#arrived = arrived;
  }

  picture(entry) {
    let picture = this.#pictures.get(entry.id);
    if (!picture) this.#pictures.set(entry.id, (picture = new Picture(entry)));
    picture.entry = entry;
    return picture;
  }

  known(id) {
    return this.#pictures.get(id);
  }

  /** Starts to fetch whatever of a picture is not here yet. */
  fetch(picture, withNearest) {
    this.#recent = [picture, ...this.#recent.filter((p) => p !== picture)];
    for (const old of this.#recent.splice(Library.KEPT)) this.forget(old);
    this.#once(picture, "image", () => this.#bitmap(picture, "image"));
    this.#once(picture, "detail", () => this.#load(picture));
    const scored = picture.entry.score !== null;
    if (scored) this.#once(picture, "map", () => this.#bitmap(picture, "map.png").catch(none));
    if (withNearest) this.#once(picture, "nearest", () => this.#bitmap(picture, "nearest.png").catch(none));
  }

  /** Asks anew for a picture's label and suggestion: another tab, or the detector, may have been at work. */
  refresh(picture) {
    picture.parts.detail = picture.content.detail = null;
    this.#once(picture, "detail", () => this.#load(picture));
  }

  /** Drops what can be fetched again, never what was drawn. */
  forget(picture) {
    for (const part of ["image", "map", "nearest"]) {
      picture.ready[part]?.small?.close();
      picture.ready[part]?.close();
      picture.parts[part] = picture.ready[part] = null;
    }
    picture.content.image = null;
  }

  async #bitmap(picture, name) {
    const response = await ask(`/api/pictures/${picture.id}/${name}`);
    const bitmap = await createImageBitmap(await response.blob());
    bitmap.content = response.headers.get("ETag")?.replaceAll('"', "");
    const shrink = SMALL / Math.max(bitmap.width, bitmap.height);
    if (shrink < 0.7) {
      // What is shown of a large picture as a whole: shrinking it anew for every movement would be slow.
      const [resizeWidth, resizeHeight] = [bitmap.width, bitmap.height].map((n) =>
        Math.max(1, Math.round(n * shrink)),
      );
      bitmap.small = await createImageBitmap(bitmap, { resizeWidth, resizeHeight, resizeQuality: "high" });
    }
    return bitmap;
  }

  async #once(picture, part, load) {
    if (picture.parts[part]) return;
    const mine = (picture.parts[part] = load());
    try {
      const value = await mine;
      if (picture.parts[part] !== mine) return part === "detail" || value?.close();
      picture.ready[part] = value;
      picture.problems[part] = null;
      if (part === "image") picture.content.image = contentIn(value.content);
      const { image, detail } = picture.content;
      // The file was replaced while one of both was on its way, or long before.
      if (image && detail && image !== detail && picture.ready.image) {
        picture.isReplaced = true;
      }
    } catch (problem) {
      if (picture.parts[part] !== mine) return;
      // What failed is asked for again the next time.
      picture.parts[part] = null;
      picture.problems[part] = problem;
    }
    this.#arrived(picture);
  }

  /** What was drawn meanwhile is not replaced. */
  async #load(picture) {
    const revision = picture.revision;
    const detail = await (await ask(`/api/pictures/${picture.id}`)).json();
    picture.isOther = detail.name !== picture.name;
    if (picture.isOther) throw new Problem(409, "The labeler was started again.");
    picture.lost = detail.label.lost ?? null;
    picture.content.detail = contentIn(detail.label.revision);
    if (picture.loaded && (picture.width !== detail.width || picture.height !== detail.height)) {
      // Another picture under the same name: what was drawn on the old one means nothing here.
      picture.adopt(detail.label);
    }
    [picture.width, picture.height] = [detail.width, detail.height];
    const mask = detail.suggestion && Mask.fromRuns(detail.suggestion.mask);
    picture.suggestion = mask?.area ? { mask, sure: detail.suggestion.sure } : null;
    if (!picture.loaded && picture.touched) {
      // Left over from an earlier page: the server decides whether it still fits.
      picture.revision ??= detail.label.revision;
    } else if (picture.revision === null && picture.touched) {
      picture.settle(detail.label);
    } else if (picture.clean && picture.revision === revision && detail.label.revision !== revision) {
      // What can be undone stays where only the revision is another one.
      if (contentOf(docOf(detail.label)) === picture.saved) picture.settle(detail.label);
      else picture.adopt(detail.label);
    }
    picture.loaded = true;
    return picture;
  }
}

const SMALL = 1600;

/** What a picture's file holds, of a revision of its label or of its hash. */
const contentIn = (text) => text?.slice(0, 16) ?? null;

/** There may be none of a map; anything else that goes wrong is asked for again. */
const none = (problem) => {
  if ([404, 410, 501].includes(problem.status)) return null;
  throw problem;
};

/** Counts the seconds in which a picture is worked on. */
export class Stopwatch {
  static PAUSE = 30000;
  #picture = null;
  #last = 0;

  turnTo(picture) {
    this.stir();
    [this.#picture, this.#last] = [picture, performance.now()];
  }

  /** Somebody does something: the time since the last such moment was work, unless it was a pause. */
  stir() {
    const now = performance.now();
    const gap = now - this.#last;
    this.#last = now;
    if (this.#picture && !document.hidden && gap <= Stopwatch.PAUSE) this.#picture.seconds += gap / 1000;
  }

  /** The page is hidden or shown: what lies between is none. */
  skip() {
    if (document.hidden) {
      const gap = performance.now() - this.#last;
      if (this.#picture && gap <= Stopwatch.PAUSE) this.#picture.seconds += gap / 1000;
    }
    this.#last = document.hidden ? -Infinity : performance.now();
  }
}
