"""The look and the script of the curation's page.

A handle moves the point that it is drawn at; those of a box take x from one corner and y from
another. What differs from the model's points is corrected, whichever way it came to be.
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
.buttons{display:flex;gap:8px;margin:8px 0}
.problem{color:var(--warn);font-size:13.5px}
.facts{color:var(--soft);font-size:12px;overflow-wrap:anywhere}
.rim,.line{fill:none;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}
.rim{stroke:#000;stroke-opacity:.55;stroke-width:5}
.line{stroke:var(--c);stroke-width:2.5}
.before{stroke:#fff;stroke-width:1.5;stroke-dasharray:4 4}
.handle{fill:var(--c);fill-opacity:.45;stroke:#000;stroke-width:1.5;vector-effect:non-scaling-stroke;cursor:grab}
.handle:focus{outline:none;stroke:#fff;stroke-width:3}
.handle.first{stroke:#fff}
"""

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const items = data.proposals.map(plain => {
  const section = document.querySelector('[data-proposal="' + plain.name + '"]');
  return {...plain, section, svg: section.querySelector("svg"), now: copy(plain.points),
    verdict: null};
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

function draw(item) {
  item.section.className =
    item.section.className.replace(/ (accepted|corrected|rejected)$/, "")
    + (item.verdict ? " " + item.verdict : "");
  item.section.querySelector(".chip").textContent = item.verdict || "open";
  item.section.querySelector('[data-do="accept"]').disabled = !!item.problem && !changed(item);
  item.section.querySelector(".mono").textContent =
    item.now.map(point => "(" + point.join(", ") + ")").join(", ");
  if (!item.svg || !item.points.length) return;
  const layer = item.svg.querySelector("g"), held = document.activeElement;
  const focus = held && layer.contains(held) ? held.dataset.end : null;
  layer.replaceChildren();
  if (changed(item)) outline(item, item.points, "line before", layer);
  outline(item, item.now, "rim", layer);
  outline(item, item.now, "line", layer);
  ends(item).forEach(([i, j], end) => {
    const [cx, cy] = pixel(item, [item.now[i][0], item.now[j][1]]);
    const handle = make("circle", {class: "handle" + (item.line && !end ? " first" : ""), cx, cy,
      r: item.svg.dataset.w / 90, tabindex: 0, "data-end": end}, layer);
    if (focus === String(end)) handle.focus();
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

function move(item, end, x, y) {
  const [i, j] = ends(item)[end];
  item.now[i][0] = inside(x);
  item.now[j][1] = inside(y);
  decide(item, changed(item) ? "corrected" : null);
}

const actions = {
  accept: item => {
    if (item.problem && !changed(item)) return;
    decide(item, changed(item) ? "corrected" : "accepted");
  },
  reject: item => decide(item, "rejected"),
  undo: item => { item.now = copy(item.points); decide(item, null); },
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

let dragged = null;
document.addEventListener("pointerdown", event => {
  const item = itemOf(event.target);
  if (!item || !event.target.classList.contains("handle")) return;
  event.preventDefault();
  dragged = {item, end: Number(event.target.dataset.end)};
});
document.addEventListener("pointermove", event => {
  if (!dragged) return;
  const {item, end} = dragged;
  const at = new DOMPoint(event.clientX, event.clientY)
    .matrixTransform(item.svg.getScreenCTM().inverse());
  const {w, h} = item.svg.dataset;
  move(item, end, at.x / Math.max(1, w - 1) * 1000, at.y / Math.max(1, h - 1) * 1000);
});
for (const type of ["pointerup", "pointercancel"])
  document.addEventListener(type, () => { dragged = null; });

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
  const arrow = arrows[event.key];
  if (arrow && event.target.classList.contains("handle")) {
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
