"""Plays a bag into the brain, in the bag's own time, and shows what it points at.

ros2 launch rynn_brain_ros replay.launch.py bag:=DIRECTORY rviz:=true \
    color_topic:=/camera/color/image_raw depth_topic:=/camera/aligned_depth_to_color/image_raw
ros2 run rynn_brain_ros ask "Where is the red cube?" --task object

The bag begins when the brain is there, and once it has ended the brain still answers about the
last that it saw. What a brain said when the bag was recorded is not played. All else is as with
brain.launch.py, which is included.
"""

import os
import re
from pathlib import Path

from launch.actions import (
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.ros.launching import declared, is_true, rehearsed
from rynn_brain_ros.values import ConfigError

ARGUMENTS = {
    "bag": (None, "the bag: a directory, or a .mcap file"),
    "rate": ("1.0", "how much faster than it was recorded"),
    "loop": ("false", "begin again at the end: the brain forgets, since the clock jumps back"),
    "use_sim_time": ("true", "the bag's time"),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    bag = Path(LaunchConfiguration("bag").perform(context))
    if not bag.exists():
        raise ConfigError(f"there is no recording at {bag}: check bag:=")
    command = ["ros2", "bag", "play", str(bag), "--clock", "100"]
    command += ["--rate", LaunchConfiguration("rate")]
    command += ["--loop"] if is_true(context, "loop") else []
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    prefix = f"/{namespace}" if namespace else ""
    command += selection(bag, prefix)
    play = ExecuteProcess(cmd=command, output="screen")
    # An active brain says so every second; a question whether it is may get lost on a busy machine.
    heard = ["--once", f"{prefix}/brain/status", "rynn_brain_ros/msg/BrainStatus"]
    return [ExecuteProcess(cmd=["ros2", "topic", "echo", *heard], output="log", on_exit=[play])]


def selection(bag: Path, prefix: str) -> list[str]:
    """What a brain said when the bag was recorded would be taken for this one's answers; questions
    are asked again."""
    # rosbag2 wants it simple: for sqlite3 it must be a POSIX expression.
    said = f"{prefix}/(brain|act|view)/[^q].*"
    if os.environ.get("ROS_DISTRO") != "humble":
        return ["-x", said]
    # Humble's rosbag2 can leave nothing out, and plays a recorded /clock beside its own.
    with BagReader(bag) as reader:
        topics = sorted({each.topic for each in reader.info().topics} - {"/clock"})
    return ["--topics", *(topic for topic in topics if not re.fullmatch(said, topic))]


def generate_launch_description() -> LaunchDescription:
    brain = PathJoinSubstitution([FindPackageShare("rynn_brain_ros"), "launch", "brain.launch.py"])
    arguments = {"use_sim_time": LaunchConfiguration("use_sim_time")}.items()
    included = IncludeLaunchDescription(brain, launch_arguments=arguments)
    parts = (*declared(ARGUMENTS, {}), included, OpaqueFunction(function=start))
    return LaunchDescription(rehearsed(*parts))
