"""The simulated robot's transforms on /tf and /tf_static."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster

from rynn_brain_ros import messages
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.values import RigidTransform


class Frames:
    """For as long as the node lives: the middleware keeps some memory of each publisher that ever
    was."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._moving, self._static = TransformBroadcaster(node), StaticTransformBroadcaster(node)
        self._mounts: tuple[RigidTransform, ...] = ()
        self._by_child: defaultdict[str, TransformStamped] = defaultdict(TransformStamped)

    def mount(self, transforms: tuple[RigidTransform, ...]) -> None:
        """What does not move; whoever comes late hears it too."""
        if self._mounts and transforms != self._mounts:
            # A broadcaster keeps what it was told, and Jazzy's never changes it.
            self._node.destroy_publisher(self._static.pub_tf)
            self._static = StaticTransformBroadcaster(self._node)
        self._mounts = transforms
        self._static.sendTransform(
            [to_ros(TransformStamped, messages.transform_stamped(each)) for each in transforms]
        )

    def move(self, transforms: Iterable[Any]) -> None:
        """Takes those of a deserialised tf2_msgs/TFMessage."""
        self._moving.sendTransform([self._filled(told) for told in transforms])

    def _filled(self, told: Any) -> TransformStamped:
        """The frame's own message, again and again: new ones would cost as much as sending them."""
        made = self._by_child[told.child_frame_id]
        made.header.frame_id, made.child_frame_id = told.header.frame_id, told.child_frame_id
        stamp, now = made.header.stamp, told.header.stamp
        stamp.sec, stamp.nanosec = now.sec, now.nanosec
        place, at = made.transform.translation, told.transform.translation
        place.x, place.y, place.z = at.x, at.y, at.z
        turn, by = made.transform.rotation, told.transform.rotation
        turn.x, turn.y, turn.z, turn.w = by.x, by.y, by.z, by.w
        return made
