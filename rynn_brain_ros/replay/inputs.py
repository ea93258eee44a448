"""What a replay reads of a bag: one camera, and the transforms of the robot that carries it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rynn_brain_ros import messages
from rynn_brain_ros.bags import BagInfo, BagReader, CameraTopics
from rynn_brain_ros.memory import AssemblyConfig
from rynn_brain_ros.planning import Perception
from rynn_brain_ros.planning.intake import Input, image_input, info_input, transforms_input
from rynn_brain_ros.replay.run_folder import OWN_TOPICS
from rynn_brain_ros.values import BagError

TF_NAMES = ("tf", "tf_static")

# --- the camera --------------------------------------------------------------------------------


def choose_camera(info: BagInfo, found: Sequence[CameraTopics], wanted: str = "") -> CameraTopics:
    """The camera to replay. ``wanted`` is a camera's name or any of its colour topics, with or
    without the leading slash. Raises `BagError` with what the bag has instead."""
    cameras = [camera for camera in found if camera.can_show]
    if not wanted:  # a run.mcap also holds the pictures that we drew on
        cameras = [c for c in cameras if not color_topic_of(c).startswith(OWN_TOPICS)]
    if not cameras:
        types = ", ".join(sorted({topic.typename for topic in info.topics})) or "nothing"
        raise BagError(
            f"{info.path} has no camera: it holds no sensor_msgs Image or CompressedImage that can "
            f"be read (it holds {types})"
        )
    named = _named(cameras, wanted) if wanted else cameras
    if not named:
        known = _topics(_views(cameras))
        raise BagError(f"{info.path} has no camera {wanted!r}; it has: {known}")
    filled = [camera for camera in named if _has_messages(info, camera)]
    if not filled:
        raise BagError(f"{info.path}: no image was recorded on {_topics(named)}")
    if len(filled) > 1:
        with_depth = [camera for camera in filled if camera.depth_topic]
        if len(with_depth) == 1:
            return with_depth[0]
        known = _topics(filled)
        raise BagError(f"{info.path} has several cameras, choose one with --camera: {known}")
    return filled[0]


def color_topic_of(camera: CameraTopics) -> str:
    if camera.color_topic is None:
        raise BagError(f"camera {camera.name!r} has depth but no colour image to ask about")
    return camera.color_topic


def _named(cameras: Sequence[CameraTopics], wanted: str) -> list[CameraTopics]:
    """A topic names one way to see a camera; a name means the camera as it is seen best."""
    name = wanted.strip("/")
    by_topic = [view for view in _views(cameras) if color_topic_of(view).strip("/") == name]
    return by_topic or [camera for camera in cameras if camera.name == name]


def _views(cameras: Iterable[CameraTopics]) -> list[CameraTopics]:
    return [view for camera in cameras for view in (camera, *camera.variants)]


def _topics(cameras: Iterable[CameraTopics]) -> str:
    return ", ".join(map(color_topic_of, cameras))


def _has_messages(info: BagInfo, camera: CameraTopics) -> bool:
    topic = info.topic(color_topic_of(camera))
    return topic is not None and topic.count > 0


# --- its transforms ----------------------------------------------------------------------------


def transform_topics(info: BagInfo, camera_topic: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The topics of the transform tree that holds the camera, and those of other trees.

    Two robots may use the same frame names, so their trees are never merged: read is the tree of
    the longest namespace that the camera's topic lies in (``/tf`` is that of all), else the only
    one that there is.
    """
    topics = [t.topic for t in info.topics if t.typename == messages.TF_MESSAGE and t.count]
    trees: dict[str, list[str]] = {}
    for topic in topics:
        namespace, _, name = topic.strip("/").rpartition("/")
        if name in TF_NAMES:
            trees.setdefault(namespace, []).append(topic)
    camera = f"{camera_topic.strip('/')}/"
    around = [space for space in trees if not space or camera.startswith(f"{space}/")]
    if around:
        used = trees[max(around, key=len)]
    else:
        used = next(iter(trees.values())) if len(trees) == 1 else []
    return tuple(used), tuple(topic for topic in topics if topic not in used)


def check_fixed_frame(reader: BagReader, topics: Sequence[str], wanted: str) -> None:
    """Reads the transforms on ``topics`` until one names the frame: mostly the first ones do.

    Raises `BagError` with the frames that there are where none does.
    """
    known: set[str] = set()
    for names in _frame_names(reader, topics):
        known |= names
        if wanted.lstrip("/") in known:
            return
    told = ", ".join(sorted(known)) or "no transforms of this camera's robot"
    raise BagError(f"{reader.path} has no frame {wanted!r} for --fixed-frame; it has: {told}")


def _frame_names(reader: BagReader, topics: Sequence[str]) -> Iterator[set[str]]:
    for message in reader.messages(topics) if topics else ():
        try:
            transforms = messages.transforms_of(message.decode())
        except BagError:
            continue  # the replay itself tells how many could not be read
        yield {name for t in transforms for name in (t.parent, t.child)}


# --- reading them ------------------------------------------------------------------------------


def assembly_of(camera: CameraTopics) -> AssemblyConfig:
    """How a camera's streams become frames, as far as its topics tell: the name of a depth topic
    is believed where no camera_info of its own can contradict it."""
    own_info = camera.depth_info_topic not in (None, camera.color_info_topic)
    return AssemblyConfig(
        color_topic_of(camera),
        expects_depth=camera.depth_topic is not None,
        expects_depth_info=own_info,
        depth_registered=True if camera.depth_registered and not own_info else None,
        named_registered=camera.depth_registered,
    )


def bag_inputs(
    camera: CameraTopics, transforms: Iterable[str], perception: Perception
) -> dict[str, Input]:
    """What to do with the messages of each topic that the replay reads; ``transforms`` are the
    topics of the camera's tree."""
    name = color_topic_of(camera)
    inputs: dict[str, Input] = {
        name: image_input(perception.add_color, name, camera.color_compressed)
    }
    if camera.depth_topic is not None:
        inputs[camera.depth_topic] = image_input(
            perception.add_depth, name, camera.depth_compressed
        )
    if camera.color_info_topic is not None:
        inputs[camera.color_info_topic] = info_input(perception.add_color_info, name)
    if camera.depth_info_topic not in (None, camera.color_info_topic):
        inputs[str(camera.depth_info_topic)] = info_input(perception.add_depth_info, name)
    for topic in transforms:
        inputs[topic] = transforms_input(perception, topic.endswith("tf_static"))
    return inputs
