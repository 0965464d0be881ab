// The page: what is shown beside the canvas, and what keys and buttons do.
// Data reaches the page as text and attributes only, never as markup: names may hold anything.

import { cornersOf } from "./boxes.js";
import { Saver } from "./saver.js";
import { Stage } from "./stage.js";
import { ask, contentOf, docOf, hasShapes, Library, Stopwatch } from "./work.js";

const $ = (id) => document.getElementById(id);
const POLL = 4000;
const SPINNER_AFTER = 200;
const HELD_FROM = 350;
const touch = matchMedia("(pointer: coarse)").matches;

let state = null;
let order = [];
let current = null;
let saver = null;
let lost = false;
let reloading = false;
let acted = [];
let spent = [];
const visited = new Set();
const rows = new Map();
const watch = new Stopwatch();
const library = new Library((picture) => {
  // What the server has may have become what is drawn: nothing is left to save then.
  if (saver?.isUnsaved(picture) && picture.clean) saver.change(picture);
  if (picture.isReplaced) {
    picture.isReplaced = false;
    replaced(picture);
  }
  if (picture.lost) {
    notify(`A mask of ${picture.name} cannot be read: ${picture.lost}. The next save replaces it.`, "error");
    picture.lost = null;
  }
  if (picture.isOther) return poll();
  if (picture === current) showPicture();
  showRow(picture.entry);
});
const settings = { tool: "click", brush: 24, opacity: 0.6, map: false, type: "", prompts: {}, ...stored() };

const stage = new Stage($("canvas"), {
  click,
  stroke,
  addBox,
  changeBox,
  selection: () => showButtons(),
  hint: () => showHint(),
  view: () => say($("fit"), `${Math.round(stage?.scale * 100) || 100} %`),
});

function stored() {
  try {
    return JSON.parse(localStorage.getItem("weakrest label settings")) ?? {};
  } catch {
    return {};
  }
}
function remember(change) {
  Object.assign(settings, change);
  try {
    localStorage.setItem("weakrest label settings", JSON.stringify(settings));
  } catch {
    // Without storage the settings last as long as the page.
  }
}

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
// Unchanged elements are left alone: screen readers announce whenever text is set.
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const press = (element, on) => element.setAttribute("aria-pressed", String(on));
const number = (v) => (v >= 100 ? v.toFixed(0) : v.toPrecision(3));
const multiple = (entry) =>
  entry.score === null || !(state.threshold > 0) ? null : entry.score / state.threshold;
const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

// --- the state of all pictures ---

async function poll() {
  clearTimeout(poll.timer);
  if (!document.hidden) {
    try {
      const fresh = await (await ask("/api/state", { timeout: 15000 })).json();
      if (state && fresh.session !== state.session) return beginAgain();
      const again = lost;
      lost = false;
      merge(fresh);
      if (again) saver.retry();
    } catch (problem) {
      lost = true;
      if (!state) showEmpty(`${problem.message} This page tries again by itself.`);
    }
    showSaved();
  }
  clearTimeout(poll.timer);
  poll.timer = setTimeout(poll, state ? POLL : 1000);
}

/** Another run of the program: its numbers mean other pictures. What is not saved comes back by name. */
function beginAgain() {
  reloading = saver.isKept;
  if (current) sessionStorage.setItem("weakrest label at", current.name);
  location.reload();
}

function merge(fresh) {
  const first = state === null;
  const before = new Map(order.map((entry) => [entry.id, entry]));
  const wasPreparing = first || state.preparing > 0;
  state = fresh;
  const now = new Map(fresh.pictures.map((entry) => [entry.id, entry]));
  // Pictures that were looked at stay in their order, before all others: the way back is the way one came.
  const kept = order.filter((entry) => now.has(entry.id)).map((entry) => now.get(entry.id));
  if (wasPreparing || fresh.pictures.some((entry) => !before.has(entry.id))) {
    const seen = ({ id }) => visited.has(id);
    order = [...kept.filter(seen), ...fresh.pictures.filter((entry) => !seen(entry))];
  } else order = kept;
  for (const entry of order) {
    const picture = library.known(entry.id);
    if (!picture) continue;
    picture.entry = entry;
    const scored = entry.score !== null && before.get(entry.id)?.score === null;
    const elsewhere =
      picture.loaded && picture.clean && !saver.isUnsaved(picture) && entry.revision !== picture.revision;
    if (scored || elsewhere) library.refresh(picture);
    if (picture.isGone && !entry.missing && saver.isUnsaved(picture)) saver.retry();
  }
  if (first) begin();
  $("shownearest").disabled = !state.nearest;
  $("shownearest").parentElement.title = state.nearest
    ? ""
    : "Start weakrest label with --good DIR, the folder of the enrolled pictures, to see this.";
  showList();
  showTypes();
  if (current) {
    // Whatever could not be had before.
    fetchAll(current);
    showPicture();
  } else if (!order.length) {
    showEmpty(`There are no pictures in ${state.folder} yet. They appear here as soon as there are some.`);
  } else {
    const name = sessionStorage.getItem("weakrest label at");
    sessionStorage.removeItem("weakrest label at");
    open(order.find((entry) => entry.name === name) ?? nextOpen(-1) ?? order[0]);
  }
}

