"""One episode on one stage: the loop of a robot, with a simulator in the robot's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rynn_brain_ros.bags import CameraTopics
from rynn_brain_ros.demo.piloted import Driver, PolicyMover
from rynn_brain_ros.demo.stages import Stage
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning import Perception, PerceptionConfig
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import Episode, EpisodeEvent, Tell
from rynn_brain_ros.planning.executive import Approve, carry_out
from rynn_brain_ros.planning.robots import assemble
from rynn_brain_ros.planning.sight import Sight
from rynn_brain_ros.replay import HeardActuator, assembly_of, bag_inputs
from rynn_brain_ros.safety import gives
from rynn_brain_ros.sim.sensing import CameraStream, Sink, WorldClock
from rynn_brain_ros.sim.world import Picture
from rynn_brain_ros.values import Cancel, Motion, RigidTransform, Step, Vector3

Trace = tuple[tuple[int, Vector3], ...]
"""Where the tool, or the base, was: (time in ns, place in the robot's base frame or map)."""


def _nothing(*_: Any) -> None:
    """For whoever does not listen."""


@dataclass(frozen=True)
class Ears:
    """Who hears what passes while an episode is played: messages as a recorder gets them, events,
    pictures, and what goes between the executive and the robot."""

    message: Sink | None = None
    event: Tell = _nothing
    picture: Callable[[Picture], None] = _nothing
    actuator: Callable[[dict[str, Any]], None] = _nothing


@dataclass(frozen=True)
class Played:
    episode: Episode
    trace: Trace


def play(
    stage: Stage,
    engines: Engines,
    ears: Ears = Ears(),  # a frozen value
    cancel: Cancel | None = None,
    approve: Approve | None = None,
    *,
    driver: Driver | None = None,
) -> Played:
    """Carries out the stage's task. Time passes in its world only, and not while an engine or a
    policy thinks. A ``driver``'s policy moves the arm in place of planned motions."""
    topics = topics_of(stage.camera)
    perception = Perception(PerceptionConfig((assembly_of(topics),), keyframes=False))
    inputs = bag_inputs(topics, ("/tf", "/tf_static"), perception)
    trace: list[tuple[int, Vector3]] = []

    def receive(topic: str, typename: str, message: Any, now_ns: int) -> None:
        if topic in inputs:
            inputs[topic](message)
        if topic == "/tf":
            place = perception.transforms.lookup(stage.world.base_frame, stage.traced_frame, now_ns)
            if isinstance(place, RigidTransform):
                trace.append((now_ns, place.translation_m))

    streams = (stage.camera, *stage.others)
    recorders = () if ears.message is None else (ears.message,)
    movers: list[PolicyMover] = []

    def drive(sight: Sight, arming: Arming) -> PolicyMover:
        assert driver is not None
        movers.append(PolicyMover(driver, stage, sight, arming))
        return movers[0]

    def receive_all(topic: str, typename: str, message: Any, now_ns: int) -> None:
        receive(topic, typename, message, now_ns)
        for mover in movers:
            mover.receive(topic, typename, message, now_ns)

    def tell(event: EpisodeEvent) -> None:
        for mover in movers:
            mover.hear(event)
        ears.event(event)

    clock = WorldClock(
        stage.world, streams, (receive_all,), watch=ears.picture, recorders=recorders
    )
    actuator = HeardActuator(stage.actuator, clock, ears.actuator)
    brain, taker, arming = assemble(
        stage.robot,
        perception,
        clock,
        actuator,
        engines.select,
        tell=tell,
        approve=None if approve is None else _taking(approve, stage),
        mover_for=None if driver is None else drive,
    )
    arming.arm(clock.now_ns())
    episode = carry_out(stage.task, taker, brain, cancel)
    return Played(episode, tuple(trace))


def _taking(approve: Approve, stage: Stage) -> Approve:
    """The same person, who takes what the hand offers once they have said that it may open."""

    def ask(step: Step | None, motion: Motion) -> bool:
        said = approve(step, motion)
        if said and gives(motion):
            stage.take()
        return said

    return ask


def topics_of(stream: CameraStream) -> CameraTopics:
    """As who sees them live would find them."""
    return CameraTopics(
        name=stream.name,
        color_topic=stream.color_topic,
        color_compressed=True,
        color_info_topic=stream.info_topic,
        depth_topic=stream.depth_topic if stream.with_depth else None,
        depth_compressed=False,
        depth_registered=True,
    )
