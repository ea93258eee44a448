"""Several of our nodes in one process:

    ros2 run rynn_brain_ros together brain view --ros-args -p autostart:=true --params-file FILE

Remappings and the namespace are given to all of them, and so are parameters; what only one of them
has goes under its name, in a parameter file (``/**/brain:``) as in ``-p brain:frames:=4``.
"""

from __future__ import annotations

import importlib
import sys

from rclpy.executors import MultiThreadedExecutor
from rclpy.utilities import remove_ros_args

from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.spinning import spin_together

NODES = {
    "brain": "BrainNode",
    "act": "ActNode",
    "policy": "PolicyNode",
    "view": "ViewNode",
    "record": "RecordNode",
    "sim": "SimNode",
}
_MOVING = ("act", "policy")
"""They end first: an engine of another node may take seconds to let go, and a robot moves on."""
_THREADS_EACH = 6


def main(arguments: list[str] | None = None) -> int:
    told = sys.argv if arguments is None else ["together", *arguments]
    names = remove_ros_args(told)[1:]
    unknown = [name for name in names if name not in NODES]
    if unknown or not names or len(set(names)) < len(names):
        wrong = f"there is no {unknown[0]!r}" if unknown else "name each node once"
        sys.stderr.write(f"{wrong}: ros2 run rynn_brain_ros together {' '.join(NODES)}\n")
        return 2
    return spin_together(
        [_class_of(name) for name in sorted(names, key=lambda name: name not in _MOVING)],
        lambda: MultiThreadedExecutor(num_threads=_THREADS_EACH * len(names)),
        # The context outlives the signal: what is in flight is cancelled through it.
        lambda node: node.release(),
        told[1:],
    )


def _class_of(name: str) -> type[ManagedNode]:
    """Imported only here: a robot may lack what another node needs."""
    module = importlib.import_module(f"rynn_brain_ros.ros.{name}_node")
    found: type[ManagedNode] = getattr(module, NODES[name])
    return found