/** Once, with the first state. */
function begin() {
  saver = new Saver(state.labels, {
    status: () => {
      showSaved();
      if (current) showRow(current.entry);
    },
    saved: (picture) => {
      showRow(picture.entry);
      showProgress();
    },
    conflict: () => showConflict(),
    changed: (picture) => {
      picture.revision = null;
      replaced(picture);
      // Or the program is another one.
      poll();
    },
  });
  document.title = `label ${state.product} – weakrest`;
  say($("product"), state.product);
  $("promptfield").hidden = !state.adclick;
  $("noclicks").hidden = Boolean(state.adclick);
  document.querySelector('[data-tool="click"]').hidden = !state.adclick;
  for (const [name, label] of saver.leftOver()) {
    const entry = order.find((e) => e.name === name);
    if (!entry) continue;
    const picture = library.picture(entry);
    picture.set(docOf(label));
    [picture.revision, picture.seconds] = [label.revision, label.seconds];
    saver.change(picture);
    acted.push(picture);
  }
  stage.show.map = $("showmap").checked = settings.map;
  stage.opacity = settings.opacity;
  $("opacity").value = Math.round(settings.opacity * 100);
  stage.brush = settings.brush;
  choose(state.adclick || settings.tool !== "click" ? settings.tool : "rotated");
}

/** Another picture has taken the place of one that was looked at. */
function replaced(picture) {
  library.forget(picture);
  library.refresh(picture);
  fetchAll(picture);
  notify(
    `${picture.name} has changed on disk. Here it is as it is now: look whether what is marked still fits` +
      (saver?.isUnsaved(picture) ? "; the next change, or Ctrl+S, saves it." : "."),
    "error",
  );
}

const kindOf = (entry) => {
  const picture = library.known(entry.id);
  return picture && (picture.loaded || picture.touched)
    ? picture.doc.tag
    : (entry.kind ?? (entry.done ? "defective" : null));
};
/** Whether it can be labeled: it was not removed, and can be read. */
const isThere = (entry) => !entry.missing && !entry.error;
const indexOf = (picture) => order.findIndex((entry) => entry.id === picture?.id);

/** The first picture without a label after a place in the list, and from its start again. */
function nextOpen(from) {
  const turn = [...order.slice(from + 1), ...order.slice(0, Math.max(from, 0))];
  return turn.find((entry) => isThere(entry) && kindOf(entry) === null);
}

// --- going from picture to picture ---

/** Of the picture that is looked at, everything; the next ones' good patches only while those are looked at. */
const fetchAll = (picture) =>
  library.fetch(picture, state.nearest && (picture === current || stage.show.nearest));

function open(entry) {
  if (current && entry.id === current.id) return;
  leave();
  current = library.picture(entry);
  visited.add(entry.id);
  watch.turnTo(current);
  if (!current.touched && current.loaded) library.refresh(current);
  fetchAll(current);
  for (const row of document.querySelectorAll("#list [aria-current]")) {
    row.removeAttribute("aria-current");
    row.tabIndex = -1;
  }
  const row = rows.get(entry.id);
  if (row) {
    row.button.setAttribute("aria-current", "true");
    row.button.tabIndex = 0;
    row.button.scrollIntoView({ block: "nearest" });
  }
  $("side").classList.remove("open");
  $("listopen").setAttribute("aria-expanded", "false");
  showPicture();
}

/** What was spent on a picture after its last change is part of its label too. */
function leave() {
  watch.stir();
  if (!current?.touched || current.doc.open || current.doc.tag === null) return;
  spent = [...spent.filter((s) => s.id !== current.id), { id: current.id, seconds: current.seconds }].slice(
    -12,
  );
  if (current.seconds - current.savedSeconds >= 0.5) saver.change(current);
}

function step(by) {
  const entry = order[indexOf(current) + by];
  if (entry) open(entry);
}

function goOn() {
  const entry = nextOpen(indexOf(current));
  if (entry) return open(entry);
  leave();
  if (order.length && order.every((e) => !isThere(e) || kindOf(e) !== null)) {
    notify(
      `All ${order.filter(isThere).length} pictures are labeled; the labels are in ${state.labels}.`,
      "done",
    );
  }
}

