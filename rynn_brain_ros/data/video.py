"""MP4 files, one frame a row: encoded while the frames come, and read from anywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.data.layout import not_written
from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.values import InputError

RGB = NDArray[np.uint8]

CODEC = "h264"
_ENCODER, _SETTINGS = "libx264", {"crf": "20", "preset": "superfast", "g": "2", "bf": "0"}
"""Every second frame stands for itself (g=2, as LeRobot's): training reads at random."""


def _av() -> Any:
    try:
        import av  # noqa: PLC0415  (optional, in the extra "data")
    except ImportError as error:
        raise InputError(f"data sets need PyAV and pyarrow: {pip_install('data')}") from error
    return av


def _errors() -> tuple[type[Exception], ...]:
    """What FFmpeg raises: not all of its errors are the operating system's."""
    return (OSError, IndexError, _av().error.FFmpegError)


class VideoWriter:
    """Encodes frames to ``path`` as they come. The file is whole after `close`; what a ``with``
    block that raises has begun is removed. Raises `OutputError`."""

    def __init__(self, path: Path, fps: int, size: tuple[int, int]) -> None:
        height, width = size
        if height % 2 or width % 2:
            raise InputError(
                f"{path.stem} has images of {width}×{height} pixels, and videos have even sides: "
                "give the contract a resize: [height, width]"
            )
        self._av, self._path, self.n_frames = _av(), path, 0
        with self._written():
            self._file = self._av.open(str(path), "w", format="mp4")
            self._stream = self._file.add_stream(_ENCODER, rate=fps, options=_SETTINGS)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.thread_count = 1
            self._stream.codec_context.time_base = Fraction(1, fps)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def add(self, rgb: RGB) -> None:
        """A frame, uint8 RGB [H, W, 3]."""
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts = self.n_frames
        with self._written():
            self._file.mux(self._stream.encode(frame))
        self.n_frames += 1

    def close(self) -> None:
        with self._written():
            self._file.mux(self._stream.encode())
            self._file.close()

    def discard(self) -> None:
        with contextlib.suppress(*_errors()):
            self._file.close()
        self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except _errors() as error:
            reason = OSError(getattr(error, "errno", 0), getattr(error, "strerror", str(error)))
            raise not_written(self._path, reason) from error


def frames(path: Path, from_s: float = 0.0, n: int | None = None, fps: int = 30) -> Iterator[RGB]:
    """``n`` frames from ``from_s`` on, RGB uint8 [H, W, 3]; all of them without ``n``.

    Raises `InputError` where the file cannot be read or ends too early.
    """
    av, found = _av(), 0
    slack_s = 0.5 / fps
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO" if n is None or n > 2 else "NONE"
            if from_s > 0:
                file.seek(int(from_s / stream.time_base), stream=stream, backward=True)
            for frame in file.decode(stream):
                if found == n:
                    return
                if float(frame.pts * stream.time_base) > from_s - slack_s:
                    found += 1
                    yield frame.to_ndarray(format="rgb24")
    except _errors() as error:
        raise InputError(f"the video {path} cannot be read: {error}") from error
    if n is not None and found < n:
        raise InputError(f"the video {path} ends after {found} of {n} frames from {from_s:.3f} s")


def n_frames(path: Path) -> int:
    """How many there are, counted in the file's packets; nothing is decoded."""
    av = _av()
    try:
        with av.open(str(path)) as file:
            return sum(packet.size > 0 for packet in file.demux(file.streams.video[0]))
    except _errors() as error:
        raise InputError(f"the video {path} cannot be read: {error}") from error


def codec(path: Path) -> str:
    """Name of the file's codec, as FFmpeg has it. Raises `InputError`."""
    try:
        with _av().open(str(path)) as file:
            return str(file.streams.video[0].codec_context.name)
    except _errors() as error:
        raise InputError(f"the video {path} cannot be read: {error}") from error
