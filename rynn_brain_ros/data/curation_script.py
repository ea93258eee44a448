"""The look and the script of the curation's page.

A handle moves the point that it is drawn at; those of a box take x from one corner and y from
another. Where a kind allows it, points are added and removed; a new one joins a line where it makes
the smallest detour. What differs from the model's points is corrected, whichever way it came to be,
once it has as many points as its kind needs and all of them lie in the picture.
"""

from __future__ import annotations

CURATION_STYLE = """
.bar{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:10px 18px;align-items:center;
padding:10px max(28px,50% - 562px);margin-top:20px;background:var(--card);border:solid var(--line);
border-width:1px 0}
.bar output{font-weight:600;font-variant-numeric:tabular-nums}
.bar input{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:6px;padding:4px 8px}
#told{color:var(--warn)}
button{font:inherit;color:inherit;background:var(--fill);border:1px solid var(--line);
border-radius:6px;padding:4px 14px;cursor:pointer}
button:disabled{opacity:.4;cursor:not-allowed}
button[aria-pressed=true]{border-color:var(--ink)}
.proposals{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));
gap:22px 28px;margin-top:18px}
.proposal{max-width:720px;border-left:4px solid var(--line);padding-left:14px;
scroll-margin:80px 0 20px}
.proposal:focus{outline:none;border-color:var(--ink)}
.proposal svg{display:block;width:100%;height:auto;border-radius:6px;background:var(--fill);
touch-action:none}
.proposal .head{margin-bottom:8px}
.proposal .mono{margin-top:6px;min-height:1.5em}
.proposal .chip{margin-left:8px}
.proposal.accepted .chip,.proposal.corrected .chip{color:var(--good)}
.proposal.rejected .chip{color:var(--warn);background:var(--warnbg)}
.proposal.rejected svg{opacity:.35}
.proposal.adding svg{cursor:crosshair}
.buttons{display:flex;flex-wrap:wrap;gap:8px;margin:8px 0}
.buttons .points{display:flex;gap:8px;margin-left:auto}
.hint{flex-basis:100%;color:var(--soft);font-size:13.5px;min-height:1.5em}
.problem{color:var(--warn);font-size:13.5px}
.facts{color:var(--soft);font-size:12px;overflow-wrap:anywhere}
.rim,.line{fill:none;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}
.rim{stroke:#000;stroke-opacity:.55;stroke-width:5}
.line{stroke:var(--c);stroke-width:2.5}
.before{stroke:#fff;stroke-width:1.5;stroke-dasharray:4 4}
.handle{fill:var(--c);fill-opacity:.45;stroke:#000;stroke-width:1.5;vector-effect:non-scaling-stroke;cursor:grab}
.handle.first{stroke:#fff}
.handle:focus,.handle.chosen{outline:none;stroke:#fff;stroke-width:3;fill-opacity:.9}
"""

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const items = data.proposals.map(plain => {
  const section = document.querySelector('[data-proposal="' + plain.name + '"]');
  return {...plain, section, svg: section.querySelector("svg"), now: copy(plain.points),
    verdict: null, chosen: null, adding: false};
});
let unsaved = false;

function copy(points) { return points.map(point => [...point]); }
const changed = item => JSON.stringify(item.now) !== JSON.stringify(item.points);
const make = (name, attributes, parent) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  return parent.appendChild(node);
};
const pixel = (item, [x, y]) =>
  [x / 1000 * (item.svg.dataset.w - 1), y / 1000 * (item.svg.dataset.h - 1)];
const varies = item => item.least !== item.most;
const outside = item => item.now.findIndex(([x, y]) => x !== inside(x) || y !== inside(y));
const fits = item => item.now.length >= item.least && outside(item) < 0;
const hasRoom = item => item.most === null || item.now.length < item.most;
const acceptable = item => fits(item) && (!item.problem || changed(item));
const removable = item => varies(item) && item.chosen !== null && item.now.length > item.least;
const inside = value => Math.max(0, Math.min(1000, Math.round(value)));
const ends = item => item.box ? [[0, 0], [1, 1], [0, 1], [1, 0]] : item.now.map((_, i) => [i, i]);

