"""A report is one safe, small, reproducible file."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from rynn_brain_ros.language import parse
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    FinishReason,
    Flag,
    GraspRectangle,
    NoGrounding,
    OutputError,
    Refusal,
    RefusalCode,
    Rejected,
    SelectedFrame,
    Trajectory,
)
from rynn_brain_ros.view import RunReport, write_report

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)></style>&amp;\ud800"""
TEXT = "Pull <affordance> (500, 500) </affordance>."


class _Page(HTMLParser):
    """Tags with their attributes, and text outside style and script."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self._open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open[-1:]):
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def marked(self, name):
        return [tag for tag, attrs in self.tags if attrs.get("data-g") == name]


@pytest.fixture
def page(tmp_path):
    def write(*responses, **fields):
        path = tmp_path / "run.html"
        write_report(path, RunReport("Run", responses=responses, **fields))
        return _Page(path.read_text(encoding="utf-8"))

    return write


@pytest.fixture
def point(make_frame, lift, respond):
    start = TEXT.index("<aff")
    grounding = Affordance(1, ((500.0, 500.0),), (start, len(TEXT) - 1), "affordance")
    frames = (make_frame(1), make_frame(4_000_000_001, value=120))
    return respond(frames, (lift(grounding, frames[1]),), text=TEXT)


def test_hostile_text_stays_text(page, point):
    item = replace(point.lifted[0], refusal=Refusal(RefusalCode.NO_DEPTH, HOSTILE))
    item = replace(item, grounding=replace(item.grounding, label=HOSTILE), fixed_frame_id=HOSTILE)
    frame = point.query.frames[1]
    frame = replace(frame, sha256=HOSTILE, mime=HOSTILE, frame=replace(frame.frame, camera=HOSTILE))
    frames = replace(point.query.frames, frames=(point.query.frames[0], frame))
    hostile = replace(
        point,
        query=replace(point.query, instruction=HOSTILE, query_id=HOSTILE, frames=frames),
        answer=replace(point.answer, text=TEXT + HOSTILE, model=HOSTILE, engine=HOSTILE),
        reading=replace(
            point.reading,
            text=TEXT + HOSTILE,
            answer_text=TEXT + HOSTILE,
            rejected=(Rejected(HOSTILE, HOSTILE, (0, 4), HOSTILE),),
            actions=(HOSTILE,),
        ),
        lifted=(item,),
    )
    fields = {"problems": (HOSTILE,), "engine_note": HOSTILE, "subtitle": HOSTILE}
    shown = page(hostile, provenance={HOSTILE: HOSTILE}, **fields)
    assert len(shown.all("script")) == 1
    assert shown.all("img") == []
    assert not [attrs for _, attrs in shown.tags if any(name.startswith("on") for name in attrs)]
    assert "<script>alert(1)</script>" in "".join(shown.text)


def test_the_file_refers_to_nothing_outside_itself(page, point):
    shown = page(point)
    for _, attrs in shown.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/"))
    assert not {"link", "iframe", "base", "object", "embed"} & {tag for tag, _ in shown.tags}
    (policy,) = [m["content"] for m in shown.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


def test_style_holds_no_address(tmp_path, point):
    path = tmp_path / "run.html"
    write_report(path, RunReport("Run", responses=(point,)))
    style = re.search(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_each_picture_is_embedded_once(page, point):
    shown = page(point, point, point)
    hrefs = [image["href"] for image in shown.all("image")]
    assert len(hrefs) == len(set(hrefs)) == 2
    names = {image["id"] for image in shown.all("image")}
    assert {use["href"] for use in shown.all("use")} == {f"#{name}" for name in names}


def test_large_pictures_are_embedded_smaller(page, point, make_frame):
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)

    def noisy(frame: SelectedFrame) -> SelectedFrame:
        data = cv2.imencode(".jpg", noise + np.uint8(frame.frame.stamp_ns % 7))[1].tobytes()
        return replace(frame, image=data, mime="image/jpeg", width=1920, height=1080)

    frames = tuple(noisy(frame) for frame in point.query.frames)
    item = replace(point.lifted[0], frame=frames[1])
    query = replace(point.query, frames=replace(point.query.frames, frames=frames))
    shown = page(replace(point, query=query, lifted=(item,)))
    sizes = sorted(_size(image["href"]) for image in shown.all("image"))
    assert sizes == [(320, 180), (1280, 720)]
    assert {(image["width"], image["height"]) for image in shown.all("image")} == {("1920", "1080")}


def _size(data_uri):
    import base64  # noqa: PLC0415

    data = base64.b64decode(data_uri.partition(",")[2])
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    return (width, height)


@pytest.mark.parametrize("data", [b"", b"not a picture"])
def test_a_broken_picture_is_named_and_the_rest_is_shown(page, point, data):
    frames = tuple(replace(frame, image=data) for frame in point.query.frames)
    query = replace(point.query, frames=replace(point.query.frames, frames=frames))
    text = "".join(page(replace(point, query=query)).text)
    assert "picture cannot be decoded" in text
    assert "Open the drawer" in text


def test_the_same_run_gives_the_same_bytes(tmp_path, point):
    for name in ("a", "b"):
        write_report(tmp_path / name, RunReport("Run", responses=(point, point)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_grounding_is_found_in_text_picture_and_table(page, point):
    shown = page(point)
    assert shown.marked("q1g0") == ["g", "g", "mark", "tr"]
    assert "<affordance> (500, 500) </affordance>" in shown.text


def test_the_overlay_counts_in_full_pixels(page, point):
    boxes = [svg["viewbox"] for svg in page(point).all("svg") if "viewbox" in svg]
    assert boxes == ["-0.5 -0.5 640 480"] * 3


def test_frames_are_labelled_with_their_age(page, point):
    text = "".join(page(point).text)
    assert "<frame 0> −4.0 s" in text
    assert "<frame 1> now" in text


def test_reasoning_is_folded_and_its_groundings_are_marked(page, point, lift):
    thought = "The handle <object> (1, 2), (9, 9) </object> shines."
    box = Box(0, ((400.0, 400.0), (600.0, 600.0)), (11, len(thought) - 8), "object")
    reasoning = (lift(box, point.query.frames[0]),)
    start = len(thought) + TEXT.index("<aff")
    moved = replace(point.lifted[0].grounding, span=(start, len(thought + TEXT) - 1))
    reading = replace(point.reading, text=thought + TEXT, reasoning_text=thought, answer_text=TEXT)
    reading = replace(reading, answer_start=len(thought))
    lifted = (replace(point.lifted[0], grounding=moved),)
    shown = page(replace(point, reading=reading, reasoning=reasoning, lifted=lifted))
    assert len(shown.all("details")) == 1
    assert "mark" in shown.marked("q1g0")
    assert shown.marked("q1g1") == ["mark", "g", "g"]


def test_an_answer_whose_words_come_again_after_it_is_shown_from_where_it_begins(page, respond):
    text = "<think>It is near.</think><answer>Left.</answer> That is: Left."
    response = respond((), text=text)
    shown = page(replace(response, reading=parse(text, 0)))
    assert "Left.</answer> That is: Left." in shown.text
    assert "<think>It is near.</think><answer>" in shown.text


def test_an_unknown_confidence_is_a_dash(page, point, nan):
    shown = page(replace(point, lifted=(replace(point.lifted[0], confidence=nan),)))
    cells = "|".join(shown.text)
    assert "nan" not in cells.lower()
    assert "–" in cells


def test_a_point_without_depth_has_a_dash_beside_its_pixel(tmp_path, make_frame, lift, respond):
    frame = make_frame()
    area = Area(0, ((100.0, 100.0), (200.0, 100.0), (300.0, 100.0)), (0, 1), "area")
    item = lift(area, frame)
    item = replace(item, points=(item.points[0], item.points[2]))
    path = tmp_path / "run.html"
    write_report(path, RunReport("Run", responses=(respond((frame,), (item,)),)))
    html = path.read_text(encoding="utf-8")
    cells = dict(re.findall(r'data-label="([^"]*)"><div>(.*?)</div>', html))
    assert cells["Pixels"].split("<br>") == ["63.9, 47.9", "127.8, 47.9", "191.7, 47.9"]
    assert cells["Camera, m"].split("<br>") == ["0.000, −0.200, 1.000", "–", "0.200, −0.200, 1.000"]
    assert cells["Fixed, m"].split("<br>")[:3] == [
        "1.000, 0.000, 0.500",
        "–",
        "1.000, 0.200, 0.500",
    ]
    assert cells["±σ, mm"].split("<br>")[1] == "–"


def test_refusals_are_counted_and_explained(page, point):
    refusal = Refusal(RefusalCode.NO_DEPTH, "the depth image has no valid pixel there")
    item = replace(point.lifted[0], refusal=refusal, points=(), target=None)
    text = "|".join(page(replace(point, lifted=(item,)), point).text)
    assert "no_depth × 1" in text
    assert "the depth image has no valid pixel there" in text


def test_an_answer_without_grounding_shows_what_is_now(page, point):
    none = NoGrounding(None, (), (0, len(TEXT)), "", abstained=True)
    refusal = Refusal(RefusalCode.NO_GROUNDING, "the engine says that it is not there")
    (item,) = (replace(point.lifted[0], grounding=none, points_px=(), points=(), target=None),)
    shown = page(replace(point, lifted=(replace(item, frame=None, refusal=refusal),)))
    assert shown.all("mark") == []
    assert "Now" in shown.text


def test_a_cut_answer_says_so(page, point):
    cut = replace(point, answer=replace(point.answer, finish_reason=FinishReason.LENGTH))
    assert "cut off by the token budget" in page(cut).text


def test_a_run_without_frames_or_questions_is_still_a_page(page, respond):
    assert page().all("h1") == [{}]
    assert page(respond((), text="two")).all("section")[0]["id"] == "q1"


def test_nothing_half_written_is_left(tmp_path, point):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(OutputError, match=r"run\.html"):
        write_report(blocked / "run.html", RunReport("Run", responses=(point,)))
    folder = tmp_path / "taken.html"
    folder.mkdir()
    with pytest.raises(OutputError):
        write_report(folder, RunReport("Run"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.html"]


# --- in a browser ---------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
_MEASURE = """<body><pre id="over"></pre><iframe src="page.html" style="border:0"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  for (let width = 400; width <= 1300; width += 20) {
    frame.style.width = width + "px";
    const over = frame.contentDocument.documentElement.scrollWidth - width;
    if (over > 0) document.getElementById("over").append(width + ":" + over + " ");
  }
  document.getElementById("over").append("measured");
};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_no_window_is_too_narrow_for_the_table(tmp_path, make_frame, lift, respond):
    frame = make_frame()
    corners = ((123.5, 456.5), (300.5, 700.5), (601.5, 902.5), (512.5, 998.5))
    flags = frozenset({Flag.OUT_OF_RANGE, Flag.TRUNCATED})
    refusal = Refusal(RefusalCode.DEPTH_OUT_OF_RANGE, "it is farther than the sensor is trusted")
    grasp = GraspRectangle(0, corners, (0, 1), "grasp_rectangle")
    path = lift(Trajectory(0, corners, (0, 1), "trajectory"), frame)
    path = replace(path, fixed_frame_id="camera_color_optical_frame")
    lifted = (path, lift(replace(grasp, flags=flags), frame, refusal=refusal))
    report = tmp_path / "report.html"
    write_report(report, RunReport("Run", responses=(respond((frame,), lifted, text="Here."),)))
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    page = policy.sub("", report.read_text(encoding="utf-8"))
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    measure = tmp_path / "measure.html"
    measure.write_text(_MEASURE, encoding="utf-8")
    how = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    more = (f"--user-data-dir={tmp_path / 'chromium'}", "--allow-file-access-from-files")
    until = ("--virtual-time-budget=3000", "--dump-dom", measure.as_uri())
    command = [CHROMIUM, *how, *more, *until]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall(r'<pre id="over">([^<]*)</pre>', done.stdout) == ["measured"]
