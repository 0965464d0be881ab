// @ts-check
// The list of pictures, and the progress above it.

import { desk, filter, isListed, isThere, kindOf, library, multiple, saver } from "./desk.js";
import { inner, make, say } from "./elements.js";
import { $ } from "./page.js";
import { ask } from "./server.js";
import { count, fixed, t, whole } from "./texts.js";

/** @import { Entry } from "./server.js" */
/** @typedef {{ item: HTMLElement, button: HTMLButtonElement, mark: Element, score: Element,
 *              entry: Entry }} Row */

/** @type {Map<number, Row>} */
const rows = new Map();

/** Fetches small pictures as they come into sight. Images of their own would ask without the token. */
const seen = new IntersectionObserver(
  (changes) => {
    for (const { isIntersecting, target } of changes) {
      if (!isIntersecting || !(target instanceof HTMLImageElement)) continue;
      seen.unobserve(target);
      void showSmall(target);
    }
  },
  { rootMargin: "200px" },
);

/** @param {HTMLImageElement} image */
async function showSmall(image) {
  try {
    image.src = URL.createObjectURL(await (await ask(`/api/pictures/${image.dataset.id}/small.jpg`)).blob());
  } catch {
    // The list says what is wrong with a picture.
  }
}

/**
 * The picture of a row.
 * @param {EventTarget | null} target
 */
export function entryAt(target) {
  const button = target instanceof Element && target.closest("button");
  return [...rows.values()].find((row) => row.button === button)?.entry;
}

export function showList() {
  const { order, state } = desk;
  const shown = $("list").children;
  if (order.length !== shown.length || order.some((e, i) => shown[i] !== rows.get(e.id)?.item)) {
    $("list").replaceChildren(...order.map((entry) => (rows.get(entry.id) ?? newRow(entry)).item));
  }
  order.forEach(showRow);
  const preparing = state?.preparing ?? 0;
  $("preparing").hidden = !preparing;
  say($("preparing"), count(preparing, "Inspecting {0} more picture.", "Inspecting {0} more pictures."));
  showProgress();
}

/** @param {Entry} entry */
function newRow(entry) {
  const [item, button, mark, name, score] = [make("li"), make("button"), make("i"), make("span"), make("em")];
  const small = make("img");
  small.alt = "";
  small.dataset.id = String(entry.id);
  seen.observe(small);
  const cut = entry.name.lastIndexOf("/") + 1;
  name.append(make("s", entry.name.slice(0, cut)), make("b", entry.name.slice(cut)));
  mark.ariaHidden = "true";
  button.type = "button";
  button.tabIndex = -1;
  button.append(mark, small, name, score);
  item.append(button);
  const row = { item, button, mark, score, entry };
  rows.set(entry.id, row);
  return row;
}

/** @param {Entry} entry */
export function showRow(entry) {
  const row = rows.get(entry.id);
  if (!row) return;
  row.entry = entry;
  // The current picture stays in the list while somebody works on it.
  row.item.hidden = !isListed(entry) && entry.id !== desk.current?.id;
  const kind = kindOf(entry);
  const picture = library.known(entry.id);
  const unsaved = Boolean(picture && saver.isUnsaved(picture));
  const times = multiple(entry);
  say(row.mark, kind === "good" ? "✓" : kind === "defective" ? "●" : "");
  say(row.score, unsaved ? t("not saved") : times === null ? "" : `${fixed(times, 2)}×`);
  const className = [kind, !isThere(entry) && "missing", unsaved && "unsaved"].filter(Boolean).join(" ");
  if (row.button.className !== className) row.button.className = className;
  const facts = [
    entry.name,
    entry.missing ? t("removed") : entry.error ? t("unreadable") : kind ? t(kind) : t("no label"),
    times && t("{0} times the threshold", fixed(times, 2)),
  ];
  const name = facts.filter(Boolean).join(", ");
  if (row.button.ariaLabel !== name) [row.button.ariaLabel, row.button.title] = [name, name];
}

/**
 * Marks the row of the current picture.
 * @param {Entry} entry
 */
export function showCurrent(entry) {
  // The picture before may no longer be among those that are listed.
  desk.order.forEach(showRow);
  for (const row of document.querySelectorAll("#list [aria-current]")) {
    row.removeAttribute("aria-current");
    if (row instanceof HTMLElement) row.tabIndex = -1;
  }
  const row = rows.get(entry.id);
  if (!row) return;
  row.button.setAttribute("aria-current", "true");
  row.button.tabIndex = 0;
  row.button.scrollIntoView({ block: "nearest" });
}

export function showProgress() {
  const there = desk.order.filter(isThere);
  const done = there.filter((entry) => kindOf(entry) !== null).length;
  say($("count"), t("{0} of {1} labeled", whole(done), whole(there.length)));
  $("bar").ariaValueMax = String(there.length);
  $("bar").ariaValueNow = String(done);
  inner($("bar"), "i").style.width = `${there.length ? (100 * done) / there.length : 0}%`;
  const mean = desk.spent.reduce((sum, s) => sum + s.seconds, 0) / desk.spent.length;
  const minutes = (mean * (there.length - done)) / 60;
  const rest = minutes < 1 ? t("less than a minute left") : t("about {0} min left", whole(Math.round(minutes)));
  say($("rest"), desk.spent.length < 2 || done === there.length ? "" : rest);
}

/** Lists what the fields above the list ask for. */
export function showFiltered() {
  filter.text = $("search").value.trim().toLowerCase();
  const which = $("which").value;
  filter.which = which === "open" || which === "good" || which === "defective" ? which : "all";
  desk.order.forEach(showRow);
}

/** Opens or closes the list on a narrow screen. */
export function showSide() {
  const open = $("side").classList.toggle("open");
  $("listopen").setAttribute("aria-expanded", String(open));
  if (open) inner(document, "#list [aria-current]")?.focus();
}

export function hideSide() {
  $("side").classList.remove("open");
  $("listopen").setAttribute("aria-expanded", "false");
}