function outline(item, points, kind, parent) {
  const at = points.map(point => pixel(item, point));
  if (item.box) {
    const [[xa, ya], [xb, yb]] = at;
    make("rect", {class: kind, x: Math.min(xa, xb), y: Math.min(ya, yb),
      width: Math.abs(xb - xa), height: Math.abs(yb - ya)}, parent);
  } else if (item.line || item.loop)
    make(item.loop ? "polygon" : "polyline", {class: kind, points: at.join(" ")}, parent);
}

function hint(item) {
  if (item.adding) return "Click where the point belongs; Esc ends.";
  if (item.now.length < item.least) return "It needs " + item.least + " points.";
  if (outside(item) >= 0 && changed(item))
    return "Point " + (outside(item) + 1) + " is still outside of 0…1000 or no whole number.";
  if (varies(item) && !hasRoom(item)) return "It holds no more than " + item.most + " points.";
  return item.chosen === null || item.box ? "" : "Point " + (item.chosen + 1) + " is chosen.";
}

function tell(item) {
  const {section} = item, button = name => section.querySelector('[data-do="' + name + '"]');
  for (const verdict of ["accepted", "corrected", "rejected"])
    section.classList.toggle(verdict, item.verdict === verdict);
  section.classList.toggle("adding", item.adding);
  section.querySelector(".chip").textContent = item.verdict || "open";
  button("accept").disabled = !acceptable(item);
  if (varies(item)) {
    button("add").disabled = !hasRoom(item);
    button("add").setAttribute("aria-pressed", item.adding);
    button("remove").disabled = !removable(item);
  }
  if (item.points.length) section.querySelector(".hint").textContent = hint(item);
  section.querySelector(".mono").textContent =
    item.now.map(point => "(" + point.join(", ") + ")").join(", ");
}

function draw(item) {
  tell(item);
  if (!item.svg || !item.points.length) return;
  const layer = item.svg.querySelector("g"), held = layer.contains(document.activeElement);
  layer.replaceChildren();
  if (changed(item)) outline(item, item.points, "line before", layer);
  outline(item, item.now, "rim", layer);
  outline(item, item.now, "line", layer);
  ends(item).forEach(([i, j], end) => {
    const [cx, cy] = pixel(item, [inside(item.now[i][0]), inside(item.now[j][1])]);
    const marks = (item.line && !end ? " first" : "") + (item.chosen === end ? " chosen" : "");
    const handle = make("circle", {class: "handle" + marks, cx, cy,
      r: item.svg.dataset.w / 90, tabindex: 0, "data-end": end}, layer);
    if (held && item.chosen === end) handle.focus({preventScroll: true});
  });
}

function show(item) {
  draw(item);
  const decided = items.filter(one => one.verdict).length;
  byId("count").textContent = decided + " of " + items.length + " decided";
}

function decide(item, verdict) {
  item.verdict = verdict;
  unsaved = true;
  show(item);
}

function choose(item, end) {
  if (item.chosen === end) return;
  item.chosen = end;
  draw(item);
}

const settle = item => decide(item, changed(item) && fits(item) ? "corrected" : null);

function move(item, end, x, y) {
  const [i, j] = ends(item)[end];
  item.now[i][0] = inside(x);
  item.now[j][1] = inside(y);
  settle(item);
}

function placeOf(item, point) {
  const {now} = item, gap = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
  if (!item.line) return now.length;
  const detours = [...now, null].map((after, i) => {
    if (!i || !after) return gap(point, now[Math.max(0, i - 1)]);
    return gap(now[i - 1], point) + gap(point, after) - gap(now[i - 1], after);
  });
  return detours.lastIndexOf(Math.min(...detours));
}

function add(item, x, y) {
  const point = [inside(x), inside(y)];
  item.chosen = placeOf(item, point);
  item.now.splice(item.chosen, 0, point);
  item.adding = false;
  settle(item);
}

function remove(item) {
  if (!removable(item)) return;
  item.now.splice(item.chosen, 1);
  item.chosen = Math.min(item.chosen, item.now.length - 1);
  settle(item);
}

function adding(item, on) {
  item.adding = on && varies(item) && hasRoom(item);
  draw(item);
}

const actions = {
  accept: item => {
    if (acceptable(item)) decide(item, changed(item) ? "corrected" : "accepted");
  },
  reject: item => decide(item, "rejected"),
  undo: item => {
    Object.assign(item, {now: copy(item.points), chosen: null, adding: false});
    decide(item, null);
  },
  add: item => adding(item, !item.adding),
  remove,
};

