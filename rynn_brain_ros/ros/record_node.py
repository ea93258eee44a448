"""The ``record`` lifecycle node: demonstrations as they happen, an mcap file for each episode.

    ros2 run rynn_brain_ros record --ros-args -p contract:=panda -p out:=recordings

It subscribes to the contract's topics without decoding them. Episodes are started and ended by the
services ``~/start``, ``~/stop``, ``~/success``, ``~/failure`` and ``~/discard``, by a joystick's
buttons, or from a terminal (``ros2 run rynn_brain_ros record_keys``). ``~/status`` is a line for
the operator, and /diagnostics has a part for each topic.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Joy
from std_msgs.msg import String
from std_srvs.srv import Trigger

from rynn_brain_ros import __version__
from rynn_brain_ros.data.contract import Channel
from rynn_brain_ros.data.joystick import Buttons
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.marks import MarkEvent
from rynn_brain_ros.data.record_config import RecordConfig
from rynn_brain_ros.data.recording_report import line, parts
from rynn_brain_ros.data.recording_session import RecordingSession
from rynn_brain_ros.ros.conversion import message_class, to_ros
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.parameters import declare, read, refuse_unknown
from rynn_brain_ros.ros.qos import mismatches, of_channel
from rynn_brain_ros.ros.spinning import spin
from rynn_brain_ros.srv import StartEpisode
from rynn_brain_ros.values import InputError, OutputError, RynnBrainError
from rynn_brain_ros.view.health import diagnostic_array, topics_part

_PERIOD_S = 1.0
_DEPTH = 200
"""Messages that wait while a file is closed. A recorder must not be what loses them."""


class RecordNode(ManagedNode):
    """See the module's docstring. Parameters are the fields of `RecordConfig`.

    Subscriptions belong to the executor's thread; `finish` may be called from any.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("record", **kwargs)
        declare(self, RecordConfig)
        self._config = RecordConfig()
        self._buttons = Buttons(self._config)
        self._types: dict[str, Any] = {}
        self._heard: list[Any] = []
        self._active = False
        self._lock = threading.Lock()  # a mark falls between two messages, and never into one
        self.session: RecordingSession | None = None
        self._status = self.create_lifecycle_publisher(String, "~/status", 10)
        self._diagnostics = self.create_lifecycle_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = self.create_timer(_PERIOD_S, self._tend)
        self.create_service(StartEpisode, "~/start", self._on_start)
        for event in MarkEvent:
            if event is not MarkEvent.START:
                self.create_service(Trigger, f"~/{event.value}", partial(self._on_end, event))

    # --- life ------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            refuse_unknown(self)
            self._config = config = read(self, RecordConfig)
            self._buttons = Buttons(config)
            provenance = {"rynn_brain_ros": __version__, "operator": config.operator}
            session = RecordingSession(find_contract(config.contract), config, provenance)
            self._types = {t: message_class(t, c.type) for t, c in session.channels.items()}
        except RynnBrainError as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self.session = session
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        assert self.session is not None
        for topic, channel in self.session.channels.items():
            hear = partial(self._on_message, topic)
            qos = self._qos(channel)
            self._heard.append(
                self.create_subscription(self._types[topic], topic, hear, qos, raw=True)
            )
        joystick = self._config.joy_topic
        if joystick:
            self._heard.append(self.create_subscription(Joy, joystick, self._on_joy, 10))
        self._active = True
        self.get_logger().info(
            f"{self._config.contract}: {len(self._types)} topics, into {self._config.out}"
        )
        return result

    def release(self) -> None:
        self._rest("the node was shut down")
        self.session = None

    def finish(self) -> None:
        """Ends what is being recorded, whole; from now on nothing is kept. May be called twice."""
        with self._lock:
            self._active = False
            if self.session is None:
                return
            try:
                self._say(self.session.close(self._now_ns()))
            except OutputError as error:
                self.get_logger().error(str(error))

    def _rest(self, why: str) -> None:
        self.finish()
        for heard in self._heard:
            self.destroy_subscription(heard)
        self._heard.clear()

    def _qos(self, channel: Channel) -> QoSProfile:
        """As the contract says; else what hears the publishers that are there, and reliably where
        all of them are reliable."""
        offers = [info.qos_profile for info in self.get_publishers_info_by_topic(channel.topic)]
        reliable = bool(offers) and all(
            offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers
        )
        return of_channel(channel, "reliable" if reliable else "best_effort", depth=_DEPTH)

    # --- heard -----------------------------------------------------------------------------------

    def _on_message(self, topic: str, raw: bytes) -> None:
        with self._lock:
            if self.session is None or not self._active:
                return
            try:
                self.session.receive(topic, raw, self._now_ns())
            except OutputError as error:
                self.get_logger().error(f"the episode ended: {error}")

    def _on_joy(self, joy: Joy) -> None:
        event = self._buttons.pressed(joy.buttons)
        if event is not None:
            self._mark(event)

    def _on_start(
        self, request: StartEpisode.Request, response: StartEpisode.Response
    ) -> StartEpisode.Response:
        response.success, response.message = self._mark(MarkEvent.START, request.task)
        return response

    def _on_end(
        self, event: MarkEvent, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        response.success, response.message = self._mark(event)
        return response

    def _mark(self, event: MarkEvent, task: str = "") -> tuple[bool, str]:
        """Whether it was done, and what."""
        with self._lock:
            if self.session is None or not self._active:
                return False, "record is not active: activate it first (ros2 lifecycle set)"
            try:
                done = self.session.mark(event, self._now_ns(), task)
            except (InputError, OutputError) as error:
                self.get_logger().warning(str(error))
                return False, str(error)
        self._say(done)
        return True, done

    # --- what others see -------------------------------------------------------------------------

    def _tend(self) -> None:
        with self._lock:
            if self.session is None or not self._active:
                return
            now_ns = self._now_ns()
            try:
                stopped = self.session.tend(now_ns)
            except OutputError as error:
                stopped = str(error)
            look = self.session.look(now_ns)
        if stopped:
            self.get_logger().error(stopped)
        unheard = mismatches(self, self._heard)
        self._status.publish(String(data="; ".join((line(look), *unheard))))
        every = (*parts(look, now_ns), topics_part(unheard))
        told = diagnostic_array(every, self.get_fully_qualified_name(), now_ns)
        self._diagnostics.publish(to_ros(DiagnosticArray, told))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _say(self, text: str) -> None:
        if text:
            self.get_logger().info(text)


def main(arguments: list[str] | None = None) -> int:
    return spin(RecordNode, SingleThreadedExecutor, RecordNode.finish, arguments)
