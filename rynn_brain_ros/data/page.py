"""One episode as one page: its videos, its curves and what the brain said, on one scrubber."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any

from rynn_brain_ros.data.reader import Dataset, Episode
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.values import InputError

_COLORS = ("#0b7285", "#c2255c", "#5f3dc4", "#e67700", "#2b8a3e", "#1864ab", "#862e9c", "#495057")
_WIDTH, _HEIGHT = 900, 150


def write_page(dataset: Dataset, number: int, path: Path) -> None:
    """Writes the page of episode ``number`` to ``path``; its videos stay where they are, and the
    page names them relative to itself. Raises `InputError` and `OutputError`."""
    if not 0 <= number < len(dataset.episodes):
        raise InputError(f"there is no episode {number}; there are {len(dataset.episodes)}")
    write_whole(path, page(dataset, dataset.episodes[number], path.resolve().parent).encode())


def page(dataset: Dataset, episode: Episode, folder: Path) -> str:
    """The text of the page, to be kept in ``folder``."""
    columns: dict[str, Any] = dataset.columns(episode)
    texts = {key: columns[key] for key in columns if dataset.spec.features[key].dtype == "string"}
    title = f"{dataset.root.name} · episode {episode.index}"
    data = {"fps": dataset.spec.fps, "length": episode.length, "texts": texts}
    curves = "".join(
        _curves(dataset, key, values) for key, values in columns.items() if key not in texts
    )
    return _PAGE.format(
        title=html.escape(title),
        task=html.escape("; ".join(episode.tasks)),
        facts=f"{episode.length} frames at {dataset.spec.fps} a second, {dataset.spec.robot_type}",
        videos="".join(_video(dataset, episode, camera, folder) for camera in dataset.spec.cameras),
        texts="".join(
            f'<p class="said"><b>{html.escape(key)}</b> <span data-text="{html.escape(key)}">'
            "</span></p>"
            for key in texts
        ),
        curves=curves,
        last=episode.length - 1,
        width=_WIDTH,
        data=json.dumps(data, ensure_ascii=False).replace("</", "<\\/"),
    )


def _video(dataset: Dataset, episode: Episode, camera: str, folder: Path) -> str:
    path, from_s = dataset.video_file(episode, camera)
    source = html.escape(os.path.relpath(path.resolve(), folder))
    return (
        f'<figure><video muted preload="auto" src="{source}" data-from="{from_s:.6f}"></video>'
        f"<figcaption>{html.escape(camera.rpartition('.')[2])}</figcaption></figure>"
    )


def _curves(dataset: Dataset, key: str, values: Any) -> str:
    """Each component over the frames, all on one scale."""
    low, high = float(values.min()), float(values.max())
    span = high - low or 1.0
    names = dataset.spec.features[key].names or tuple(str(i) for i in range(values.shape[1]))
    last = max(1, len(values) - 1)
    lines, legend = [], []
    for i, name in enumerate(names):
        points = " ".join(
            f"{row / last * _WIDTH:.1f},{(high - float(v)) / span * _HEIGHT:.1f}"
            for row, v in enumerate(values[:, i])
        )
        color = _COLORS[i % len(_COLORS)]
        lines.append(f'<polyline points="{points}" stroke="{color}"/>')
        legend.append(
            f'<span style="color:{color}">{html.escape(name)} <b data-value="{html.escape(key)}" '
            f'data-part="{i}"></b></span>'
        )
    numbers = json.dumps([[round(float(v), 4) for v in row] for row in values])
    units = dataset.spec.features[key].units
    return (
        f"<section><h2>{html.escape(key)} <small>{html.escape(units)} {low:.3g} … {high:.3g}"
        f'</small></h2><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
        f'{"".join(lines)}<line class="now" y1="0" y2="{_HEIGHT}"/></svg>'
        f'<p class="legend">{" ".join(legend)}</p>'
        f'<script type="application/json" data-numbers="{html.escape(key)}">{numbers}</script>'
        "</section>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #212529; max-width: 1000px;
  margin: 24px auto; padding: 0 20px }}
h1 {{ font-size: 20px; margin: 0 }} h2 {{ font-size: 14px; margin: 20px 0 4px }}
small, figcaption, .facts {{ color: #6c757d; font-weight: normal }}
.videos {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0 }}
figure {{ margin: 0; flex: 1 1 280px }} video {{ width: 100%; background: #dee2e6; display: block }}
.scrub {{ position: sticky; top: 0; background: #fff; padding: 8px 0; display: flex; gap: 12px;
  align-items: center; border-bottom: 1px solid #dee2e6 }}
input[type=range] {{ flex: 1 }} button {{ font: inherit; width: 72px }}
output {{ width: 150px; font-variant-numeric: tabular-nums }}
svg {{ width: 100%; height: 150px; background: #f8f9fa }}
polyline {{ fill: none; stroke-width: 1.3; vector-effect: non-scaling-stroke }}
line.now {{ stroke: #212529; vector-effect: non-scaling-stroke }}
.legend {{ font-size: 12px; margin: 2px 0; display: flex; flex-wrap: wrap; gap: 2px 14px;
  font-variant-numeric: tabular-nums }}
.said {{ font-size: 13px; margin: 6px 0; min-height: 20px; overflow-wrap: anywhere }}
</style></head><body>
<h1>{task}</h1><p class="facts">{title} · {facts}</p>
<div class="scrub"><button>Play</button><input type="range" min="0" max="{last}" value="0"
aria-label="frame"><output></output></div>
<div class="videos">{videos}</div>{texts}{curves}
<script type="application/json" id="data">{data}</script><script>
const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.querySelector("input"), button = document.querySelector("button");
const videos = [...document.querySelectorAll("video")], numbers = {{}};
for (const e of document.querySelectorAll("[data-numbers]"))
  numbers[e.dataset.numbers] = JSON.parse(e.textContent);
let timer = null;
function show() {{
  const frame = Number(slider.value), at = frame / data.fps;
  for (const v of videos) v.currentTime = Number(v.dataset.from) + at + 0.5 / data.fps;
  for (const l of document.querySelectorAll("line.now")) {{
    const x = frame / Math.max(1, data.length - 1) * {width};
    l.setAttribute("x1", x); l.setAttribute("x2", x);
  }}
  for (const b of document.querySelectorAll("[data-value]"))
    b.textContent = numbers[b.dataset.value][frame][Number(b.dataset.part)].toFixed(3);
  for (const s of document.querySelectorAll("[data-text]"))
    s.textContent = data.texts[s.dataset.text][frame] || "–";
  document.querySelector("output").textContent = `${{at.toFixed(2)}} s · frame ${{frame}}`;
}}
function step() {{
  if (Number(slider.value) >= data.length - 1) return stop();
  slider.value = Number(slider.value) + 1; show();
}}
function stop() {{ clearInterval(timer); timer = null; button.textContent = "Play"; }}
button.onclick = () => {{
  if (timer) return stop();
  if (Number(slider.value) >= data.length - 1) slider.value = 0;
  timer = setInterval(step, 1000 / data.fps); button.textContent = "Pause";
}};
slider.oninput = show; show();
</script></body></html>
"""
