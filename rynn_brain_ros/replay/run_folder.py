"""The folder of one run: ``run.mcap``, ``answers.jsonl``, ``overlays/`` and ``report.html``, and
``run.json``, which says whose they are.

Each file carries its final name only when it is whole. A run that dies keeps what it recorded
under names that say so (``run.partial.mcap``, ``answers.partial.jsonl``); a run that is
interrupted is closed properly and says in its metadata that it was.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import cv2

from rynn_brain_ros import messages
from rynn_brain_ros.bags import OUT_OF_ORDER, BagMessage, BagWriter, CameraTopics
from rynn_brain_ros.files import remedy, write_whole
from rynn_brain_ros.replay.answers import answer_line
from rynn_brain_ros.replay.claiming import RunKind, cannot_write, claim_run_folder
from rynn_brain_ros.values import (
    CameraInfo,
    EncodedImage,
    LiftedGrounding,
    OutputError,
    Response,
    SelectedFrame,
)
from rynn_brain_ros.view import annotated_frames, publications
from rynn_brain_ros.view.publications import TYPES
from rynn_brain_ros.view.report import ReportHead, ReportWriter

OWN_TOPICS = "/rynn_brain/"
_BAGS = ("run.mcap", "run.partial.mcap")
_ANSWERS = ("answers.jsonl", "answers.partial.jsonl")
_REPORT = "report.html"
_HEX = "[0-9a-f]" * 8
_OVERLAYS = f"overlays/q*-{_HEX}_frame*.png"
"""Query ids as `planning.make_query` makes them: other pictures in the folder are not ours."""


class RunFolder:
    """Writes one run of one camera. Use as a context manager; `close` makes it whole.

    Inputs keep the topics that they were recorded on, so that the run can be replayed like them.
    Responses are written and let go: a long run takes no more memory than its report.

    Raises `OutputError` when the folder cannot be made or written, or is another's.
    """

    def __init__(self, path: Path, provenance: Mapping[str, str], camera: CameraTopics) -> None:
        self.path = path
        self._camera = camera
        self.provenance = dict(provenance)
        self.n_answers = 0
        self._report = ReportWriter()
        # By identity, since a reset clock repeats stamps, and may repeat a picture to the last bit.
        self._written: dict[tuple[str, int], weakref.ref[EncodedImage]] = {}
        self._answers_partial = path / "answers.partial.jsonl"
        claim_run_folder(path, RunKind.REPLAY, (*_BAGS, *_ANSWERS, _REPORT, _OVERLAYS))
        try:
            self._answers = self._answers_partial.open("w", encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error) from error
        self._bag = BagWriter(path / "run.mcap", self.provenance)
        self._bag.add_metadata(OUT_OF_ORDER, {"why": "a frame is written when it is first shown"})

    @staticmethod
    def bags_of(path: Path) -> tuple[Path, ...]:
        """The recordings that a run in ``path`` replaces."""
        return tuple(path / name for name in _BAGS)

    @staticmethod
    def answers_of(path: Path) -> tuple[Path, ...]:
        """The answers that a run in ``path`` replaces."""
        return tuple(path / name for name in _ANSWERS)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            return
        self._answers.close()
        self._bag.close(complete=False)
        with contextlib.suppress(OSError):  # closed and readable, but no whole run
            self._bag.path.replace(self._bag.partial_path)

    def copy(self, message: BagMessage) -> None:
        """An input as it was recorded: transforms, since frames are written when used."""
        self._bag.write_raw(
            message.topic,
            message.typename,
            message.raw,
            message.log_time_ns,
            offered_qos=message.connection.offered_qos,
        )

    def add(
        self,
        response: Response,
        now_ns: int,
        received_ns: Mapping[int, int],
        beside: Sequence[LiftedGrounding] = (),
    ) -> None:
        """One answered question, at log time ``now_ns``. ``received_ns`` tells when the image of a
        stamp had been received: that is its log time here, so that a replay of the run sees older
        images that are shown later in their own order. ``beside`` is what other questions of the
        same moment found: a viewer shows them together."""
        for selected in response.query.frames:
            log_ns = received_ns.get(selected.frame.stamp_ns, now_ns)
            self._add_frame(selected, min(log_ns, now_ns))
        latency_s = response.answer.timings.total_s
        answered_ns = now_ns + (round(latency_s * 1e9) if _latency_is_recorded(response) else 0)
        self._add_messages(response, answered_ns, beside)
        try:
            self._answers.write(answer_line(response))
            self._answers.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._answers_partial}: {error.strerror}; {remedy(error)}"
            ) from error
        self._report.add(response)
        self.n_answers += 1

    def close(
        self,
        title: str,
        subtitle: str,
        engine_note: str,
        problems: tuple[str, ...],
        complete: bool = True,
    ) -> Path:
        """Makes everything whole and returns the report's path."""
        self._bag.close(complete=complete)
        try:
            self._answers.close()
            self._answers_partial.replace(self.path / "answers.jsonl")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.path / 'answers.jsonl'}: {error.strerror}; {remedy(error)}"
            ) from error
        report = self.path / _REPORT
        self._report.finish(
            report,
            ReportHead(
                title=title,
                subtitle=subtitle,
                provenance=self.provenance,
                problems=problems,
                engine_note=engine_note,
            ),
        )
        return report

    def _add_frame(self, selected: SelectedFrame, log_ns: int) -> None:
        frame = selected.frame
        written = self._written.get(frame.key)
        if written is not None and written() is frame.color:
            return
        self._written[frame.key] = weakref.ref(frame.color)
        topics = self._camera
        typename, data = messages.image(frame.color, frame.stamp_ns, frame.frame_id)
        self._bag.write(frame.camera, typename, data, log_ns)
        self._add_info(topics.color_info_topic, frame.camera_info, frame.stamp_ns, log_ns)
        if frame.depth is not None and topics.depth_topic is not None:
            depth_frame = frame.T_color_depth.child if frame.T_color_depth else frame.frame_id
            typename, data = messages.image(frame.depth, frame.stamp_ns, depth_frame)
            self._bag.write(topics.depth_topic, typename, data, log_ns)
            self._add_info(topics.depth_info_topic, frame.depth_info, frame.stamp_ns, log_ns)

    def _add_info(
        self, topic: str | None, info: CameraInfo | None, stamp_ns: int, log_ns: int
    ) -> None:
        if topic is not None and info is not None:
            data = messages.camera_info(info, stamp_ns)
            self._bag.write(topic, messages.CAMERA_INFO, data, log_ns)

    def _add_messages(
        self, response: Response, log_ns: int, beside: Sequence[LiftedGrounding]
    ) -> None:
        pictures = annotated_frames(response)
        together = annotated_frames(response, beside) if beside else pictures
        for name, data in publications(response, together, beside=len(beside)):
            self._bag.write(f"{OWN_TOPICS}{name}", TYPES[name], data, log_ns)
        for index, _, picture in pictures:
            png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
            write_whole(self.path / "overlays" / f"{response.query.query_id}_frame{index}.png", png)


def _latency_is_recorded(response: Response) -> bool:
    """A measured latency differs from run to run; a recorded one belongs to the answer."""
    return response.answer.engine == "recorded" and response.answer.timings.total_s >= 0
