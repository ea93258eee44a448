"""The frozen values that every room passes on, and the error tree.

Nothing here decodes, computes geometry or talks to a robot: these are the nouns of the project.
They know numpy and the standard library only, so that any room may import them.

Conventions, stated once:

* Time is an ``int`` of nanoseconds since the clock's epoch (``stamp_ns``), durations in seconds
  are ``float`` and end in ``_s``.
* Lengths are metres (``_m``), frames follow REP 105, axes REP 103. A camera's points are in its
  *optical* frame: x right, y down, z forward.
* ``T_a_b`` maps coordinates of frame ``b`` into frame ``a``: ``p_a = T_a_b · p_b``.
* Quaternions are ``(x, y, z, w)``, as in ROS messages.
* A pixel's centre has integer coordinates: ``u = 0`` is the centre of the leftmost column.
  RynnBrain's normalized ``x`` in 0…1000 becomes ``u = x / 1000 · (width − 1)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol

import numpy as np

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Matrix3 = tuple[float, float, float, float, float, float, float, float, float]
Point2 = tuple[float, float]
IDENTITY_MATRIX3: Matrix3 = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


# --- errors ------------------------------------------------------------------------------------


class RynnBrainError(Exception):
    """Root of every error this package raises on purpose.

    A message says what was wrong, where, and what to do about it.
    """


class InputError(RynnBrainError):
    """Something the user gave cannot be used: a file, an argument, a topic name."""


class BagError(InputError):
    """A recording cannot be read or holds nothing usable."""


class ImageError(InputError):
    """Pixels cannot be decoded, or their size or encoding contradicts their header."""


class ConfigError(InputError):
    """A configuration value is unknown, of the wrong type or out of its limits."""


class OutputError(RynnBrainError):
    """A result could not be written; nothing half-written is left under its final name."""


class TransformError(RynnBrainError):
    """The transform tree is inconsistent: a loop, two parents, a quaternion of no length."""


class EngineError(RynnBrainError):
    """An engine could not answer."""


class RecordedAnswerMissingError(EngineError):
    """The recorded engine was asked something that its file does not hold."""


class UnsupportedTaskError(EngineError):
    """The engine does not know how to answer this kind of question."""


class UnreadableQuestionError(EngineError):
    """The question as such cannot be given to this model: too long, a picture that cannot be
    shown, words that are control tokens. Asking again does not help."""


class EngineLostError(EngineError):
    """What was answering is gone: the server went away in the middle of it, or the GPU takes no
    more work from the process."""


class RefusalCode(str, Enum):
    """Why something that was asked for was not given. The names are part of the interface."""

    UNKNOWN = "unknown"
    """Told by another version, in a code or of a kind that this one does not know."""
    NO_GROUNDING = "no_grounding"
    """The answer holds no usable grounding, or the engine abstained."""
    OUT_OF_RANGE = "out_of_range"
    """A coordinate lies outside 0…1000 of its image."""
    FRAME_IMPLICIT = "frame_implicit"
    """Several frames were shown and the answer does not say which one it means."""
    INCOMPLETE = "incomplete"
    """The answer was cut off, or the grounding is degenerate."""
    NOT_SPATIAL = "not_spatial"
    """The grounding carries no image coordinates (a count, a 3D box used as a prior)."""
    NO_DEPTH = "no_depth"
    """The frame has no depth image, or none of its pixels near the point is valid."""
    TOO_FEW_VALID = "too_few_valid"
    """Some depth near the point is valid, but not enough to call it a surface."""
    DEPTH_EDGE = "depth_edge"
    """The point lies on a depth discontinuity: two surfaces are equally likely."""
    DEPTH_OUT_OF_RANGE = "depth_out_of_range"
    """The depth at the point is nearer or farther than the sensor is trusted."""
    DEPTH_SIZE = "depth_size"
    """The depth image's size contradicts its camera_info or the colour image."""
    NO_INTRINSICS = "no_intrinsics"
    """No camera_info had arrived for this frame, or it is zero, NaN or of another size."""
    NO_TRANSFORM = "no_transform"
    """The transform tree does not know where the camera or the robot was at the frame's stamp."""
    NOT_OPTICAL = "not_optical"
    """The image's frame_id does not look along +z: not an optical frame."""
    STALE = "stale"
    """The frame, the transform or the answer is older than allowed, or there is no frame at all."""

    UNKNOWN_SKILL = "unknown_skill"
    """The sentence asks for something that is not in the closed skill set."""
    INCOMPLETE_STEP = "incomplete_step"
    """The sentence names a skill but not all that it needs (a place without an area)."""
    OUT_OF_ORDER = "out_of_order"
    """The step makes no sense now: a place with an empty gripper, a pick with a full one."""
    UNSUPPORTED_SKILL = "unsupported_skill"
    """The skill is known, and this robot has no motion for it."""
    AMBIGUOUS = "ambiguous"
    """What is pointed at contradicts itself: a grasp point outside its own object's box."""
    NO_GRASP = "no_grasp"
    """No top face to close on was found in the depth of the thing."""
    TOO_WIDE = "too_wide"
    """The thing does not fit between the fingers."""
    APPROACH_BLOCKED = "approach_blocked"
    """Something stands where the hand would come down."""
    NO_FREE_SPACE = "no_free_space"
    """The place that was pointed at does not hold the thing."""
    OUTSIDE_WORKSPACE = "outside_workspace"
    """A target lies outside the configured workspace box."""
    OUT_OF_REACH = "out_of_reach"
    """A target is nearer or farther from the base than the arm is allowed to reach."""
    ON_ROBOT = "on_robot"
    """A target lies on or inside the robot itself."""
    BELOW_SUPPORT = "below_support"
    """A motion would bring the tool under the table."""
    UNCERTAIN = "uncertain"
    """The target's place is less certain than allowed."""
    LOW_CONFIDENCE = "low_confidence"
    """The engine's confidence in its coordinates is lower than allowed, or unknown."""
    TOO_FAST = "too_fast"
    """A motion's speed scaling is above the limit, zero or not a number."""
    TOO_STRONG = "too_strong"
    """The fingers would press harder than allowed."""
    BUSY = "busy"
    """Another goal is still in flight."""
    SCENE_CHANGED = "scene_changed"
    """At the target the scene no longer looks as it did in the frames of the answer."""
    NOT_ARMED = "not_armed"
    """Motion has not been armed, or arming has expired."""
    DRY_RUN = "dry_run"
    """Everything was checked and nothing may move."""
    NOT_APPROVED = "not_approved"
    """A person said no, or did not answer in time."""
    OBSTACLE = "obstacle"
    """The way that a drive would take is not free, or not seen to be free."""
    ENGINE_FAILED = "engine_failed"
    """The engine could not answer."""
    ENGINE_UNCHECKED = "engine_unchecked"
    """The engine that answered has no passing verdict of `rynn-brain check-engine`."""
    UNCONFIRMED = "unconfirmed"
    """The planner claims to be done and a separate look does not confirm it."""