// --- what is done to a picture ---

const usable = () => Boolean(current?.loaded && current.ready.image && isThere(current.entry));

function act(change) {
  watch.stir();
  const type = change.tag === "good" ? null : (current.doc.type ?? (settings.type || null));
  current.apply({ type, ...change });
  acted.push(current);
  settle(current);
}

/** Whatever a document has become: clicks are sent, everything else is saved. */
function settle(picture) {
  if (picture.doc.tag === null && !picture.doc.open && picture.doc.type !== null) {
    picture.doc = { ...picture.doc, type: null };
  }
  if (picture.doc.open) solve(picture);
  else {
    picture.asking?.abort();
    picture.asking = null;
    saver.change(picture);
  }
  if (picture === current) showPicture();
  showRow(picture.entry);
  showProgress();
}

function click([x, y], positive) {
  const { doc } = current;
  const at = (value) => Math.round(value * 100) / 100;
  act({
    clicks: [...doc.clicks, { x: at(x), y: at(y), positive }],
    previous: doc.open ? doc.previous : doc.mask,
    open: true,
  });
}

/** Asks for the mask of a document's clicks. An answer to what is no longer asked is dropped. */
async function solve(picture) {
  picture.asking?.abort();
  const asking = (picture.asking = new AbortController());
  const { doc } = picture;
  const timer = setTimeout(() => {
    picture.slow = true;
    showWorking();
  }, SPINNER_AFTER);
  try {
    const body = {
      clicks: doc.clicks,
      previous: doc.previous && doc.previous.toRuns(),
      prompt: promptNow() || null,
      type: doc.type,
    };
    const path = `/api/pictures/${picture.id}/click`;
    const answer = await (await ask(path, { method: "POST", body, signal: asking.signal })).json();
    if (picture.doc !== doc) return;
    const mask = docOf({ tag: null, boxes: [], rotated: [], mask: answer.mask, type: null }).mask;
    picture.set({ ...doc, mask, previous: null, open: false });
    if (answer.unknown_words) notify("The network does not know these words: the mask is made without them.");
    if (!mask) notify("Nothing is found there. Click nearer to the defect's middle, or use the brush.");
    settle(picture);
  } catch (problem) {
    if (asking.signal.aborted || picture.doc !== doc) return;
    // What was drawn since the click stays; the clicks that got no answer go.
    const before = picture.past.findLast((past) => !past.open);
    const drawn = { ...doc, clicks: before?.clicks ?? [], previous: null, open: false };
    if (before && contentOf(before) === contentOf(drawn)) {
      while (picture.doc.open && picture.past.length) picture.doc = picture.past.pop();
    } else picture.set(drawn);
    notify(`The click was not taken. ${problem.message}`, "error");
    if (problem.status === 409) {
      library.forget(picture);
      library.refresh(picture);
      fetchAll(picture);
    }
    settle(picture);
  } finally {
    clearTimeout(timer);
    if (picture.asking === asking || !picture.asking) picture.slow = false;
    showWorking();
  }
}

function stroke(mask) {
  const { doc } = current;
  const nothing = !mask.area;
  if (nothing && !doc.mask) return;
  if (nothing) act({ mask: null, clicks: [], previous: null, open: false });
  else act({ mask, previous: doc.open ? mask : null });
}

function addBox(kind, box) {
  act({ [kind]: [...current.doc[kind], box] });
  stage.selected = { kind, index: current.doc[kind].length - 1 };
  showHint();
}

function changeBox(kind, index, box) {
  act({ [kind]: current.doc[kind].with(index, box) });
}

function tag(value) {
  if (!usable()) return;
  if (value === "good") act({ ...EMPTY, tag: "good" });
  else if (current.doc.tag !== "defective") act({ tag: "defective" });
  goOn();
}

const EMPTY = { mask: null, boxes: [], rotated: [], clicks: [], previous: null, open: false, tag: null };

/** The selected box goes, or else everything. */
function remove() {
  if (!usable()) return;
  const { selected } = stage;
  const { doc } = current;
  stage.cancel();
  if (selected) act({ [selected.kind]: doc[selected.kind].toSpliced(selected.index, 1) });
  else if (doc.tag !== null || doc.open) act(EMPTY);
}

