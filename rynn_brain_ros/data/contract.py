"""The contract: which field of which message becomes which feature, when, and how good it must be.

One YAML file that recorder, converter, training and the live policy read. The keys are those of
rosetta's contracts (github.com/iblnkn/rosetta, doc/reference/contract.md) wherever the meaning is
the same; ours beside them are ``rate_hz``, ``units``, ``gripper``, ``representation``,
``delay_ms``, the strategies ``linear`` and ``slerp``, and the sections ``conditioning``,
``episodes`` and ``limits``. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from rynn_brain_ros.config import setting

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_STATE = "sensor_msgs/msg/JointState"

KIND_SIZES = {"quaternion": 4, "euler_rpy": 3, "axis_angle": 3, "rotation_6d": 6, "binary": 1}
"""How many values a source of each kind selects; ``continuous`` takes any number."""


@dataclass(frozen=True)
class Channel:
    """Where messages come from, or, for an action, go to. The last four are its ``qos``, as
    rclpy's profiles name them: for nodes; a recording does not need them."""

    topic: str = setting("", "full name of the topic")
    type: str = setting("", "message type, package/msg/Name")
    dtype: str = setting("float32", "how numbers are kept", choices=("float32", "float64"))
    safety: str = setting(
        "none", "what is sent when the policy stops", choices=("none", "hold", "zeros")
    )
    reliability: str = setting("", "empty: the default", choices=("", "reliable", "best_effort"))
    durability: str = setting("", "empty: the default", choices=("", "volatile", "transient_local"))
    history: str = setting("", "empty: the default", choices=("", "keep_last", "keep_all"))
    depth: int = setting(10, "messages kept for a late reader", 1, 10_000)

    @property
    def is_image(self) -> bool:
        return self.type in IMAGE_TYPES


@dataclass(frozen=True)
class Align:
    """Which sample stands for the time t. Only what had been received by t is ever looked at."""

    strategy: str = setting(
        "",
        "hold: the latest at or before t; asof: the same, if no older than tolerance_ms; drop: the "
        "same, if it came since the last frame; linear and slerp: between the samples around t",
        choices=("hold", "asof", "drop", "linear", "slerp"),
    )
    timeline: str = setting(
        "", "header: the sensor's stamp; receive: when it arrived", choices=("header", "receive")
    )
    tolerance_ms: float = setting(0.0, "asof: how old a sample may be [ms]", 0.0, 60_000.0)
    delay_ms: float = setting(
        0.0, "look this far before t, so that linear and slerp see both sides [ms]", 0.0, 1_000.0
    )


@dataclass(frozen=True)
class Gripper:
    """The raw values of the two ends; the feature is 1 open and 0 closed whatever they are."""

    open: float = setting(1.0, "raw value of an open hand")
    closed: float = setting(0.0, "raw value of a closed hand")


@dataclass(frozen=True)
class Operator:
    """One step of ``apply``: ``rad2deg``, ``scale: k``, ``clamp: {min, max}`` or
    ``resize: [height, width]``, with its numbers."""

    name: str
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Source:
    """One channel's part of a feature. Joints are selected by name: a message's order of joints
    is whatever its sender likes. ``sparse`` is for what is sent only when it changes: it holds
    until the next message, however long that takes."""

    channel: Channel
    align: Align
    select: tuple[str, ...] = ()
    apply: tuple[Operator, ...] = ()
    kind: str = "continuous"
    units: str = ""
    rate_hz: float = 0.0
    gripper: Gripper | None = None
    representation: str = "absolute"
    sparse: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that images are resized to."""
        for operator in self.apply:
            if operator.name == "resize":
                return int(operator.numbers[0]), int(operator.numbers[1])
        return None


@dataclass(frozen=True)
class Feature:
    """A column of the data set: one camera's images, or numbers from one or more sources in their
    order. A camera's role is the last word of its key."""

    key: str
    sources: tuple[Source, ...]

    @property
    def is_image(self) -> bool:
        return self.sources[0].channel.is_image

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for source in self.sources for name in source.select)

    @property
    def dtype(self) -> str:
        return self.sources[0].channel.dtype


@dataclass(frozen=True)
class Conditioning:
    """What the brain said, as text features. Empty: not kept. See `conditioning`."""

    plan: str = setting("", "topic of rynn_brain_ros/Plan: the step in hand, as it was written")
    groundings: str = setting("", "topic of rynn_brain_ros/GroundingArray: what was pointed at")


@dataclass(frozen=True)
class Episodes:
    """How a recording is cut."""

    by: str = setting(
        "auto",
        "markers: the operator's marks; bag: one each; auto: markers where there are any",
        choices=("auto", "markers", "bag"),
    )
    keep: str = setting(
        "all", "success: only episodes marked so; all: also others", choices=("all", "success")
    )


@dataclass(frozen=True)
class Limits:
    """How good an episode must be, and what happens to one that is not."""

    on_fault: str = setting(
        "skip",
        "skip: leave the episode out and go on; refuse: end the conversion",
        choices=("skip", "refuse"),
    )
    max_gap_s: float = setting(0.5, "longest silence of a topic [s]", 0.0, 3600.0)
    max_staleness_s: float = setting(0.3, "oldest sample that stands for now [s]", 0.0, 3600.0)
    min_rate: float = setting(0.5, "least share of rate_hz that must arrive", 0.0, 1.0)
    max_rate: float = setting(1.5, "most, as a multiple of rate_hz", 1.0, 1000.0)
    max_repeated: float = setting(0.5, "largest share of images shown twice", 0.0, 1.0)
    min_duration_s: float = setting(0.5, "shortest episode [s]", 0.0, 3600.0)


@dataclass(frozen=True)
class Contract:
    """``text`` is the YAML as it was read: it travels with every recording and data set."""

    robot_type: str
    fps: int
    observations: tuple[Feature, ...]
    actions: tuple[Feature, ...] = ()
    task: Channel | None = None
    conditioning: Conditioning = Conditioning()
    episodes: Episodes = Episodes()
    limits: Limits = Limits()
    adjunct: tuple[Channel, ...] = ()
    text: str = field(default="", repr=False, compare=False)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        return (*self.observations, *self.actions)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """All of them, without repetition."""
        every = (source for feature in self.features for source in feature.sources)
        return tuple(dict.fromkeys(every))

    @property
    def cameras(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.is_image)

    @cached_property
    def lasting(self) -> frozenset[str]:
        """Topics whose last message still holds, however long ago it came."""
        task = () if self.task is None else (self.task.topic,)
        return frozenset((*task, *(s.channel.topic for s in self.sources if s.sparse)))

    @cached_property
    def topics(self) -> dict[str, str]:
        """Every topic that features, task or conditioning come from, with its type."""
        found = {source.channel.topic: source.channel.type for source in self.sources}
        if self.task is not None:
            found[self.task.topic] = self.task.type
        if self.conditioning.plan:
            found[self.conditioning.plan] = "rynn_brain_ros/msg/Plan"
        if self.conditioning.groundings:
            found[self.conditioning.groundings] = "rynn_brain_ros/msg/GroundingArray"
        return found
