// @ts-check
// Messages over the picture.

import { make } from "./elements.js";
import { $ } from "./page.js";
import { t } from "./texts.js";

/** More messages than this hide the oldest. */
const SHOWN = 3;
/** How long a message without `kind` stays, in milliseconds. */
const STAY = 6000;

/**
 * Shows a message. Errors stay until they are closed.
 * @param {string} text
 * @param {string} [kind] Class names.
 */
export function notify(text, kind = "") {
  const notices = $("notices");
  for (const other of notices.children) if (other.firstChild?.textContent === text) other.remove();
  const notice = make("div", undefined, `notice ${kind}`);
  const close = make("button", "✕", "plain");
  close.ariaLabel = t("Close");
  close.addEventListener("click", () => notice.remove());
  notice.append(make("p", text), close);
  notices.append(notice);
  while (notices.children.length > SHOWN) notices.firstElementChild?.remove();
  if (!kind) setTimeout(() => notice.remove(), STAY);
}
