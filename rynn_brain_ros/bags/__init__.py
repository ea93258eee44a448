"""Recordings: reading what others recorded, writing what we do. No ROS needed.

`BagReader` opens every rosbag2 recording (mcap, sqlite3, split, compressed, cut, mislabelled) or
says in one sentence why not, and never loses a message silently. `BagWriter` writes one mcap file
that survives the death of its process. `find_cameras` tells which topics form a camera. `message`
fills a message type from a nested dict.
"""

from rynn_brain_ros.bags.cameras import (
    CameraTopics,
    cameras_of,
    claims_registered,
    find_cameras,
)
from rynn_brain_ros.bags.reader import BagInfo, BagMessage, BagReader, Connection, TopicInfo
from rynn_brain_ros.bags.storage import OUT_OF_ORDER
from rynn_brain_ros.bags.types import interface_definitions, message, normalise_type, typestore
from rynn_brain_ros.bags.writer import ENDING, PROVENANCE, BagWriter

__all__ = [
    "ENDING",
    "OUT_OF_ORDER",
    "PROVENANCE",
    "BagInfo",
    "BagMessage",
    "BagReader",
    "BagWriter",
    "CameraTopics",
    "Connection",
    "TopicInfo",
    "cameras_of",
    "claims_registered",
    "find_cameras",
    "interface_definitions",
    "message",
    "normalise_type",
    "typestore",
]