function undo() {
  if (stage.drawing) return stage.cancel();
  stage.cancel();
  // The last thing done may be the tag that led here from the picture before.
  let picture = current;
  const at = acted.lastIndexOf(picture);
  if (picture?.past.length) acted = acted.filter((_, i) => i !== at);
  else while (acted.length && !picture?.past.length) picture = acted.pop();
  if (!picture?.past.length) return;
  if (picture !== current) open(picture.entry);
  watch.stir();
  picture.undo();
  settle(picture);
}

function redo() {
  stage.cancel();
  if (!current?.redo()) return;
  acted.push(current);
  settle(current);
}

const offered = () => {
  if (!usable() || !current.suggestion) return null;
  const { doc } = current;
  return doc.tag === null && !doc.open && !doc.clicks.length ? current.suggestion : null;
};

function accept() {
  const suggestion = offered();
  if (suggestion) act({ mask: suggestion.mask });
}

function escape() {
  if (stage.cancel()) return;
  $("side").classList.remove("open");
  $("canvas").focus();
}

// --- type and prompt ---

/** The type of what is shown, or of what will be drawn. */
const shownType = () => (current?.doc.tag === "defective" ? (current.doc.type ?? "") : settings.type);
const promptNow = () => settings.prompts[shownType()] ?? "";

function typeChanged() {
  const type = $("type").value.trim();
  remember({ type });
  if (usable() && current.doc.tag === "defective" && (current.doc.type ?? "") !== type) {
    act({ type: type || null });
  }
  showTypes();
}

function promptChanged() {
  remember({ prompts: { ...settings.prompts, [shownType()]: $("prompt").value.trim() } });
  // Words may mend a mask that the clicks alone did not get right.
  if (usable() && current.doc.clicks.length) act({ previous: current.doc.mask, open: true });
}

function showTypes() {
  if (!state) return;
  const own = order.map((entry) => library.known(entry.id)?.doc.type).filter(Boolean);
  options($("types"), [...new Set([...state.types, ...own])]);
  const shown = shownType();
  if (document.activeElement !== $("type")) $("type").value = shown;
  options($("prompts"), state.prompts[shown] ?? Object.values(state.prompts).flat());
  if (document.activeElement !== $("prompt")) $("prompt").value = settings.prompts[shown] ?? "";
}

function options(list, values) {
  const key = JSON.stringify(values);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...values.map((value) => {
      const option = make("option");
      option.value = value;
      return option;
    }),
  );
}

// --- what is shown ---

function showEmpty(text) {
  $("empty").hidden = !text;
  if (text) say($("empty"), text);
}

function showPicture() {
  const { entry, doc, ready, problem } = current;
  const suggestion = offered();
  stage.enabled = usable();
  stage.present({
    id: current.id,
    image: ready.image,
    map: ready.map,
    nearest: ready.nearest,
    // Not known before the server has read the picture.
    width: current.width ?? ready.image?.width ?? 1,
    height: current.height ?? ready.image?.height ?? 1,
    doc: current.loaded || current.touched ? doc : null,
    suggestion,
  });
  say($("name"), current.name);
  const times = multiple(entry);
  const facts =
    times === null
      ? ["not inspected yet"]
      : [`score ${number(entry.score)}`, `${times.toFixed(2)} × the threshold`];
  say($("score"), facts.join(" · "));
  $("canvas").setAttribute("aria-label", `${current.name}, ${summary(doc)}`);
  const missing = entry.missing ? `${current.name} was removed from the folder.` : entry.error;
  const lacking = problem && !(ready.image && current.loaded);
  showEmpty(missing || (lacking ? `${current.name}: ${problem.message}` : ""));
  $("offer").hidden = !suggestion;
  if (suggestion) {
    say(
      $("offer").querySelector("span"),
      suggestion.sure ? "The detector is sure of this." : "Perhaps this?",
    );
  }
  showTypes();
  showButtons();
  showHint();
  showWorking();
  if (ready.image && current.loaded) ahead();
}

/** The pictures that come next are fetched while this one is worked on. */
function ahead() {
  const at = indexOf(current);
  const following = [nextOpen(at), order[at + 1]].filter(
    (entry) => entry && isThere(entry) && entry.id !== current.id,
  );
  for (const entry of new Set(following)) {
    const picture = library.picture(entry);
    if (!picture.problem) fetchAll(picture);
  }
}

function summary(doc) {
  if (doc.tag === null) return "no label";
  if (doc.tag === "good") return "good";
  const boxes = doc.boxes.length + doc.rotated.length;
  const shapes = [
    doc.mask && `mask of ${plural(doc.mask.area, "pixel")}`,
    boxes && plural(boxes, "box", "boxes"),
  ];
  return ["defective", doc.type, ...shapes].filter(Boolean).join(", ");
}

