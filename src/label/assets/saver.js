// Brings what was drawn to the server: one request at a time, always the latest, until it is there.

import { ask, contentOf, docOf } from "./work.js";

const WAITS = [1000, 2000, 4000, 7000, 10000];

export class Saver {
  #waiting = new Map();
  #running = false;
  #timer = 0;
  #failures = 0;
  #trouble = "";
  #place;
  #hooks;

  /** `labels` names the label file, so that work left over is not mixed up with another's. */
  constructor(labels, hooks) {
    this.#place = `weakrest label ${labels} `;
    this.#hooks = hooks;
  }

  /** A picture's document has changed, or its seconds. */
  change(picture) {
    picture.refused = "";
    if (picture.clean && Math.abs(picture.seconds - picture.savedSeconds) < 0.1 && !picture.sending) {
      this.#done(picture);
    } else {
      this.#waiting.set(picture.id, picture);
      this.#keep(picture);
      this.#run();
    }
    this.#hooks.status();
  }

  /** Tries again at once. */
  retry() {
    for (const picture of this.#waiting.values()) picture.refused = "";
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#run();
  }

  isUnsaved(picture) {
    return this.#waiting.has(picture.id);
  }

  get unsaved() {
    return this.#waiting.size;
  }

  /** Whether a page that is opened next finds all that is not saved. */
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

  /** In words: `[kind, text]`, kind being saved, saving or trouble. */
  get status() {
    const count = this.#waiting.size;
    if (!count) return ["saved", "Saved"];
    const kept = count === 1 ? "kept in this page" : `${count} pictures kept in this page`;
    if (this.#trouble) return ["trouble", `Not saved, ${kept}`, `${this.#trouble} Trying again.`];
    const [conflict] = this.conflicts;
    if (conflict)
      return ["trouble", "Not saved: another tab saved it too", `${conflict.name}: decide which to keep.`];
    const refused = [...this.#waiting.values()].find((picture) => picture.refused);
    if (refused) return ["trouble", `Not saved, ${kept}`, `${refused.name}: ${refused.refused}`];
    return ["saving", "Saving…"];
  }

  /** One of two labels was chosen: the server's becomes the base of what is drawn. */
  resolve(picture, takeTheirs) {
    const label = picture.conflict;
    picture.conflict = null;
    picture.settle(label);
    if (takeTheirs) {
      picture.apply(docOf(label));
      picture.seconds = picture.savedSeconds;
    }
    this.change(picture);
  }

  /** What an earlier page could not save: `[name, label]`, labels as sent. */
  leftOver() {
    const found = [];
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(this.#place)) {
          found.push([key.slice(this.#place.length), JSON.parse(localStorage.getItem(key))]);
        }
      }
    } catch {
      // A browser without storage, or a damaged entry: there is nothing to bring back.
    }
    return found;
  }

  #keep(picture) {
    try {
      localStorage.setItem(this.#place + picture.name, JSON.stringify(this.#body(picture)));
    } catch {
      // Storage is full or forbidden: the page itself still holds the work, and warns before it is closed.
    }
  }

  #done(picture) {
    this.#waiting.delete(picture.id);
    picture.conflict = null;
    try {
      localStorage.removeItem(this.#place + picture.name);
    } catch {
      // As above.
    }
  }

  #body({ revision, doc, seconds }) {
    const { tag, boxes, rotated, mask, type } = doc;
    const label = { revision, tag, boxes, rotated, mask: mask && mask.toRuns(), type };
    return { ...label, seconds: Math.round(seconds * 10) / 10 };
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
      this.#hooks.status();
    }
    this.#running = false;
    this.#hooks.status();
  }

  /** Whether to go on at once. */
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
      this.#hooks.saved(picture);
      return true;
    } catch (problem) {
      return this.#failed(picture, problem);
    } finally {
      picture.sending = false;
    }
  }

  #failed(picture, problem) {
    const { status, message, body } = problem;
    if (status === 409 && body.label) {
      if (contentOf(docOf(body.label)) === contentOf(picture.doc)) {
        // Both drew the same, or an answer was lost on its way: there is nothing to decide.
        picture.settle(body.label);
        this.#done(picture);
      } else {
        picture.conflict = body.label;
        this.#hooks.conflict(picture);
      }
      return true;
    }
    if (status >= 400 && status < 500) {
      // It may come back, and is tried again then.
      picture.isGone = status === 404 || status === 410;
      picture.refused = message;
      if (status === 409) this.#hooks.changed(picture, message);
      return true;
    }
    this.#trouble = message ?? String(problem);
    this.#timer = setTimeout(() => this.#run(), WAITS[Math.min(this.#failures++, WAITS.length - 1)]);
    return false;
  }
}
