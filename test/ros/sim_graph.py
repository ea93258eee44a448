"""The sim node with a plain client beside it, on an executor of their own."""

from __future__ import annotations

import threading
from typing import Any

from asking import Asking
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.geometry import TransformBuffer
from rynn_brain_ros.ros.sim_node import SimNode
from rynn_brain_ros.ros.spinning import keep_spinning
from rynn_brain_ros.values import Refusal, RigidTransform

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SimGraph(Asking):
    """``frames`` holds all of /tf; ``client`` is a node to make subscriptions and clients with."""

    patience_s = 60.0

    def __init__(self, *others: Node, **parameters: Any) -> None:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.sim = SimNode(parameter_overrides=overrides)
        self.client = Node("client")
        self.frames = TransformBuffer()
        self.client.create_subscription(TFMessage, "/tf", self._on_tf, 100)
        self.client.create_subscription(TFMessage, "/tf_static", self._on_static, LATCHED)
        self.executor = MultiThreadedExecutor(num_threads=4)
        self.nodes = (self.sim, self.client, *others)
        for node in self.nodes:
            self.executor.add_node(node)
        self.spinner = threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True)
        self.spinner.start()
        self.change = self.client.create_client(ChangeState, "/sim/change_state")
        self.actions: dict[str, ActionClient] = {}

    def _on_tf(self, message: TFMessage) -> None:
        self.frames.add(messages.transforms_of(message))

    def _on_static(self, message: TFMessage) -> None:
        self.frames.add(messages.transforms_of(message), static=True)

    def listen(self, type_: Any, topic: str, qos: Any = 10) -> list[Any]:
        got: list[Any] = []
        self.client.create_subscription(type_, topic, got.append, qos)
        return got

    def bring_up(self) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)

    def send(self, type_: Any, name: str, goal: Any, feedback: Any = None) -> Any:
        """The goal's handle, accepted or not."""
        if name not in self.actions:
            self.actions[name] = ActionClient(self.client, type_, name)
        client = self.actions[name]
        self.wait_until(client.server_is_ready, name)
        listener = None if feedback is None else lambda message: feedback(message.feedback)
        return self.result_of(client.send_goal_async(goal, listener), name)

    def do(self, type_: Any, name: str, goal: Any) -> tuple[int, Any]:
        """The goal's status and result once it has ended."""
        handle = self.send(type_, name, goal)
        assert handle.accepted
        return self.end_of(handle)

    def end_of(self, handle: Any) -> tuple[int, Any]:
        answer = self.result_of(handle.get_result_async(), "the result")
        return answer.status, answer.result

    def frame_at(self, target: str, source: str, stamp_ns: int) -> RigidTransform:
        """``T_target_source`` once it is known."""
        found: list[RigidTransform | Refusal] = []

        def look() -> bool:
            found[:] = [self.frames.lookup(target, source, stamp_ns)]
            return isinstance(found[0], RigidTransform)

        self.wait_until(look, f"{target} ← {source}")
        assert isinstance(found[0], RigidTransform)
        return found[0]

    def latest(self, target: str, source: str) -> RigidTransform:
        """``T_target_source`` as it is from now on."""
        return self.frame_at(target, source, self.now_ns() + 40_000_000)

    def now_ns(self) -> int:
        assert self.sim.robot is not None
        return self.sim.robot.world.now_ns

    def close(self) -> None:
        self.executor.shutdown()
        self.spinner.join()
        self.sim.release()
        for client in self.actions.values():
            client.destroy()
        for node in self.nodes:
            node.destroy_node()