@dataclass(frozen=True)
class Refusal:
    """A named "no": the code is for programs, the text for people (what, where, what to do)."""

    code: RefusalCode
    text: str

    def __str__(self) -> str:
        return f"{self.code.value}: {self.text}"


# --- space -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RigidTransform:
    """``T_parent_child``: maps coordinates of ``child`` into ``parent`` at ``stamp_ns``.

    Same meaning and field order as geometry_msgs/TransformStamped.
    """

    parent: str
    child: str
    translation_m: Vector3 = (0.0, 0.0, 0.0)
    rotation_xyzw: Quaternion = (0.0, 0.0, 0.0, 1.0)
    stamp_ns: int = 0


@dataclass(frozen=True)
class CameraInfo:
    """Intrinsics as in sensor_msgs/CameraInfo: ``k`` 3×3 row-major in pixels, ``d`` distortion
    coefficients of ``distortion_model``, ``r`` rectification 3×3, ``p`` projection 3×4."""

    width: int
    height: int
    k: Matrix3
    d: tuple[float, ...] = ()
    distortion_model: str = "plumb_bob"
    r: Matrix3 = IDENTITY_MATRIX3
    p: tuple[float, ...] = ()
    frame_id: str = ""


# --- frames ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodedImage:
    """Pixels exactly as they arrived, not decoded.

    Raw (``compressed`` false): a sensor_msgs/Image; ``encoding`` is its encoding, ``data`` is
    ``height`` rows of ``step`` bytes. Compressed: a sensor_msgs/CompressedImage; ``encoding`` is
    its ``format`` string as written, and width, height and step are 0 (unknown until decoded).
    """

    encoding: str
    data: bytes | memoryview = field(repr=False)
    width: int = 0
    height: int = 0
    step: int = 0
    is_bigendian: bool = False
    compressed: bool = False

    @property
    def n_bytes(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Frame:
    """One camera image with everything that is needed to turn its pixels into space.

    Identity is ``(camera, stamp_ns)``, never the pixels.

    ``camera_info`` describes ``color``. ``depth_info`` is ``None`` when depth is registered to
    colour (same size, same optical centre); otherwise it describes ``depth`` and
    ``T_color_depth`` places the depth camera in the colour camera's optical frame.
    ``T_fixed_camera`` is the pose of the colour camera's optical frame in a fixed, continuous
    frame (odom or the robot's base) *at this frame's stamp*. Where pose or depth is missing,
    ``pose_refusal`` or ``depth_refusal`` says why.
    """

    camera: str
    stamp_ns: int
    frame_id: str
    color: EncodedImage
    depth: EncodedImage | None = None
    camera_info: CameraInfo | None = None
    depth_info: CameraInfo | None = None
    T_color_depth: RigidTransform | None = None
    T_fixed_camera: RigidTransform | None = None
    pose_refusal: Refusal | None = None
    depth_refusal: Refusal | None = None

    @property
    def key(self) -> tuple[str, int]:
        return (self.camera, self.stamp_ns)

    @property
    def n_bytes(self) -> int:
        return self.color.n_bytes + (self.depth.n_bytes if self.depth is not None else 0)


@dataclass(frozen=True)
class SelectedFrame:
    """A frame chosen for a question, with the bytes that every engine sees.

    ``image`` is the camera's own JPEG or PNG, or one lossless encoding made when the frame was
    selected; ``sha256`` is the hex digest of exactly these bytes. ``width`` and ``height`` are
    in pixels of the full image.
    """

    frame: Frame
    image: bytes = field(repr=False)
    mime: str
    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class FrameSet:
    """The frames of one question. Index ``i`` *is* ``<frame i>``; the last one is "now".

    ``max_visual_tokens`` is the most that one of these images may cost: the training budget
    shared equally (`10240 // n`).
    """

    frames: tuple[SelectedFrame, ...] = ()
    max_visual_tokens: int = 10240

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> SelectedFrame:
        return self.frames[index]

    def __iter__(self) -> Iterator[SelectedFrame]:
        return iter(self.frames)


# --- questions and answers ---------------------------------------------------------------------


class Task(str, Enum):
    """The kinds of question. The value is the word used on the command line and in messages."""

    OBJECT = "object"
    AREA = "area"
    AFFORDANCE = "affordance"
    TRAJECTORY = "trajectory"
    GRASP = "grasp"
    DESCRIBE = "describe"
    COUNT = "count"
    THINK = "think"
    PLAN = "plan"
    NAVIGATE = "navigate"

    @property
    def needs_grounding(self) -> bool:
        """Whether an answer without any grounding is a refusal rather than an answer."""
        return self in _GROUNDING_TASKS


_GROUNDING_TASKS = frozenset({Task.OBJECT, Task.AREA, Task.AFFORDANCE, Task.TRAJECTORY, Task.GRASP})


class Generation(str, Enum):
    """Model generations that differ in prompts: 1.0 stands on Qwen3-VL, 1.1 on Qwen3.5."""

    V1_0 = "1.0"
    V1_1 = "1.1"


class FinishReason(str, Enum):
    STOP = "stop"
    """The model ended its answer, or the closing tag that was asked for was written."""
    LENGTH = "length"
    """The token budget ran out: the end of the text is missing."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class QueryBudget:
    """What a question may cost at most: generated tokens, and wall time in seconds."""

    max_new_tokens: int = 128
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Turn:
    """One finished turn of a conversation: what was shown, and the answer given verbatim.

    ``refused`` is, when driving, what else was said and not carried out, and why, in words.
    """

    frames: FrameSet
    answer: str
    refused: str = ""


@dataclass(frozen=True)
class Query:
    """One question about some frames.

    ``instruction`` is the user's sentence without any format prompt; `language.compose` adds
    what the model generation expects. ``thinking`` asks for Chain-of-Point reasoning before the
    answer, ``abstain`` appends the sentence that lets the model say that a thing is not there.
    ``history`` holds the earlier turns of a multi-turn plan or navigation.

    ``chat`` is set where somebody else has written the messages already (a server's client): the
    model then reads these as they are, and the other fields say what they are about.
    """

    query_id: str
    task: Task
    instruction: str
    frames: FrameSet
    budget: QueryBudget = QueryBudget()
    history: tuple[Turn, ...] = ()
    thinking: bool = False
    abstain: bool = False
    chat: tuple[Message, ...] = ()

    @property
    def thinks(self) -> bool:
        """Whether the answer begins with reasoning."""
        return self.thinking or self.task is Task.THINK


@dataclass(frozen=True)
class TextPart:
    text: str


@dataclass(frozen=True)
class ImagePart:
    image: SelectedFrame


@dataclass(frozen=True)
class Message:
    """One chat message: ``role`` is system, user or assistant; parts in the order of the text."""

    role: str
    parts: tuple[TextPart | ImagePart, ...]


@dataclass(frozen=True)
class Timings:
    """Seconds per stage of one answer; NaN where the engine does not tell."""

    queue_s: float = math.nan
    encode_s: float = math.nan
    prefill_s: float = math.nan
    decode_s: float = math.nan
    total_s: float = math.nan


@dataclass(frozen=True)
class TokenProbability:
    """Probability that the model gave to the token written at characters ``start:end``."""

    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What an engine said, verbatim, and where it comes from.

    ``token_probabilities`` is empty where the engine gives no log-probabilities. Token counts
    are −1 where unknown.
    """

    query_id: str
    text: str
    finish_reason: FinishReason
    engine: str
    model: str
    revision: str = ""
    quantization: str = "none"
    prompt_tokens: int = -1
    completion_tokens: int = -1
    timings: Timings = Timings()
    token_probabilities: tuple[TokenProbability, ...] = ()


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is: ``name`` as configured, the model behind it, the prompts it was trained
    on, and the tasks it can answer."""

    name: str
    model: str
    generation: Generation = Generation.V1_0
    revision: str = ""
    quantization: str = "none"
    tasks: frozenset[Task] = frozenset(Task)

    @property
    def title(self) -> str:
        """For people: the name, and the model behind it where that is another word."""
        return self.name if self.name == self.model else f"{self.name} ({self.model})"


class Cancel(Protocol):
    """Anything with ``is_set``: a ``threading.Event`` serves."""

    def is_set(self) -> bool: ...


class Engine(Protocol):
    """Answers one question at a time.

    ``ask`` calls ``on_text`` with each new piece of text, in order; the pieces joined equal
    ``Answer.text``. It looks at ``cancel`` between tokens and then returns what it has with
    `FinishReason.CANCELLED`. It raises `EngineError` when it cannot answer and never outlasts
    ``query.budget.timeout_s``.
    """

    @property
    def info(self) -> EngineInfo: ...

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer: ...

    def close(self) -> None: ...


# --- groundings --------------------------------------------------------------------------------


class Flag(str, Enum):
    """Something about a grounding that a reader must know. All but two forbid motion."""

    OUT_OF_RANGE = "out_of_range"
    FRAME_IMPLICIT = "frame_implicit"
    TRUNCATED = "truncated"
    DEGENERATE = "degenerate"
    CORNERS_REORDERED = "corners_reordered"
    PRIOR_ONLY = "prior_only"
    """A 3D box from one picture: to be refined by depth, never a goal."""
    OUTLINE = "outline"
    """An area told by its border: its points are not points to act on."""
    FRACTIONS = "fractions"
    """Coordinates in 0…1 where 0…1000 were asked for: most likely fractions of the picture."""
    UNCLOSED = "unclosed"
    """The closing tag is missing, but the answer ended there and the content is complete."""

    @property
    def blocks_motion(self) -> bool:
        return self not in (Flag.CORNERS_REORDERED, Flag.UNCLOSED)


@dataclass(frozen=True)
class Grounding:
    """Base of everything that the brain can point at.

    ``frame`` is the index into the question's `FrameSet`, or ``None`` where the answer names no
    frame and several were shown. ``points`` are (x, y) in 0…1000 of that image, exactly as the
    model wrote them. ``span`` is the item's place in the answer's text, ``tag`` the tag's
    canonical spelling, ``label`` the words it stands for, as far as the text says.
    """

    kind: ClassVar[str] = "grounding"

    frame: int | None
    points: tuple[Point2, ...]
    span: tuple[int, int]
    tag: str
    flags: frozenset[Flag] = frozenset()
    label: str = ""

    @property
    def actionable(self) -> bool:
        """Complete, in range and explicit about its frame: may become motion."""
        return self.frame is not None and not any(flag.blocks_motion for flag in self.flags)


@dataclass(frozen=True)
class Box(Grounding):
    """An object's bounding box: two opposite corners."""

    kind: ClassVar[str] = "object"

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in 0…1000, whatever order the corners were written in."""
        (xa, ya), (xb, yb) = self.points
        return (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))


@dataclass(frozen=True)
class Area(Grounding):
    """A free region, as a set of points inside it (not an outline)."""

    kind: ClassVar[str] = "area"


@dataclass(frozen=True)
class Affordance(Grounding):
    """The one point where a hand would act."""

    kind: ClassVar[str] = "affordance"


@dataclass(frozen=True)
class Trajectory(Grounding):
    """Waypoints in the image, in the order of the motion (1…10)."""

    kind: ClassVar[str] = "trajectory"


@dataclass(frozen=True)
class GraspRectangle(Grounding):
    """Four corners of a rotated rectangle between the fingers (model generation 1.0)."""

    kind: ClassVar[str] = "grasp_rectangle"


@dataclass(frozen=True)
class ContactPoint(Grounding):
    """A grasp centre with an in-plane angle (generation 1.1).

    ``angle_deg`` is from image +x, clockwise as seen in the image (y points down), as written;
    angles that differ by 180 are the same grasp.
    """

    kind: ClassVar[str] = "contact_point"

    angle_deg: float = math.nan


@dataclass(frozen=True)
class Count(Grounding):
    """A number of things; no coordinates."""

    kind: ClassVar[str] = "count"

    count: int = 0


@dataclass(frozen=True)
class Box3D(Grounding):
    """A box in the camera's optical frame: centre and full size in metres, pitch, yaw and roll
    in degrees, R = Rz(roll)·Ry(yaw)·Rx(pitch). A prior, never a goal."""

    kind: ClassVar[str] = "box_3d"

    center_m: Vector3 = (math.nan, math.nan, math.nan)
    size_m: Vector3 = (math.nan, math.nan, math.nan)
    pitch_yaw_roll_deg: Vector3 = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class NoGrounding(Grounding):
    """The task needed a grounding and the answer holds none.

    ``abstained`` tells "it is not there" (`<no object>`) from "no usable answer".
    """

    kind: ClassVar[str] = "no_grounding"

    abstained: bool = False
    reason: str = ""


AnyGrounding = (
    Box
    | Area
    | Affordance
    | Trajectory
    | GraspRectangle
    | ContactPoint
    | Count
    | Box3D
    | NoGrounding
)


@dataclass(frozen=True)
class Rejected:
    """A part of an answer that looks like a grounding and may not be used as one.

    ``reason`` is a short name (``frame_out_of_range``, ``truncated``, …), ``detail`` a sentence.
    """

    reason: str
    detail: str
    span: tuple[int, int]
    text: str


@dataclass(frozen=True)
class Reading:
    """What an answer means.

    ``groundings`` are the answer's own, ``reasoning`` those written while thinking (evidence,
    never goals). ``answer_text`` is what remains after the reasoning is cut, and begins at
    ``text[answer_start]``; spans always refer to the whole text. ``actions`` are navigation
    symbols: FORWARD, LEFT, RIGHT, STOP.
    """

    text: str
    answer_text: str
    reasoning_text: str = ""
    groundings: tuple[AnyGrounding, ...] = ()
    reasoning: tuple[AnyGrounding, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    actions: tuple[str, ...] = ()
    done: bool = False
    """The answer is the planner's claim that the task is finished (`Done.`)."""
    answer_start: int = 0


# --- space again: what a grounding means in metres ------------------------------------------------


@dataclass(frozen=True)
class LiftedPoint:
    """A pixel with its place in space.

    ``point_camera_m`` is in the colour camera's optical frame, ``covariance_camera_m2`` its 3×3
    covariance (row-major, same frame). ``point_fixed_m`` and ``covariance_fixed_m2`` are in the
    fixed frame, ``None`` where the camera's pose at the stamp is unknown. ``n_valid`` depth
    pixels stand behind it. ``interpolated`` marks a trajectory's mid-air point, whose depth is
    drawn between its anchors and not measured.
    """

    pixel: Point2
    point_camera_m: Vector3
    covariance_camera_m2: Matrix3
    point_fixed_m: Vector3 | None = None
    covariance_fixed_m2: Matrix3 | None = None
    n_valid: int = 0
    interpolated: bool = False

    @property
    def sigma_m(self) -> float:
        """Largest standard deviation in any direction, metres; NaN where it is unknown."""
        covariance = np.array(self.covariance_camera_m2).reshape(3, 3)
        largest = float(np.linalg.eigvalsh(covariance)[-1])
        return math.nan if math.isnan(largest) else math.sqrt(max(0.0, largest))


@dataclass(frozen=True)
class LiftedGrounding:
    """A grounding bound to the frame it names, in pixels and in metres.

    ``target`` is the one point that stands for it: the affordance itself, the middle of a box's
    surface segment, the best supported point of an area, a trajectory's start. ``points`` are
    all that could be lifted, in their order (for a box: its target alone). ``refusal``
    says why there is no target. ``confidence`` is the mean probability of the coordinate tokens,
    NaN where the engine gives none.
    """

    grounding: AnyGrounding
    frame: SelectedFrame | None
    points_px: tuple[Point2, ...] = ()
    points: tuple[LiftedPoint, ...] = ()
    target: LiftedPoint | None = None
    fixed_frame_id: str = ""
    pose_refusal: Refusal | None = None
    refusal: Refusal | None = None
    confidence: float = math.nan

    @property
    def aligned_points(self) -> tuple[LiftedPoint | None, ...]:
        """For an area or a trajectory one for each of ``points_px``, ``None`` where it could not
        be lifted; otherwise ``points``."""
        if not isinstance(self.grounding, Area | Trajectory) or not self.points:
            return self.points
        by_pixel = {point.pixel: point for point in self.points}
        return tuple(by_pixel.get(pixel) for pixel in self.points_px)


@dataclass(frozen=True)
class Response:
    """One question from end to end: everything that a report, a message or a gate may want."""

    query: Query
    answer: Answer
    reading: Reading
    lifted: tuple[LiftedGrounding, ...] = ()
    reasoning: tuple[LiftedGrounding, ...] = ()


# --- steps: what the brain proposes ---------------------------------------------------------------


class Skill(str, Enum):
    """The closed set of things that a step may ask for. Nothing read anywhere can add to it."""

    PICK = "pick"
    PLACE = "place"
    PUSH = "push"
    OPEN = "open"
    CLOSE = "close"
    POUR = "pour"
    HAND_OVER = "hand_over"
    MOVE_TO = "move_to"
    LOOK_AT = "look_at"
    DONE = "done"


@dataclass(frozen=True)
class Step:
    """One sentence of a plan, typed: a skill and what it points at.

    ``text`` is the sentence, verbatim. ``grasp`` is where a hand would act (an affordance, a
    grasp rectangle or a contact point), ``thing`` the box of what is acted on, ``area`` the
    destination, ``path`` the drawn motion; each ``None`` where the sentence holds none.
    ``preposition`` is the word before the area (into, onto, on, …), empty where there is none.
    """

    skill: Skill
    text: str
    grasp: LiftedGrounding | None = None
    thing: LiftedGrounding | None = None
    area: LiftedGrounding | None = None
    path: LiftedGrounding | None = None
    preposition: str = ""

    @property
    def groundings(self) -> tuple[LiftedGrounding, ...]:
        """Everything that it points at, in the order grasp, thing, area, path."""
        return tuple(g for g in (self.grasp, self.thing, self.area, self.path) if g is not None)


# --- goals: what an actuator is asked to do -------------------------------------------------------


@dataclass(frozen=True)
class ReachGoal:
    """Bring the tool to ``T_base_tcp``: parent is the robot's base, child the tool centre point,
    whose z axis points out of the hand and whose y axis is the direction the fingers close in.

    ``straight``: the tool centre point moves on a straight line; otherwise the joints take the
    shortest way. ``speed`` scales the actuator's own limits, 0 < speed ≤ 1.
    """

    T_base_tcp: RigidTransform
    straight: bool = False
    speed: float = 1.0


@dataclass(frozen=True)
class FollowGoal:
    """Bring the tool through poses ``T_base_tcp``, in order, in straight lines."""

    path: tuple[RigidTransform, ...]
    speed: float = 1.0


@dataclass(frozen=True)
class PostureGoal:
    """Bring the arm into a posture known by name, such as MoveIt's ``ready``."""

    name: str = "ready"
    speed: float = 1.0


@dataclass(frozen=True)
class GripGoal:
    """Bring the fingers to ``width_m`` apart, pressing with at most ``force_n``.

    Stopping wider because something is between the fingers is success; the reached width is in
    the result's ``values["width_m"]``.
    """

    width_m: float
    force_n: float = 20.0


@dataclass(frozen=True)
class DriveGoal:
    """Drive straight ahead by ``distance_m`` (negative: backwards)."""

    distance_m: float
    speed: float = 1.0


@dataclass(frozen=True)
class SpinGoal:
    """Turn on the spot by ``angle_rad``, counter-clockwise positive (REP 103)."""

    angle_rad: float
    speed: float = 1.0


@dataclass(frozen=True)
class NavigateGoal:
    """Drive to a pose on the floor, around what is in the way; parent is the map's frame."""

    T_map_base: RigidTransform
    speed: float = 1.0


Goal = ReachGoal | FollowGoal | PostureGoal | GripGoal | DriveGoal | SpinGoal | NavigateGoal


class GoalEventKind(str, Enum):
    """What an actuator reports of a goal, in this order; FEEDBACK any number of times."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FEEDBACK = "feedback"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"
    CANCELLED = "cancelled"
    LOST = "lost"
    """The server that had the goal is gone."""
    PREEMPTED = "preempted"
    """Somebody else's goal has taken its place."""

    @property
    def is_final(self) -> bool:
        return self not in (GoalEventKind.ACCEPTED, GoalEventKind.FEEDBACK)


@dataclass(frozen=True)
class GoalEvent:
    """One report about one goal. ``fraction`` is how much of it is done, 0…1. ``values`` are
    numbers by name, such as ``width_m`` of a grip or ``fraction`` of a planned path."""

    goal_id: str
    kind: GoalEventKind
    stamp_ns: int
    fraction: float = 0.0
    text: str = ""
    values: tuple[tuple[str, float], ...] = ()

    def value(self, name: str) -> float:
        """NaN where it was not told."""
        return dict(self.values).get(name, math.nan)


class Actuator(Protocol):
    """A robot that can be asked to move: the simulator, or MoveIt, Nav2 and a gripper.

    ``send`` returns at once; what becomes of the goal is told by ``poll``, in order, each event
    once. ``cancel`` of an unknown or finished goal does nothing. ``stop`` is the safe action:
    whatever moves stops now and holds. None of them raises because a robot misbehaves: that is
    an event.
    """

    @property
    def name(self) -> str: ...

    @property
    def goals(self) -> frozenset[type[Goal]]:
        """The kinds of goal that it can do."""
        ...

    def send(self, goal_id: str, goal: Goal) -> None: ...

    def cancel(self, goal_id: str) -> None: ...

    def poll(self) -> tuple[GoalEvent, ...]: ...

    def stop(self) -> None: ...


class Clock(Protocol):
    """Time, and letting it pass: a robot's clock sleeps, a simulator's steps its physics, a
    replay's plays the recording on."""

    def now_ns(self) -> int: ...

    def wait(self, seconds: float) -> None: ...


# --- motions: a step made concrete ----------------------------------------------------------------


class Stage(str, Enum):
    """What a goal is for within a motion."""

    OPEN_HAND = "open_hand"
    PRE = "pre"
    """To the place from where the approach begins."""
    APPROACH = "approach"
    """The last, straight piece, into contact or close to it."""
    GRIP = "grip"
    ACT = "act"
    """The motion proper: a push, a pull, a pour, a drawn path."""
    RELEASE = "release"
    LIFT = "lift"
    """Straight away from where it acted."""
    RETREAT = "retreat"
    """Out of the camera's view."""
    DRIVE = "drive"


@dataclass(frozen=True)
class MotionStage:
    stage: Stage
    goal: Goal


@dataclass(frozen=True)
class Motion:
    """What a step means in goals, in order, and the numbers that the gate looks at.

    ``target_m`` is the place acted on, in the base frame ``base_frame``; ``grip_width_m`` the
    thing's width between the fingers, NaN where nothing is gripped; ``support_z_m`` the height of
    the surface that it stands on or is put on, NaN where unknown; ``grip_sigma_m`` the standard
    deviation of the middle of what is gripped, None where nothing is.
    """

    skill: Skill
    base_frame: str
    target_m: Vector3
    stages: tuple[MotionStage, ...]
    grip_width_m: float = math.nan
    support_z_m: float = math.nan
    grip_sigma_m: float | None = None


# --- decisions and outcomes -----------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that the gate looked at: its name, what was found, what is allowed."""

    name: str
    passed: bool
    found: str
    allowed: str = ""


@dataclass(frozen=True)
class Decision:
    """What the gate said to one proposed motion: approved unless there is a refusal."""

    stamp_ns: int
    checks: tuple[Check, ...]
    refusal: Refusal | None = None

    @property
    def approved(self) -> bool:
        return self.refusal is None


class Status(str, Enum):
    """What a motion, or a whole task, did."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class Cause(str, Enum):
    """Why a motion ended."""

    DONE = "done"
    REJECTED = "rejected"
    """The actuator did not take the goal."""
    ABORTED = "aborted"
    TIMEOUT = "timeout"
    LOST_SERVER = "lost_server"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    """A person stopped it."""
    STALE = "stale"
    """The watchdog stopped it: images, transforms or the engine went silent."""
    DISARMED = "disarmed"
    SCENE_CHANGED = "scene_changed"
    """What it went for is no longer where it was seen."""
    NOTHING_GRIPPED = "nothing_gripped"
    """The fingers closed on nothing."""
    DROPPED = "dropped"
    """What was held is no longer between the fingers."""

    @property
    def status(self) -> Status:
        if self is Cause.DONE:
            return Status.SUCCEEDED
        if self in (Cause.CANCELLED, Cause.PREEMPTED, Cause.DISARMED):
            return Status.CANCELLED
        return Status.FAILED


@dataclass(frozen=True)
class Outcome:
    """How one motion ended, ``stages_done`` of its stages into it. Whether the *task* is done is
    another question, answered by looking again."""

    cause: Cause
    text: str
    start_ns: int
    end_ns: int
    stages_done: int = 0
    gripper_width_m: float = math.nan

    @property
    def status(self) -> Status:
        return self.cause.status
