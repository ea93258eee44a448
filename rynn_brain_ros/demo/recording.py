"""Keeping an episode while it is played: the bag, the story, the film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rynn_brain_ros import __version__
from rynn_brain_ros.demo.running import Ears, Played
from rynn_brain_ros.demo.stages import Stage
from rynn_brain_ros.models import Engines, RecordedAnswer, RecordingEngine
from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.episode import EpisodeEvent, StageBegan, TurnEnded
from rynn_brain_ros.planning.executive import Approve
from rynn_brain_ros.replay import EpisodeFolder, EpisodeHead
from rynn_brain_ros.sim.film import Film, caption
from rynn_brain_ros.sim.world import Picture
from rynn_brain_ros.values import Cancel, Motion, Query, Step
from rynn_brain_ros.view.plane import Surroundings
from rynn_brain_ros.view.story import StoryHead, StoryWriter

_SPEEDUP = 2.0
"""A film runs this much faster than the robot."""


class Recording:
    """Everything that a run leaves in its folder. Use as a context manager."""

    def __init__(self, out: Path, stage: Stage, provenance: Mapping[str, str]) -> None:
        self.out, self._stage, self._provenance = out, stage, dict(provenance)
        head = EpisodeHead(
            task=stage.task,
            robot=stage.robot.name,
            settings=stage.robot.record,
            camera=stage.camera.color_topic,
            actuator=stage.actuator.name,
            goals=tuple(sorted(kind.__name__ for kind in stage.actuator.goals)),
        )
        self._folder = EpisodeFolder(out, head, self._provenance, lambda: stage.world.now_ns)
        self._story, self._stages = StoryWriter(), list[StageBegan]()
        size = stage.world.camera_info(stage.camera.name)
        self._film = Film(
            out / "episode", stage.camera.rate_hz * _SPEEDUP, (size.width, size.height)
        )
        self._caption = "looking"

    def __enter__(self) -> Recording:
        self._folder.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._film.__exit__(kind, error, trace)
        self._folder.__exit__(kind, error, trace)

    def ears(self, tell: Any) -> Ears:
        """To be played with; ``tell`` hears the events too."""

        def event(happened: EpisodeEvent) -> None:
            self._heard(happened)
            tell(happened)

        return Ears(self._folder.receive, event, self._picture, self._folder.keep_actuator)

    def engines(self, engines: Engines) -> Engines:
        """The same engines, and what they answer is kept."""
        by_role = engines.by_role.items()

        def keep(_: Query, answer: RecordedAnswer) -> None:
            self._folder.keep_answer(answer)

        return Engines({role: RecordingEngine(engine, keep) for role, engine in by_role})

    def cancel(self, cancel: Cancel) -> Cancel:
        """The same cancel, and when it was first seen is kept."""
        return _NotedCancel(cancel, self._folder)

    def approve(self, approve: Approve) -> Approve:
        """The same person, and what they said is kept."""

        def ask(step: Step | None, motion: Motion) -> bool:
            said = approve(step, motion)
            self._folder.keep_input("approved" if said else "denied")
            return said

        return ask

    def _heard(self, event: EpisodeEvent) -> None:
        self._folder.tell(event)
        if isinstance(event, TurnEnded):
            self._story.add(event.record)
            self._caption = f"turn {event.record.number + 2} · looking"
        elif isinstance(event, StageBegan):
            self._stages.append(event)
            self._caption = f"turn {event.number + 1} · {event.stage.stage.value}"

    def _picture(self, picture: Picture) -> None:
        self._film.add(caption(picture.rgb, (self._stage.task, self._caption)))

    @property
    def film_note(self) -> str:
        """Why there is no film; empty where there is one."""
        return self._film.note

    def close(self, played: Played, engine_note: str) -> Path:
        """Makes everything whole; returns the report."""
        film = self._film.close()
        self._folder.close(played.episode)
        report = self.out / "report.html"
        head = StoryHead(
            title=f"{self._stage.robot.name} in a simulated world",
            subtitle=f"rynn_brain_ros {__version__}",
            provenance=self._provenance,
            engine_note=engine_note,
            film=film.name if film is not None else "",
        )
        self._story.finish(
            report,
            head,
            played.episode,
            played.trace,
            around=self._surroundings(),
            stages=self._stages,
        )
        return report

    def _surroundings(self) -> Surroundings:
        limits = self._stage.robot.limits
        if not isinstance(self._stage.robot.body, Arm):
            return Surroundings(background=self._stage.from_above())
        low, high = limits.workspace_min_m, limits.workspace_max_m
        return Surroundings(workspace_m=(low[0], high[0], low[1], high[1]))


class _NotedCancel:
    def __init__(self, cancel: Cancel, folder: EpisodeFolder) -> None:
        self._cancel, self._folder, self._noted = cancel, folder, False

    def is_set(self) -> bool:
        is_set = self._cancel.is_set()
        if is_set and not self._noted:
            self._noted = True
            self._folder.keep_input("cancel")
        return is_set