function showButtons() {
  if (!current) return;
  const { doc, past, future } = current;
  const can = usable();
  press($("good"), doc.tag === "good");
  press($("defective"), doc.tag === "defective");
  for (const id of ["good", "defective"]) $(id).disabled = !can;
  $("undo").disabled = !past.length && !acted.some((p) => p.past.length);
  $("redo").disabled = !future.length;
  $("clear").disabled = !can || (doc.tag === null && !doc.open);
  say($("clear").querySelector("span"), stage.selected ? "Remove" : "Clear");
  const at = indexOf(current);
  $("previous").disabled = at <= 0;
  $("next").disabled = at >= order.length - 1;
}

const HINTS = touch
  ? {
      click: "Tap the defect. Two fingers move and zoom.",
      rotated: "Draw a line along the defect.",
      width: "Now draw across it, for its width.",
      box: "Draw from corner to corner. Tap a box to change it.",
      brush: "Paint what is defective.",
      eraser: "Paint what is not defective.",
    }
  : {
      click: "Left-click the defect. Right-click to exclude background.",
      rotated: "Draw a line along the defect. Click a box to change it.",
      width: "Now move across it, for its width, and click.",
      box: "Draw from corner to corner. Click a box to change it.",
      brush: "Paint what is defective; the right button erases.",
      eraser: "Paint what is not defective; the right button adds.",
    };

function showHint() {
  const selected = `Draw a corner to resize it, the inside to move it; ${touch ? "Remove" : "Delete"} takes it away.`;
  const width = stage.stage === "width" && HINTS.width;
  say($("hint"), width || (stage.selected && !stage.drawing ? selected : HINTS[stage.tool]));
}

function showWorking() {
  $("working").hidden = !(current?.doc.open && current.slow);
}

function showList() {
  if (
    order.length !== $("list").children.length ||
    order.some((e, i) => $("list").children[i] !== rows.get(e.id)?.item)
  ) {
    $("list").replaceChildren(
      ...order.map((entry) => {
        if (rows.has(entry.id)) return rows.get(entry.id).item;
        const [item, button, mark, name, score] = ["li", "button", "i", "span", "em"].map((t) => make(t));
        const cut = entry.name.lastIndexOf("/") + 1;
        name.append(make("s", entry.name.slice(0, cut)), make("b", entry.name.slice(cut)));
        mark.ariaHidden = "true";
        button.type = "button";
        button.tabIndex = -1;
        button.append(mark, name, score);
        button.addEventListener("click", () => open(rows.get(entry.id).entry));
        item.append(button);
        rows.set(entry.id, { item, button, mark, score, entry });
        return item;
      }),
    );
  }
  order.forEach(showRow);
  $("preparing").hidden = !state.preparing;
  say($("preparing"), `${plural(state.preparing, "picture")} still to be inspected.`);
  showProgress();
}

function showRow(entry) {
  const row = rows.get(entry.id);
  if (!row || !saver) return;
  row.entry = entry;
  const kind = kindOf(entry);
  const picture = library.known(entry.id);
  const unsaved = Boolean(picture && saver.isUnsaved(picture));
  const times = multiple(entry);
  say(row.mark, { good: "✓", defective: "●" }[kind] ?? "");
  say(row.score, unsaved ? "not saved" : times === null ? "" : `${times.toFixed(2)}×`);
  const className = [kind, !isThere(entry) && "missing", unsaved && "unsaved"].filter(Boolean).join(" ");
  if (row.button.className !== className) row.button.className = className;
  const facts = [
    entry.name,
    entry.missing ? "removed" : entry.error ? "unreadable" : (kind ?? "no label"),
    times && `${times.toFixed(2)} times the threshold`,
  ];
  const name = facts.filter(Boolean).join(", ");
  if (row.button.ariaLabel !== name) [row.button.ariaLabel, row.button.title] = [name, name];
}

function showProgress() {
  const there = order.filter(isThere);
  const done = there.filter((entry) => kindOf(entry) !== null).length;
  say($("count"), `${done} of ${there.length} labeled`);
  $("bar").ariaValueMax = there.length;
  $("bar").ariaValueNow = done;
  $("bar").firstElementChild.style.width = `${there.length ? (100 * done) / there.length : 0}%`;
  const mean = spent.reduce((sum, s) => sum + s.seconds, 0) / spent.length;
  const minutes = (mean * (there.length - done)) / 60;
  const rest = minutes < 1 ? "less than a minute left" : `about ${Math.round(minutes)} min left`;
  say($("rest"), spent.length < 2 || done === there.length ? "" : rest);
}

