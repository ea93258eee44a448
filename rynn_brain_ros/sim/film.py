"""A film of what happens, written while it happens.

With PyAV it is an MP4 that every browser plays; without it an animated GIF, where OpenCV was built
to write those; with neither there is no film, and `Film.note` says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.files import remedy
from rynn_brain_ros.values import ImageError, OutputError

Image = NDArray[np.uint8]
KINDS = (".mp4", ".gif")

_GIF_SIDE_PX = 400
_GIF_FRAMES = 240  # a GIF is encoded at once, so its frames wait in memory
_FONT = cv2.FONT_HERSHEY_DUPLEX
_PAPER, _INK, _SOFT = (20, 22, 24), (255, 255, 255), (196, 200, 206)


class Film:
    """A film at ``path`` plus the suffix of the first of ``kinds`` that can be written here.

    Frames are shown for ``1 / fps`` seconds each and resized to ``size``, (width, height) in
    pixels, made even. The file appears whole, under its final name, when the film is closed; a
    ``with`` block that raises leaves no film. Nothing is written for a film without frames.
    """

    def __init__(
        self,
        path: Path,
        fps: float = 25.0,
        size: tuple[int, int] = (640, 480),
        kinds: Sequence[str] = KINDS,
    ) -> None:
        kind = next((kind for kind in kinds if _is_possible(kind)), "")
        # The name is built, not replaced: a dot in it is part of the name.
        self.path = path.with_name(path.name + kind) if kind else None
        self._size = (max(2, size[0] // 2 * 2), max(2, size[1] // 2 * 2))
        self._fps = fps
        self._n_frames = 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.partial{kind}")
        self._strip: _Strip | None = None

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @property
    def note(self) -> str:
        """Why there is no film and what to do about it; empty where there is one."""
        if self.path is None:
            return (
                f"no film was made: install PyAV ({pip_install('sim')}) for an MP4, "
                "or an OpenCV that writes animated GIFs (5.0 does)"
            )
        return "" if self._n_frames else "no film was made: it has no frames"

    def add(self, rgb: Image) -> None:
        """Appends a frame, uint8 RGB [H, W, 3]. Raises `ImageError` for anything else and
        `OutputError` where the film cannot be written."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise ImageError(
                f"a film frame of shape {rgb.shape} and type {rgb.dtype} is no picture; "
                "give RGB pixels as uint8 [H, W, 3]"
            )
        if self.path is None:
            return
        with self._written(self.path):
            if self._strip is None:
                self._strip = self._open()
            self._strip.add(_fitted(rgb, self._size))
            self._n_frames += 1

    def close(self) -> Path | None:
        """Ends the film and gives its path, or ``None`` where there is none: then `note` says
        why. Raises `OutputError`."""
        strip, self._strip = self._strip, None
        if strip is not None and self.path is not None:
            with self._written(self.path):
                strip.close()
                self._temporary.replace(self.path)
        return self.path if self._n_frames else None

    def discard(self) -> None:
        """Ends the film and leaves nothing of it."""
        strip, self._strip = self._strip, None
        if strip is not None:
            with contextlib.suppress(OSError):
                strip.close()
        self._n_frames = 0
        self._clean()

    def _open(self) -> _Strip:
        self._temporary.parent.mkdir(parents=True, exist_ok=True)
        if self._temporary.suffix == ".mp4":
            return _Mp4(self._temporary, self._fps, self._size)
        return _Gif(self._temporary, self._fps, self._size)

    @contextlib.contextmanager
    def _written(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # PyAV's errors of the file system are OSErrors too
            self._clean()
            reason = error.strerror or str(error)
            raise OutputError(f"cannot write the film {path}: {reason}; {remedy(error)}") from error

    def _clean(self) -> None:
        with contextlib.suppress(OSError):
            self._temporary.unlink()


class _Strip(Protocol):
    def add(self, rgb: Image) -> None: ...

    def close(self) -> None: ...


def _is_possible(kind: str) -> bool:
    if kind == ".gif":
        return hasattr(cv2, "imwriteanimation") and bool(cv2.haveImageWriter("film.gif"))
    with contextlib.suppress(ImportError):
        import av  # noqa: PLC0415  (optional, in the extra "sim")

        return kind == ".mp4" and "libx264" in av.codecs_available
    return False


def _fitted(rgb: Image, size: tuple[int, int]) -> Image:
    """The whole frame in ``size``, with dark bars where the shapes differ."""
    height, width = rgb.shape[:2]
    if (width, height) == size:
        return rgb
    scale = min(size[0] / width, size[1] / height)
    w, h = min(size[0], max(1, round(width * scale))), min(size[1], max(1, round(height * scale)))
    small = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - w) // 2, (size[1] - h) // 2
    frame = np.full((size[1], size[0], 3), _PAPER, np.uint8)
    frame[top : top + h, left : left + w] = small
    return frame


