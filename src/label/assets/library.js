// @ts-check
// All pictures by number. Fetches their parts ahead of use.

import { Mask } from "./mask.js";
import { contentOf, docOf, Picture } from "./picture.js";
import { asProblem, ask, Problem } from "./server.js";
import { t } from "./texts.js";

/** @import { Part } from "./picture.js" */
/** @import { Detail, Entry } from "./server.js" */

/** Decoded pictures are large: only this many are kept. */
const KEPT = 6;
/** The longest side of a reduced picture. */
const SMALL = 1600;

/** A decoded picture, and a reduced copy if it is large. */
export class Raster {
  /**
   * @param {ImageBitmap} full
   * @param {ImageBitmap | null} small
   * @param {string | null} content
   */
  constructor(full, small, content) {
    this.full = full;
    this.small = small;
    this.content = content;
    this.width = full.width;
    this.height = full.height;
  }

  /** @param {Response} response */
  static async from(response) {
    const full = await createImageBitmap(await response.blob());
    const shrink = SMALL / Math.max(full.width, full.height);
    let small = null;
    if (shrink < 0.7) {
      // Scaling a large picture down again for every movement would be slow.
      const [resizeWidth, resizeHeight] = [full.width, full.height].map((n) =>
        Math.max(1, Math.round(n * shrink)),
      );
      small = await createImageBitmap(full, { resizeWidth, resizeHeight, resizeQuality: "high" });
    }
    return new Raster(full, small, contentIn(response.headers.get("ETag")?.replaceAll('"', "")));
  }

  /**
   * The cheapest bitmap that is good enough at a width on the screen.
   * @param {number} width
   */
  at(width) {
    return this.small && width <= this.small.width ? this.small : this.full;
  }

  close() {
    this.full.close();
    this.small?.close();
  }
}

/**
 * The hash of the picture file at the start of a revision or ETag.
 * @param {string | null} [text]
 */
const contentIn = (text) => text?.slice(0, 16) ?? null;

/**
 * A missing map is no error; anything else is requested again.
 * @param {unknown} error
 */
const none = (error) => {
  if ([404, 410, 501].includes(asProblem(error).status)) return null;
  throw error;
};

export class Library {
  /** @type {Map<number, Picture>} */
  #pictures = new Map();
  /** @type {Picture[]} */
  #recent = [];
  /** @type {(picture: Picture) => void} Called for each part that arrived or failed. */
  arrived = () => {};

  /** @param {Entry} entry */
  picture(entry) {
    let picture = this.#pictures.get(entry.id);
    if (!picture) this.#pictures.set(entry.id, (picture = new Picture(entry)));
    picture.entry = entry;
    return picture;
  }

  /** @param {number} id */
  known(id) {
    return this.#pictures.get(id);
  }

  /**
   * Fetches all missing parts of a picture.
   * @param {Picture} picture
   * @param {boolean} withNearest
   */
  fetch(picture, withNearest) {
    this.#recent = [picture, ...this.#recent.filter((p) => p !== picture)];
    for (const old of this.#recent.splice(KEPT)) this.forget(old);
    this.#raster(picture, "image", () => this.#bitmap(picture, "image"));
    this.#detail(picture);
    const scored = picture.entry.score !== null;
    if (scored) this.#raster(picture, "map", () => this.#bitmap(picture, "map.png").catch(none));
    if (withNearest) {
      this.#raster(picture, "nearest", () => this.#bitmap(picture, "nearest.png").catch(none));
    }
  }

  /**
   * Fetches label and suggestion again: another tab or the detector may have changed them.
   * @param {Picture} picture
   */
  refresh(picture) {
    picture.parts.detail = picture.content.detail = null;
    this.#detail(picture);
  }

  /**
   * Drops everything that can be fetched again. The drawing stays.
   * @param {Picture} picture
   */
  forget(picture) {
    for (const part of /** @type {const} */ (["image", "map", "nearest"])) {
      picture.ready[part]?.close();
      picture.parts[part] = picture.ready[part] = null;
    }
    picture.content.image = null;
  }

  /** @param {Picture} picture @param {string} name */
  async #bitmap(picture, name) {
    return Raster.from(await ask(`/api/pictures/${picture.id}/${name}`));
  }

  /**
   * @param {Picture} picture
   * @param {"image" | "map" | "nearest"} part
   * @param {() => Promise<Raster | null>} load
   */
  #raster(picture, part, load) {
    this.#once(picture, part, async (isCurrent) => {
      const raster = await load();
      if (!isCurrent()) return raster?.close();
      picture.ready[part] = raster;
      if (part === "image") picture.content.image = raster?.content ?? null;
    });
  }

  /** @param {Picture} picture */
  #detail(picture) {
    this.#once(picture, "detail", () => this.#load(picture));
  }

  /**
   * @param {Picture} picture
   * @param {Part} part
   * @param {(isCurrent: () => boolean) => Promise<void>} load
   */
  async #once(picture, part, load) {
    if (picture.parts[part]) return;
    /** @type {Promise<void>} */
    const mine = load(() => picture.parts[part] === mine);
    picture.parts[part] = mine;
    try {
      await mine;
      if (picture.parts[part] !== mine) return;
      picture.problems[part] = null;
      const { image, detail } = picture.content;
      // The file was replaced between the two requests, or long before.
      if (image && detail && image !== detail && picture.ready.image) {
        picture.isReplaced = true;
      }
    } catch (error) {
      if (picture.parts[part] !== mine) return;
      // Requested again the next time.
      picture.parts[part] = null;
      picture.problems[part] = asProblem(error);
    }
    this.arrived(picture);
  }

  /**
   * Loads label and suggestion. What was drawn meanwhile stays.
   * @param {Picture} picture
   */
  async #load(picture) {
    const revision = picture.revision;
    /** @type {Detail} */
    const detail = await (await ask(`/api/pictures/${picture.id}`)).json();
    picture.isOther = detail.name !== picture.name;
    if (picture.isOther) throw new Problem(409, t("The labeler was started again."));
    picture.lost = detail.label.lost ?? null;
    picture.content.detail = contentIn(detail.label.revision);
    if (picture.loaded && (picture.width !== detail.width || picture.height !== detail.height)) {
      // Another picture under the same name: the old drawing does not fit.
      picture.adopt(detail.label);
    }
    [picture.width, picture.height] = [detail.width, detail.height];
    const mask = detail.suggestion && Mask.fromRuns(detail.suggestion.mask);
    picture.suggestion = detail.suggestion && mask?.area ? { mask, sure: detail.suggestion.sure } : null;
    if (!picture.loaded && picture.touched) {
      // Restored from an earlier page: the server decides whether it still fits.
      picture.revision ??= detail.label.revision;
    } else if (picture.revision === null && picture.touched) {
      picture.settle(detail.label);
    } else if (picture.clean && picture.revision === revision && detail.label.revision !== revision) {
      // If only the revision differs, the undo history stays.
      if (contentOf(docOf(detail.label)) === picture.saved) picture.settle(detail.label);
      else picture.adopt(detail.label);
    }
    picture.loaded = true;
  }
}
