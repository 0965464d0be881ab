"use strict";
// Data reaches the page as text and attributes only, never as markup: reasons may hold anything.

const $ = (id) => document.getElementById(id);
const KEPT = 500;
const CEILING = 3;

let parts = [];
let [after, shown, rejectShown] = [0, "", undefined];
let [started, pictured, lastAnswer] = [null, null, null];
let [busy, timer, fading] = [false];
let [labels, asked] = [false, []];

const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
// Unchanged elements are left alone: screen readers announce, and selections vanish, whenever text is set.
const say = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const dress = (element, className) => {
  if (element.className !== className) element.className = className;
};
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");
const whole = (n) => n.toLocaleString("en-US");
const number = (v) => (v === null ? "–" : v >= 100 ? v.toFixed(0) : v.toPrecision(3));
const ms = (v) => (v >= 100 ? v.toFixed(0) : v.toFixed(1));
const ratio = (p) => (p.score === null || !(p.threshold > 0) ? null : p.score / p.threshold);
const title = (p) => `part ${whole(p.part)} · ${clock(p.time_ms)}`;
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const duration = (s) => {
  const [minutes, hours] = [Math.floor(s / 60), Math.floor(s / 3600)];
  if (hours < 1) return minutes < 1 ? `${Math.floor(s)} s` : `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
};

const ask = (path, options) => fetch(path, { signal: AbortSignal.timeout(5000), ...options });
async function read(path) {
  const response = await ask(path);
  if (!response.ok) throw new Error(path);
  return response.json();
}

async function poll() {
  if (busy) return schedule(50);
  busy = true;
  let wait = document.hidden ? 10000 : 700;
  try {
    const [status, news] = await Promise.all([read("/api/status"), read(`/api/parts?after=${after}`)]);
    if (status.started_ms !== started || news.started_ms !== started) {
      // Numbers start anew with the service: what was asked for by the old ones is asked for again.
      if (started !== null) wait = 0;
      started = status.started_ms;
      [parts, after, shown, pictured, rejectShown] = [[], 0, "", null, undefined];
      $("picture").replaceChildren(make("p", "no picture yet"));
      say($("caption"), "");
    }
    if (wait) {
      after = news.next;
      parts = parts.concat(news.parts).slice(-KEPT);
      showStatus(status);
      const last = parts.at(-1) ?? NONE;
      showVerdict(last);
      if (news.parts.length || !parts.length) showChart();
      await Promise.all([showPicture(status.picture), showRejects(status.last_reject)]);
      // A part without a picture must not seem to have that of the one before.
      $("old").hidden = !(last.verdict === "fault" && pictured !== null && pictured !== last.part);
      $("picture").classList.toggle("faded", !$("old").hidden);
      lastAnswer = Date.now();
      connected(true);
    }
  } catch {
    connected(false);
  }
  busy = false;
  schedule(wait);
}

function schedule(wait) {
  clearTimeout(timer);
  timer = setTimeout(poll, wait);
}

function connected(yes) {
  document.body.classList.toggle("stale", !yes);
  $("lost").hidden = yes;
  if (yes) return;
  const since = lastAnswer === null ? "" : ` since ${clock(lastAnswer)}: what you see is from then`;
  say($("lost"), `No connection to the service${since}.`);
  document.title = "no connection – weakrest";
  for (const name of ["trigger", "halt", "resume"]) $(name).disabled = true;
}

function showStatus(s) {
  const product = s.engine.product || "weakrest";
  say($("product"), product);
  document.title = `${s.state} – ${product}`;
  say($("state"), s.state);
  dress($("state"), `badge ${s.state}`);
  const problems = Object.entries(s.problems);
  const key = JSON.stringify(problems);
  if ($("problems").dataset.key !== key) {
    $("problems").dataset.key = key;
    $("problems").hidden = !problems.length;
    $("problems").replaceChildren(...problems.map(([component, problem]) => {
      const item = make("li", undefined, `notice ${problem.severity}`);
      item.append(make("b", `${component} `), problem.text);
      return item;
    }));
  }
  const refused = s.changes === "refused";
  labels = s.labels && !refused;
  $("trigger").disabled = refused || s.state !== "Operational";
  $("halt").disabled = refused || s.state === "Halted";
  $("resume").disabled = refused || !(s.state === "Halted" || s.latched);
  const why = refused ? "This page is for looking only: set web.token_file to change that." : "";
  for (const name of ["trigger", "halt", "resume"]) if ($(name).title !== why) $(name).title = why;

  const counts = { parts: s.parts, passes: s.passes, rejected: s.rejects, faults: sum(s.faults) };
  for (const [id, n] of Object.entries(counts)) {
    say($(id), whole(n));
    $(id).parentElement.classList.toggle("zero", n === 0);
  }
  rows($("stages"), s.stages.map((t) =>
    t.count ? [t.name, ms(t.last_ms), ms(t.mean_ms), ms(t.worst_ms)] : [t.name, "–", "–", "–"]));
  const beside = [
    ...Object.entries(s.faults).map(([kind, n]) => [`faults: ${kind}`, n]),
    ["frames dropped", s.dropped_frames], ["frames lost", s.lost_frames], ["camera lost", s.camera_losses],
    ["inspections too late", s.late_inspections], ["pulses missed", s.missed_pulses],
    ["pulses late", s.late_pulses], ["packages swapped", s.swaps],
    ...Object.entries(s.outputs_dropped).map(([name, n]) => [`${name}: parts dropped`, n]),
    ...Object.entries(s.outputs_failed).map(([name, n]) => [`${name}: parts failed`, n]),
  ].filter(([, n]) => n).map(([name, n]) => [name, whole(n)]);
  rows($("beside"), beside.length ? beside : [["nothing lost, late or missed", ""]]);
  const package_ = s.engine.package ? `package ${s.engine.package.slice(0, 12)} · ` : "";
  say($("footer"), `${package_}on ${s.engine.provider} · threshold ${number(s.engine.threshold)} · ` +
    `running for ${duration(s.uptime_s)} · weakrest ${s.version}`);
}

function rows(body, lines) {
  while (body.rows.length > lines.length) body.deleteRow(-1);
  lines.forEach((cells, y) => {
    const row = body.rows[y] || body.insertRow();
    cells.forEach((text, x) => {
      if (!row.cells[x]) {
        const cell = make(x ? "td" : "th");
        if (!x) cell.scope = "row";
        row.append(cell);
      }
      say(row.cells[x], text);
    });
  });
}

const NONE = { verdict: "–", score: null, threshold: null, reason: "", regions: [] };

function showVerdict(p) {
  dress($("verdict"), `verdict ${p === NONE ? "" : p.verdict}`);
  say($("word"), p.verdict.toUpperCase());
  say($("part"), p === NONE ? "no part yet" : title(p));
  const count = p.regions.length;
  const areas = count < 2 ? "one area" : count < 16 ? `${count} areas` : "16 areas or more";
  say($("reason"), p.reason || (count ? `${areas} above the threshold` : ""));
  const multiple = ratio(p);
  $("ratio").hidden = multiple === null;
  if (multiple !== null) {
    const text = `${number(multiple)}×`;
    say($("ratio").querySelector("b"), text);
    $("ratio").querySelector(".meter").setAttribute("aria-label", `${text} the threshold`);
    $("ratio").querySelector("i").style.width = `${Math.min(multiple * 50, 100)}%`;
  }
  const score = p.score === null ? "" : `score ${number(p.score)} · threshold ${number(p.threshold)} · `;
  say($("score"), p === NONE ? "" : `${score}${ms(p.latency_ms)} ms`);
}

// The new picture is loaded before it takes the old one's place: no flicker. The answer says whose it is.
async function showPicture(part) {
  const plain = !$("overlay").checked;
  const wanted = `${part} ${plain}`;
  if (part === null || wanted === shown || document.hidden) return;
  const response = await ask(`/api/live.jpg${plain ? "?plain=1" : ""}`);
  if (!response.ok) return;
  const picture = new Image();
  picture.src = URL.createObjectURL(await response.blob());
  await new Promise((done) => {
    picture.onload = picture.onerror = done;
  });
  URL.revokeObjectURL(picture.src);
  const of = `part ${whole(Number(response.headers.get("x-part")))}`;
  picture.alt = `Latest picture, ${of}${plain ? "" : ", with its anomaly map"}`;
  $("picture").replaceChildren(picture);
  say($("caption"), of);
  pictured = part;
  shown = wanted;
}

async function showRejects(last) {
  if (last === rejectShown) return;
  const list = (await read("/api/rejects")).parts.reverse();
  const known = new Map([...$("rejects").children].map((item) => [item.dataset.key, item]));
  $("rejects").replaceChildren(...list.map((p) => {
    const key = `${started} ${p.part}`;
    if (known.has(key)) return known.get(key);
    const text = title(p);
    const [item, button, picture] = [make("li"), make("button"), make("img")];
    item.dataset.key = key;
    button.type = "button";
    button.setAttribute("aria-label", `Enlarge ${text}`);
    picture.src = `/api/rejects/${p.part}.jpg?${started}`;
    picture.alt = "";
    const multiple = ratio(p);
    button.append(picture, make("b", `${number(multiple)}×`), make("span", text));
    button.addEventListener("click", () => {
      $("largepicture").src = picture.src;
      $("largepicture").alt = `Rejected part ${p.part} with its anomaly map`;
      const sizes = p.regions.slice(0, 6).map((r) => `${r.width} × ${r.height} px at x ${r.x}, y ${r.y}`);
      const scores = `${text} · score ${number(p.score)}, threshold ${number(p.threshold)}`;
      $("largetext").textContent = [scores, ...sizes].join("\n");
      $("large").showModal();
    });
    item.append(button);
    if (labels) {
      const label = make("button", "Label", "label");
      label.type = "button";
      label.setAttribute("aria-label", `Put ${text} where it will be labeled`);
      label.addEventListener("click", () => change(`rejects/${p.part}/label`, `${text} waits to be labeled.`));
      item.append(label);
    }
    return item;
  }));
  $("none").hidden = list.length > 0;
  rejectShown = last;
}

function showChart() {
  const top = Math.max(1.5, Math.min(CEILING, 1.1 * Math.max(...parts.map((p) => ratio(p) ?? 0))));
  const columns = Math.max(parts.length, 60);
  const paths = { pass: "", reject: "", fault: "" };
  parts.forEach((p, i) => {
    const x = (1000 * (columns - parts.length + i + 0.5)) / columns;
    const multiple = ratio(p);
    const y = multiple === null ? 98 : 97 - 95 * Math.min(multiple / top, 1);
    paths[p.verdict] += `M${x.toFixed(1)} ${y.toFixed(2)}h0`;
  });
  const mark = (value) => 97 - (95 * value) / top;
  paths.grid = `M0 ${mark(1).toFixed(2)}H1000`;
  for (const name in paths) $("chart").querySelector(`.${name}`).setAttribute("d", paths[name]);
  const label = (text, value) => {
    const span = make("span", text);
    span.style.top = `${mark(value)}%`;
    return span;
  };
  const highest = top === CEILING ? `${CEILING}× and more` : `${number(top)}×`;
  $("scale").replaceChildren(label("threshold", 1), label(highest, top));
  const rejected = parts.filter((p) => p.verdict === "reject").length;
  $("chart").setAttribute("aria-label", `Scores of the latest ${parts.length} parts, ${rejected} rejected`);
  say($("span"), `Latest ${parts.length} parts, newest on the right; score as a multiple of the threshold.`);
}

async function change(action, success) {
  const answer = (text, bad) => {
    say($("answer"), text);
    dress($("answer"), bad ? "notice error" : "notice");
    $("answer").hidden = !text;
    clearTimeout(fading);
    if (!bad) fading = setTimeout(() => ($("answer").hidden = true), 5000);
  };
  try {
    const headers = { "X-Weakrest": "1" };
    const token = sessionStorage.getItem("token");
    if (token) headers.Authorization = `Bearer ${token}`;
    const response = await ask(`/api/${action}`, { method: "POST", headers });
    const body = await response.json();
    if (response.status === 401) {
      $("why").textContent = `${token ? "That is not" : "This needs"} the token in web.token_file.`;
      asked = [action, success];
      $("token").value = "";
      $("ask").showModal();
    } else {
      const done = action === "trigger" ? `Part ${whole(body.part ?? 0)} is triggered.` : success ?? "";
      answer(response.ok ? done : body.error, !response.ok);
      schedule(0);
    }
  } catch {
    answer("The service does not answer.", true);
  }
}

$("trigger").addEventListener("click", () => change("trigger"));
$("resume").addEventListener("click", () => change("resume"));
$("halt").addEventListener("click", () => {
  if (confirm("Halt the line? Every part is a fault until it is resumed.")) change("halt");
});
$("ask").querySelector("form").addEventListener("submit", () => {
  sessionStorage.setItem("token", $("token").value.trim());
  change(...asked);
});
for (const button of document.querySelectorAll("dialog .close")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
$("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
$("overlay").addEventListener("change", () => schedule(0));
document.addEventListener("visibilitychange", () => document.hidden || schedule(0));
poll();
