// @ts-check
// Saves labels: one request at a time, always the latest state, until the server has it.

import { contentOf, docOf, savedOf } from "./picture.js";
import { asProblem, ask } from "./server.js";
import { count, t } from "./texts.js";

/** @import { Picture } from "./picture.js" */
/** @import { Label, Problem } from "./server.js" */

/** Waits between attempts, in milliseconds; the last one repeats. */
const WAITS = [1000, 2000, 4000, 7000, 10000];

/**
 * @typedef {object} Hooks
 * @property {() => void} status `status` may have changed.
 * @property {(picture: Picture) => void} saved
 * @property {() => void} conflict Two labels of one picture: a person must choose.
 * @property {(picture: Picture) => void} changed The server has another file or session.
 */

const nothing = () => {};

export class Saver {
  /** @type {Hooks} */
  hooks = { status: nothing, saved: nothing, conflict: nothing, changed: nothing };
  /** @type {Map<number, Picture>} */
  #waiting = new Map();
  #running = false;
  #timer = 0;
  #failures = 0;
  #trouble = "";
  #place = "";

  /**
   * Names the label file. Unsaved labels in the browser's storage belong to that file.
   * @param {string} labels
   */
  open(labels) {
    this.#place = `weakrest label ${labels} `;
  }

  /**
   * The label or the seconds of a picture have changed.
   * @param {Picture} picture
   */
  change(picture) {
    picture.refused = "";
    if (picture.clean && Math.abs(picture.seconds - picture.savedSeconds) < 0.1 && !picture.sending) {
      this.#done(picture);
    } else {
      this.#waiting.set(picture.id, picture);
      this.#keep(picture);
      this.#run();
    }
    this.hooks.status();
  }

  /** Tries again at once. */
  retry() {
    for (const picture of this.#waiting.values()) picture.refused = "";
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#run();
  }

  /** @param {Picture} picture */
  isUnsaved(picture) {
    return this.#waiting.has(picture.id);
  }

  get unsaved() {
    return this.#waiting.size;
  }

  /** Whether the next page finds everything unsaved in the browser's storage. */
  get isKept() {
    try {
      return [...this.#waiting.values()].every((p) => localStorage.getItem(this.#place + p.name) !== null);
    } catch {
      return false;
    }
  }

  get conflicts() {
    return [...this.#waiting.values()].filter((picture) => picture.conflict);
  }

  /** @returns {[kind: "saved" | "saving" | "trouble", text: string, detail?: string]} */
  get status() {
    const unsaved = this.#waiting.size;
    if (!unsaved) return ["saved", t("Saved")];
    const kept = count(unsaved, "Not saved, kept in this page", "Not saved, {0} pictures kept in this page");
    if (this.#trouble) return ["trouble", kept, `${this.#trouble} ${t("Retrying.")}`];
    const [conflict] = this.conflicts;
    if (conflict) {
      const choose = t("{0}: choose a label to keep.", conflict.name);
      return ["trouble", t("Not saved: also saved by another tab"), choose];
    }
    const refused = [...this.#waiting.values()].find((picture) => picture.refused);
    if (refused) return ["trouble", kept, `${refused.name}: ${refused.refused}`];
    return ["saving", t("Saving…")];
  }

  /**
   * Ends a conflict. Both choices replace the server's label.
   * @param {Picture} picture
   * @param {boolean} takeTheirs
   */
  resolve(picture, takeTheirs) {
    const label = picture.conflict;
    if (!label) return;
    picture.conflict = null;
    picture.settle(label);
    if (takeTheirs) {
      picture.apply(docOf(label));
      picture.seconds = picture.savedSeconds;
    }
    this.change(picture);
  }

  /** What an earlier page could not save: names and labels. */
  leftOver() {
    /** @type {[name: string, label: Label][]} */
    const found = [];
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(this.#place)) {
          const label = JSON.parse(localStorage.getItem(key) ?? "");
          // A page of before shapes had types kept labels in another form.
          if (Array.isArray(label.shapes)) found.push([key.slice(this.#place.length), label]);
        }
      }
    } catch {
      // No storage, or a damaged entry: nothing to restore.
    }
    return found;
  }

  /** @param {Picture} picture */
  #keep(picture) {
    try {
      localStorage.setItem(this.#place + picture.name, JSON.stringify(this.#body(picture)));
    } catch {
      // Storage is full or forbidden: the page still holds the label and warns before it closes.
    }
  }

  /** @param {Picture} picture */
  #done(picture) {
    this.#waiting.delete(picture.id);
    picture.conflict = null;
    try {
      localStorage.removeItem(this.#place + picture.name);
    } catch {
      // As above.
    }
  }

  /** @param {Picture} picture */
  #body({ revision, doc, seconds }) {
    return { revision, ...savedOf(doc), seconds: Math.round(seconds * 10) / 10 };
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (;;) {
      const next = [...this.#waiting.values()].find((p) => !p.conflict && !p.refused && p.revision !== null);
      if (!next) break;
      if (!(await this.#send(next))) break;
      this.hooks.status();
    }
    this.#running = false;
    this.hooks.status();
  }

  /**
   * Returns whether to continue at once.
   * @param {Picture} picture
   */
  async #send(picture) {
    const [content, seconds, body] = [contentOf(picture.doc), picture.seconds, this.#body(picture)];
    picture.sending = true;
    try {
      const path = `/api/pictures/${picture.id}/label`;
      const answer = await (await ask(path, { method: "PUT", body })).json();
      picture.revision = answer.revision;
      [picture.saved, picture.savedSeconds] = [content, seconds];
      [this.#trouble, this.#failures] = ["", 0];
      if (contentOf(picture.doc) === content) this.#done(picture);
      else this.#keep(picture);
      this.hooks.saved(picture);
      return true;
    } catch (error) {
      return this.#failed(picture, asProblem(error));
    } finally {
      picture.sending = false;
    }
  }

  /** @param {Picture} picture @param {Problem} problem */
  #failed(picture, problem) {
    const { status, message, body } = problem;
    if (status === 409 && body.label) {
      if (contentOf(docOf(body.label)) === contentOf(picture.doc)) {
        // Both labels are equal, or an answer was lost: nothing to decide.
        picture.settle(body.label);
        this.#done(picture);
      } else {
        picture.conflict = body.label;
        this.hooks.conflict();
      }
      return true;
    }
    if (status >= 400 && status < 500) {
      // Retried when the picture comes back.
      picture.isGone = status === 404 || status === 410;
      picture.refused = message;
      if (status === 409) this.hooks.changed(picture);
      return true;
    }
    this.#trouble = message;
    const wait = WAITS[Math.min(this.#failures++, WAITS.length - 1)];
    this.#timer = window.setTimeout(() => this.#run(), wait);
    return false;
  }
}
