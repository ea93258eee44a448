"""A film is written while it happens, whole or not at all, or it is said why there is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rynn_brain_ros.sim.film import Film, caption, inset
from rynn_brain_ros.values import ImageError, OutputError

WRITES_GIF = hasattr(cv2, "imwriteanimation") and cv2.haveImageWriter("film.gif")
SIZE = (96, 64)


def frames(n: int, size=SIZE):
    """Each one shade brighter than the last."""
    return [np.full((size[1], size[0], 3), 20 + 3 * k, np.uint8) for k in range(n)]


def make(path, n=10, kind=".mp4", **more):
    film = Film(path / "episode", 10, SIZE, (kind,), **more)
    for frame in frames(n):
        film.add(frame)
    return film


def test_an_mp4_holds_every_frame_in_order(tmp_path):
    av = pytest.importorskip("av")
    path = make(tmp_path).close()
    assert path == tmp_path / "episode.mp4"
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        shades = [f.to_ndarray(format="rgb24").mean() for f in film.decode(stream)]
        assert (stream.width, stream.height, float(stream.average_rate)) == (96, 64, 10.0)
        assert stream.pix_fmt == "yuv420p"
    assert shades == pytest.approx([20 + 3 * k for k in range(10)], abs=3)


def test_an_mp4_begins_with_its_index(tmp_path):
    pytest.importorskip("av")
    data = make(tmp_path).close().read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_are_made_even(tmp_path):
    av = pytest.importorskip("av")
    with Film(tmp_path / "odd", 10, (97, 63)) as film:
        film.add(frames(1)[0])
    with av.open(str(tmp_path / "odd.mp4")) as shown:
        assert (shown.streams.video[0].width, shown.streams.video[0].height) == (96, 62)


@pytest.mark.skipif(not WRITES_GIF, reason="this OpenCV writes no GIF")
def test_a_gif_is_made_where_nothing_else_is_allowed(tmp_path):
    path = make(tmp_path, kind=".gif").close()
    assert path == tmp_path / "episode.gif"
    read, film = cv2.imreadanimation(str(path))
    assert read
    assert len(film.frames) == 10
    assert film.durations[0] == 100


@pytest.mark.skipif(not WRITES_GIF, reason="this OpenCV writes no GIF")
def test_a_long_gif_takes_as_long_with_fewer_frames(tmp_path):
    film = Film(tmp_path / "long", 10, (8, 8), (".gif",))
    for k in range(1000):
        film.add(np.full((8, 8, 3), k % 250, np.uint8))
    _, shown = cv2.imreadanimation(str(film.close()))
    assert 100 <= len(shown.frames) <= 240
    assert sum(shown.durations) == pytest.approx(100_000, rel=0.02)


def test_without_any_writer_it_is_said_what_to_install(tmp_path):
    film = make(tmp_path, kind=".ogv")
    assert film.close() is None
    assert "pip install" in film.note
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_frames_is_no_film(tmp_path):
    film = Film(tmp_path / "episode")
    assert film.close() is None
    assert film.note
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=[".mp4", ".gif"])
def kind(request):
    if request.param == ".mp4":
        pytest.importorskip("av")
    elif not WRITES_GIF:
        pytest.skip("this OpenCV writes no GIF")
    return request.param


def test_nothing_has_its_name_before_it_is_closed(tmp_path, kind):
    film = make(tmp_path, kind=kind)
    assert not (tmp_path / f"episode{kind}").exists()
    film.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"episode{kind}"]


def test_closing_twice_changes_nothing(tmp_path, kind):
    film = make(tmp_path, kind=kind)
    assert film.close() == film.close()


def test_a_film_that_is_broken_off_leaves_nothing(tmp_path, kind):
    def broken() -> None:
        with Film(tmp_path / "episode", 10, SIZE, (kind,)) as film:
            film.add(frames(1)[0])
            raise ValueError

    with pytest.raises(ValueError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path, kind):
    (tmp_path / "file").write_text("in the way")
    film = Film(tmp_path / "file" / "episode", 10, SIZE, (kind,))
    with pytest.raises(OutputError, match="file/episode"):
        film.add(frames(1)[0])


@pytest.mark.parametrize("frame", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_a_frame_that_is_no_picture_is_named(tmp_path, frame):
    with pytest.raises(ImageError, match=r"\(4, 4"):
        Film(tmp_path / "episode").add(frame)


def test_a_frame_of_another_shape_is_shown_whole(tmp_path):
    av = pytest.importorskip("av")
    with Film(tmp_path / "episode", 10, (96, 64)) as film:
        film.add(np.full((32, 16, 3), 220, np.uint8))
    with av.open(str(tmp_path / "episode.mp4")) as shown:
        picture = next(shown.decode(video=0)).to_ndarray(format="rgb24")
    assert picture[:, 36:60].mean() > 200
    assert picture[:, :28].mean() < 40


def test_a_caption_darkens_the_lower_edge_and_nothing_else():
    rgb = np.full((240, 320, 3), 200, np.uint8)
    shown = caption(rgb, ("turn 2 · place · approach", "Put it onto the plate"))
    assert np.array_equal(shown[:150], rgb[:150])
    assert shown[-40:].mean() < 120
    assert shown[-50:].max() > 240
    assert rgb.min() == 200


def test_a_caption_without_lines_changes_nothing():
    rgb = np.full((120, 160, 3), 200, np.uint8)
    assert np.array_equal(caption(rgb, ("", "")), rgb)


@pytest.mark.parametrize("width", [16, 160, 1920])
def test_a_caption_never_writes_past_the_right_edge(width):
    rgb = np.full((width, width, 3), 200, np.uint8)
    shown = caption(rgb, ("words · " * 200,))
    margin = max(1, width // 80)
    assert shown[:, -margin:].max() <= 200


def test_an_inset_shows_the_other_picture_in_the_corner():
    rgb = np.full((240, 320, 3), 10, np.uint8)
    shown = inset(rgb, np.full((60, 80, 3), 200, np.uint8), share=0.25)
    assert np.array_equal(shown[20:50, 250:300], np.full((30, 50, 3), 200))
    assert np.array_equal(shown[100:], rgb[100:])


def test_an_inset_taller_than_the_picture_is_cut_to_it():
    shown = inset(np.zeros((40, 100, 3), np.uint8), np.full((300, 20, 3), 200, np.uint8))
    assert shown.shape == (40, 100, 3)