let told = "";
function showSaved() {
  let [kind, text, detail] = saver?.status ?? ["saving", "Connecting…"];
  if (lost && kind !== "trouble") [kind, text] = ["trouble", "No connection to the labeler"];
  $("save").className = `plain ${kind}`;
  say($("saved"), text);
  if (detail !== told) {
    told = detail;
    document.querySelector("#notices .saving")?.remove();
    if (detail) notify(detail, "error saving");
  }
}

/** Words over the picture: errors stay until they are closed. */
function notify(text, kind = "") {
  for (const other of $("notices").children) if (other.firstChild.textContent === text) other.remove();
  const notice = make("div", undefined, `notice ${kind}`);
  const close = make("button", "✕", "plain");
  close.ariaLabel = "Close";
  close.addEventListener("click", () => notice.remove());
  notice.append(make("p", text), close);
  $("notices").append(notice);
  while ($("notices").children.length > 3) $("notices").firstElementChild.remove();
  if (!kind) setTimeout(() => notice.remove(), 6000);
}

async function showConflict() {
  const [picture] = saver.conflicts;
  if (!picture || $("conflict").open) return;
  say($("conflicttitle"), `${picture.name} was also saved by another tab`);
  $("conflict").showModal();
  const sides = [
    ["mine", "Mine", picture.doc],
    ["theirs", "The other tab's", docOf(picture.conflict)],
  ];
  for (const [id, title, doc] of sides) {
    say($(`${id}canvas`).parentElement.querySelector("figcaption"), `${title}: ${summary(doc)}`);
    $(`${id}canvas`).ariaLabel = `${title}: ${summary(doc)}`;
    sketch($(`${id}canvas`), picture, doc);
  }
  library.fetch(picture, false);
  await Promise.allSettled([picture.parts.image, picture.parts.detail]);
  for (const [id, , doc] of sides) sketch($(`${id}canvas`), picture, doc);
}

/** A small picture of a label. */
function sketch(canvas, picture, doc) {
  if (!picture.width) return;
  const c = canvas.getContext("2d");
  const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
  c.reset();
  c.translate((canvas.width - picture.width * scale) / 2, (canvas.height - picture.height * scale) / 2);
  c.scale(scale, scale);
  if (picture.ready.image) c.drawImage(picture.ready.image, 0, 0, picture.width, picture.height);
  [c.lineWidth, c.strokeStyle, c.fillStyle] = [2 / scale, "#ff2e9a", "rgb(255 46 154 / 0.4)"];
  if (doc.mask) {
    c.fill(doc.mask.path, "evenodd");
    c.stroke(doc.mask.path);
  }
  c.strokeStyle = "#19b5fe";
  for (const box of [...doc.boxes, ...doc.rotated]) {
    c.beginPath();
    cornersOf(box).forEach((p, i) => (i ? c.lineTo(...p) : c.moveTo(...p)));
    c.closePath();
    c.stroke();
  }
}

function decide(takeTheirs) {
  const [picture] = saver.conflicts;
  $("conflict").close();
  if (!picture) return;
  saver.resolve(picture, takeTheirs);
  if (takeTheirs) acted.push(picture);
  settle(picture);
  if (saver.conflicts.length) showConflict();
}

// --- tools and overlays ---

function choose(tool) {
  if (tool === "click" && state && !state.adclick) return;
  if (tool !== stage.tool) stage.cancel();
  stage.tool = tool;
  remember({ tool });
  for (const button of document.querySelectorAll("[data-tool]")) press(button, button.dataset.tool === tool);
  const brushing = tool === "brush" || tool === "eraser";
  $("brushfield").hidden = !brushing;
  $("polarity").hidden = tool !== "click";
  setBrush(stage.brush);
  setNegative(false);
  showHint();
  stage.redraw();
}

function setNegative(negative) {
  stage.negative = negative;
  document.querySelector(`[name=polarity][value=${negative ? "negative" : "positive"}]`).checked = true;
}

const largest = () => (current ? Math.max(16, current.width / 3, current.height / 3) : 500);

function setBrush(size) {
  stage.brush = Math.round(Math.min(Math.max(size, 1), largest()));
  remember({ brush: stage.brush });
  $("brush").value = (100 * Math.log(stage.brush)) / Math.log(largest());
  say($("brushsize"), `${stage.brush} px`);
  stage.redraw();
}

const grow = (by) =>
  setBrush(
    by > 0 ? Math.max(stage.brush + 1, stage.brush * 1.2) : Math.min(stage.brush - 1, stage.brush / 1.2),
  );

function setOpacity(value) {
  stage.opacity = Math.min(Math.max(value, 0.1), 1);
  remember({ opacity: stage.opacity });
  $("opacity").value = Math.round(stage.opacity * 100);
  stage.redraw();
}