class _Mp4:
    """H.264 in the pixel format that every player reads, the index first so that it streams."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        import av  # noqa: PLC0415  (optional, in the extra "sim")

        self._av = av
        self._file = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1000)
        self._stream = self._file.add_stream("libx264", rate=rate, options={"crf": "21"})
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"

    def add(self, rgb: Image) -> None:
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()


class _Gif:
    """A smaller film of at most `_GIF_FRAMES` frames: a longer one shows every second frame, or
    every fourth, … for as much longer."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        scale = min(1.0, _GIF_SIDE_PX / max(size))
        self._size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        self._path, self._frame_ms = path, 1000 / fps
        self._frames: list[Image] = []
        self._every, self._seen = 1, 0

    def add(self, rgb: Image) -> None:
        if self._seen % self._every == 0:
            small = cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA)
            self._frames.append(np.ascontiguousarray(small[..., ::-1]))
        self._seen += 1
        if len(self._frames) > _GIF_FRAMES:
            self._frames, self._every = self._frames[::2], 2 * self._every

    def close(self) -> None:
        film = cv2.Animation()
        film.frames = self._frames
        film.durations = [max(20, round(self._frame_ms * self._every))] * len(self._frames)
        if not cv2.imwriteanimation(str(self._path), film):
            raise OSError(f"OpenCV could not encode {len(self._frames)} frames")


# --- captions ------------------------------------------------------------------------------------


def caption(rgb: Image, lines: Sequence[str]) -> Image:
    """A copy of ``rgb``, uint8 [H, W, 3], with ``lines`` on a dark bar along its lower edge.

    The first is white, the others grey. A line that is too long is cut; letters outside ASCII
    appear as ``?``, but for the middle dot between words, which is drawn.
    """
    picture: Image = np.array(rgb, order="C")
    shown = [line for line in lines if line]
    height, width = picture.shape[:2]
    scale = 0.5 * max(0.8, width / 640)
    line_px = round(34 * scale)
    top = max(0, height - line_px * len(shown) - round(10 * scale))
    if shown:
        bar = picture[top:]
        bar[:] = cv2.addWeighted(bar, 0.22, np.full_like(bar, _PAPER), 0.78, 0)
    for i, line in enumerate(shown):
        _write(picture, line, top + round((i + 0.92) * line_px), scale, _INK if not i else _SOFT)
    return picture


def _write(
    picture: Image, line: str, baseline: int, scale: float, color: tuple[int, int, int]
) -> None:
    """Draws the middle dots itself: OpenCV's fonts have none."""
    left, gap, limit = round(20 * scale), round(30 * scale), picture.shape[1] - round(20 * scale)
    for i, part in enumerate(line.split(" · ")):
        if i:
            middle = (left + gap // 2, baseline - round(8 * scale))
            cv2.circle(picture, middle, max(1, round(3.2 * scale)), color, cv2.FILLED, cv2.LINE_AA)
            left += gap
        words = _cut("".join(c if " " <= c <= "~" else "?" for c in part), limit - left, scale)
        cv2.putText(picture, words, (left, baseline), _FONT, scale, color, 1, cv2.LINE_AA)
        left += _width(words, scale)
        if left >= limit - gap:
            return


def _cut(words: str, room_px: int, scale: float) -> str:
    if _width(words, scale) <= room_px:
        return words
    while words and _width(words + "...", scale) > room_px:
        words = words[:-1]
    return words.rstrip() + "..." if words else ""


def _width(words: str, scale: float) -> int:
    return int(cv2.getTextSize(words, _FONT, scale, 1)[0][0])


def inset(rgb: Image, small: Image, share: float = 0.32) -> Image:
    """A copy of ``rgb`` with the picture ``small`` in its upper right corner, ``share`` of its
    width wide, such as what the brain sees beside what a bystander sees."""
    picture: Image = np.array(rgb, order="C")
    height, width = picture.shape[:2]
    w = max(1, round(share * width))
    h = max(1, min(height - 4, round(w * small.shape[0] / small.shape[1])))
    edge = max(1, round(width / 320))
    left, top = width - w - 4 * edge, 4 * edge
    cv2.rectangle(
        picture, (left - edge, top - edge), (left + w + edge - 1, top + h + edge - 1), _INK, -1
    )
    room = picture[top : top + h, left : left + w]
    room[:] = cv2.resize(small, (w, h), interpolation=cv2.INTER_AREA)[: room.shape[0]]
    return picture