function review() {
  const decisions = items.filter(item => item.verdict).map(item => ({
    proposal: item.name, verdict: item.verdict,
    ...(item.verdict === "corrected" ? {points: item.now} : {}),
  }));
  return {format: "rynn_brain_review/1", curation: data.curation, folder: data.folder,
    reviewer: byId("reviewer").value.trim(), saved: new Date().toISOString(), decisions};
}

function save() {
  if (!byId("reviewer").value.trim()) {
    byId("told").textContent = "Say who you are first.";
    return byId("reviewer").focus();
  }
  const text = JSON.stringify(review(), null, 1) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "review.json";
  link.click();
  unsaved = false;
  byId("told").textContent = "";
}

async function open(event) {
  try {
    const saved = JSON.parse(await event.target.files[0].text());
    if (saved.curation !== data.curation) throw new Error("it is of another curation");
    const known = new Map(saved.decisions.map(one => [one.proposal, one]));
    byId("reviewer").value = saved.reviewer;
    for (const item of items) {
      const one = known.get(item.name);
      item.now = copy(one && one.points || item.points);
      item.verdict = one ? one.verdict : null;
      item.chosen = null;
      item.adding = false;
      show(item);
    }
    byId("told").textContent = "";
  } catch (error) {
    byId("told").textContent = "This review cannot be opened: " + error.message + ".";
  }
}

const itemOf = node => {
  const section = node instanceof Element && node.closest("[data-proposal]");
  return section && items.find(item => item.section === section);
};
const go = (item, step) => {
  const next = items[items.indexOf(item) + step];
  if (next) { next.section.focus(); next.section.scrollIntoView({block: "nearest"}); }
};

function under(item, event) {
  const at = new DOMPoint(event.clientX, event.clientY)
    .matrixTransform(item.svg.getScreenCTM().inverse());
  const {w, h} = item.svg.dataset;
  return [at.x / Math.max(1, w - 1) * 1000, at.y / Math.max(1, h - 1) * 1000];
}

let dragged = null;
document.addEventListener("pointerdown", event => {
  const item = itemOf(event.target);
  if (!item || !item.svg || !item.svg.contains(event.target)) return;
  let end = Number(event.target.dataset.end ?? -1);
  if (end < 0) {
    if (!(item.adding || event.shiftKey) || !varies(item) || !hasRoom(item)) return;
    add(item, ...under(item, event));
    end = item.chosen;
  }
  event.preventDefault();
  dragged = {item, end};
  choose(item, end);
  item.svg.querySelector('[data-end="' + end + '"]').focus({preventScroll: true});
});
document.addEventListener("pointermove", event => {
  if (dragged) move(dragged.item, dragged.end, ...under(dragged.item, event));
});
for (const type of ["pointerup", "pointercancel"])
  document.addEventListener(type, () => { dragged = null; });

document.addEventListener("focusin", event => {
  const item = itemOf(event.target);
  if (item && event.target.classList.contains("handle"))
    choose(item, Number(event.target.dataset.end));
});

document.addEventListener("click", event => {
  const item = itemOf(event.target);
  if (item && event.target.dataset.do) actions[event.target.dataset.do](item);
});

const keys = {a: "accept", r: "reject", u: "undo"};
const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
document.addEventListener("keydown", event => {
  const item = itemOf(event.target);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!item || event.target instanceof HTMLInputElement) return;
  const arrow = arrows[event.key], onHandle = event.target.classList.contains("handle");
  if (event.key === "Escape") adding(item, false);
  else if (onHandle && ["Delete", "Backspace"].includes(event.key)) {
    event.preventDefault();
    remove(item);
  } else if (arrow && onHandle) {
    event.preventDefault();
    const end = Number(event.target.dataset.end), [i, j] = ends(item)[end];
    move(item, end, item.now[i][0] + arrow[0], item.now[j][1] + arrow[1]);
  } else if (keys[event.key]) {
    actions[keys[event.key]](item);
    if (event.key !== "u") go(item, 1);
  } else if (event.key === "j" || event.key === "k") go(item, event.key === "j" ? 1 : -1);
});

byId("save").addEventListener("click", save);
byId("open").addEventListener("change", open);
addEventListener("beforeunload", event => { if (unsaved) event.preventDefault(); });
for (const item of items) {
  if (item.svg) item.svg.querySelector("image").setAttribute("href", data.pictures[item.sha256]);
  show(item);
}
"""