function toggle(name) {
  const box = $(`show${name}`);
  if (box.disabled) return notify(box.parentElement.title);
  box.checked = !box.checked;
  shown(name);
}

function shown(name) {
  stage.show[name] = $(`show${name}`).checked;
  if (name === "map") remember({ map: stage.show.map });
  if (name === "nearest" && current) fetchAll(current);
  stage.redraw();
}

// --- keys: what they do, and what the help says of them ---

const KEYS = {
  "Label and go on": [
    ["G", "Good, and on to the next", () => tag("good")],
    ["D", "Defective, and on to the next", () => tag("defective")],
    ["S", "Take the suggestion", accept],
    ["Enter", "Next picture without a label", goOn],
    ["N", "Next picture", () => step(1), "PageDown"],
    ["P", "Previous picture", () => step(-1), "PageUp"],
  ],
  Draw: [
    ["C", "Click", () => choose("click"), "1"],
    ["R", "Rotated box", () => choose("rotated"), "2"],
    ["U", "Upright box", () => choose("box"), "3"],
    ["B", "Brush", () => choose("brush"), "4"],
    ["E", "Eraser", () => choose("eraser"), "5"],
    ["X", "Click marks defect / no defect", () => stage.tool === "click" && setNegative(!stage.negative)],
    ["[", "Smaller brush", () => grow(-1)],
    ["]", "Larger brush", () => grow(1)],
  ],
  Correct: [
    ["Ctrl+Z", "Undo", undo],
    ["Ctrl+Shift+Z", "Redo", redo, "Ctrl+Y"],
    ["Delete", "Remove the selected box, or all", remove, "Backspace"],
    ["Escape", "Leave what is half drawn", escape],
    ["T", "Defect type", () => $("type").select()],
    ["I", "In words, for the clicks", () => $("prompt").select()],
    ["Ctrl+S", "Save now", () => saver?.retry()],
  ],
  "Draw without a mouse": [
    ["Arrows", "Move the pointer (Shift: far, Ctrl: a bit)"],
    ["Space", "Press: click, begin and end a stroke"],
    ["Shift+Space", "Press with the opposite effect"],
  ],
  See: [
    ["M", "What is marked", () => toggle("mask")],
    ["A", "Anomaly map", () => toggle("map")],
    ["W", "What it should look like", () => toggle("nearest")],
    [",", "More transparent", () => setOpacity(stage.opacity - 0.1)],
    [".", "Less transparent", () => setOpacity(stage.opacity + 0.1)],
    ["+", "Zoom in", () => stage.zoom(1.4), "="],
    ["-", "Zoom out", () => stage.zoom(1 / 1.4)],
    ["0", "Show all of the picture", () => stage.fit()],
    ["L", "List of pictures", showSide],
    ["?", "These keys", () => $("help").showModal()],
  ],
};
const RUN = new Map(
  Object.values(KEYS)
    .flat()
    .filter(([, , run]) => run)
    .flatMap(([key, , run, also]) => [
      [key, run],
      [also, run],
    ]),
);
const PEEK = ["M", "A", "W"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let held = null;

function named(event) {
  // Some keyboards need AltGr for brackets; browsers tell it as Ctrl and Alt.
  const graph = event.getModifierState("AltGraph");
  if (event.altKey && !graph) return null;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const letter = /^[A-Z]$/.test(key) || event.key.length > 1;
  const control = (event.ctrlKey || event.metaKey) && !graph;
  return `${control ? "Ctrl+" : ""}${event.shiftKey && letter ? "Shift+" : ""}${key}`;
}

function down(event) {
  watch.stir();
  if (event.key === "Tab" || ARROWS[event.key]) document.body.classList.add("keys");
  const { target } = event;
  if (document.querySelector("dialog[open]")) {
    if (event.key === "?" && $("help").open) $("help").close();
    return;
  }
  const text = target.matches("input:not([type=range], [type=checkbox], [type=radio])");
  if (text) {
    if (event.key === "Enter" || event.key === "Escape") {
      if (event.key === "Escape") target.value = target.defaultValue;
      event.preventDefault();
      $("canvas").focus();
    }
    return;
  }
  const key = named(event);
  if (key === null || event.isComposing) return;
  const listed = target.closest("#list");
  if (listed && (key === "ArrowDown" || key === "ArrowUp")) {
    const item =
      key === "ArrowDown"
        ? target.parentElement.nextElementSibling
        : target.parentElement.previousElementSibling;
    item?.firstElementChild.focus();
    return event.preventDefault();
  }
  if (
    target.matches("button, input") &&
    (key === "Enter" || key === " " || (ARROWS[key] && target.matches("input")))
  )
    return;
  if (event.key === " ") {
    event.preventDefault();
    if (!event.repeat) stage.hold(true);
    return;
  }
  if (ARROWS[event.key]) {
    event.preventDefault();
    const by = event.shiftKey ? 40 : event.ctrlKey ? 1 : 8;
    stage.nudge(...ARROWS[event.key].map((d) => d * by));
    return;
  }
  const run = RUN.get(key);
  if (!run) return;
  event.preventDefault();
  if (
    event.repeat &&
    !["[", "]", ",", ".", "+", "=", "-", "N", "P", "PageDown", "PageUp", "Ctrl+Z", "Ctrl+Shift+Z"].includes(
      key,
    )
  )
    return;
  if (PEEK.includes(key)) held = { key, since: performance.now() };
  run();
}

function up(event) {
  if (event.key === " ") {
    if (!stage.hold(false) && event.target.matches("body, canvas") && usable()) stage.press(event.shiftKey !== stage.negative);
  } else if (held && event.key.toUpperCase() === held.key) {
    if (performance.now() - held.since > HELD_FROM) RUN.get(held.key)();
    held = null;
  }
}

function showSide() {
  const open = $("side").classList.toggle("open");
  $("listopen").setAttribute("aria-expanded", String(open));
  if (open) document.querySelector("#list [aria-current]")?.focus();
}

// --- wiring ---

const on = (id, type, run) => $(id).addEventListener(type, run);
document.addEventListener("keydown", down);
document.addEventListener("keyup", up);
for (const type of ["pointermove", "pointerdown", "wheel"]) {
  document.addEventListener(type, () => watch.stir(), { passive: true, capture: true });
}
// Buttons take the keyboard only from those who come by keyboard: after a mouse's click, keys go on to draw.
document.addEventListener("mousedown", (event) => {
  if (!event.target.closest("button, label:has([type=checkbox], [type=radio])")) return;
  event.preventDefault();
  // Words that are being typed belong to this picture, not to the one that the button leads to.
  if (document.activeElement?.matches("#type, #prompt")) $("canvas").focus({ preventScroll: true });
});
for (const range of document.querySelectorAll("[type=range]")) {
  range.addEventListener("pointerup", () => $("canvas").focus());
}
for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => choose(button.dataset.tool));
}
for (const [id, run] of Object.entries({
  good: () => tag("good"),
  defective: () => tag("defective"),
  accept,
  undo,
  redo,
  clear: remove,
  previous: () => step(-1),
  next: () => step(1),
  jump: goOn,
  in: () => stage.zoom(1.4),
  out: () => stage.zoom(1 / 1.4),
  fit: () => stage.fit(),
  listopen: showSide,
  helpopen: () => $("help").showModal(),
  mine: () => decide(false),
  theirs: () => decide(true),
  save: () => (saver?.conflicts.length ? showConflict() : saver?.retry()),
}))
  on(id, "click", run);
