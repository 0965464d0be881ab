// @ts-check
// Counts the seconds of work on a picture.

/** @import { Picture } from "./picture.js" */

/** A longer gap without input is a pause, in milliseconds. */
const PAUSE = 30000;

export class Stopwatch {
  /** @type {Picture | null} */
  #picture = null;
  #last = 0;

  /** @param {Picture} picture */
  turnTo(picture) {
    this.stir();
    this.#picture = picture;
    this.#last = performance.now();
  }

  /** Input: counts the time since the last input, unless it was a pause. */
  stir() {
    const now = performance.now();
    const gap = now - this.#last;
    this.#last = now;
    if (this.#picture && !document.hidden && gap <= PAUSE) this.#picture.seconds += gap / 1000;
  }

  /** The page was hidden or shown: the time in between does not count. */
  skip() {
    if (document.hidden) {
      const gap = performance.now() - this.#last;
      if (this.#picture && gap <= PAUSE) this.#picture.seconds += gap / 1000;
    }
    this.#last = document.hidden ? -Infinity : performance.now();
  }
}