for (const name of ["mask", "map", "nearest"]) on(`show${name}`, "change", () => shown(name));
for (const radio of document.querySelectorAll("[name=polarity]")) {
  radio.addEventListener("change", () => setNegative(radio.value === "negative"));
}
on("brush", "input", () => setBrush(Math.exp(($("brush").value / 100) * Math.log(largest()))));
on("opacity", "input", () => setOpacity($("opacity").value / 100));
on("type", "change", typeChanged);
on("prompt", "change", promptChanged);
for (const id of ["type", "prompt"]) {
  on(id, "focus", () => ($(id).defaultValue = $(id).value));
  on(id, "blur", showTypes);
}
$("help")
  .querySelector(".close")
  .addEventListener("click", () => $("help").close());
document.addEventListener("pointerdown", (event) => {
  document.body.classList.remove("keys");
  if (!event.target.closest("#side, #listopen")) $("side").classList.remove("open");
  if (event.target === $("help")) $("help").close();
});
document.addEventListener("visibilitychange", () => {
  watch.skip();
  if (!document.hidden) poll();
});
addEventListener("beforeunload", (event) => {
  if (reloading) return;
  if (saver?.unsaved || current?.doc.open) event.preventDefault();
});
addEventListener("online", () => saver?.retry());
$("keys").replaceChildren(
  ...Object.entries(KEYS).map(([title, keys]) => {
    const section = make("section");
    section.append(
      make("h3", title),
      ...keys.map(([key, text]) => {
        const line = make("p", text);
        const names = make("span");
        key.split(/\+(?=.)/).forEach((name) => names.append(" ", make("kbd", name)));
        line.append(names);
        return line;
      }),
    );
    return section;
  }),
);
poll();
