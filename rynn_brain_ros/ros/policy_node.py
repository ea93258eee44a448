"""The ``policy`` lifecycle node: an action policy moves a robot, while a person lets it.

    ros2 run rynn_brain_ros policy --ros-args -p contract:=panda -p url:=ws://127.0.0.1:8100

The policy itself is served in a process of its own (`vla.serving`). This node shows it what the
contract observes and sends what it answers, within limits. It moves nothing unless ``dry_run`` is
false and a person has armed it (``~/arm``), which expires; until then commands are previewed.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool

from rynn_brain_ros import messages
from rynn_brain_ros.data.contract import Channel, Contract
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.msg import BrainStatus
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.ros.clients import Clients
from rynn_brain_ros.ros.conversion import message_class, to_ros
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.parameters import declare, read, refuse_unknown
from rynn_brain_ros.ros.policy_robot import PolicyRobot
from rynn_brain_ros.ros.qos import mismatches, of_channel
from rynn_brain_ros.ros.spinning import spin
from rynn_brain_ros.values import ConfigError, InputError, RynnBrainError
from rynn_brain_ros.view.health import Level, Part, diagnostic_array, topics_part
from rynn_brain_ros.vla.chunks import Joining
from rynn_brain_ros.vla.limits import HoldCause
from rynn_brain_ros.vla.piloting import Pilot
from rynn_brain_ros.vla.runner import RunnerConfig
from rynn_brain_ros.vla.sending import servers_of, watched_of
from rynn_brain_ros.vla.settings import PolicyConfig

_STATUS_PERIOD_S = 1.0
_THREADS = 2
"""One for the node's own callbacks, and one for what its goals' servers say."""


class PolicyNode(ManagedNode):
    """See the module's docstring. Parameters are the fields of `PolicyConfig`, `RunnerConfig` and
    `Joining`.

    All callbacks but those of goals are in one callback group, one after the other; `release` may
    come from any thread.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("policy", **kwargs)
        for settings in (PolicyConfig, RunnerConfig, Joining):
            declare(self, settings)
        self._config, self._runner = PolicyConfig(), RunnerConfig()
        self._contract: Contract | None = None
        self._client: Any = None
        self._asking: ThreadPoolExecutor | None = None
        self._robot: PolicyRobot | None = None
        self._robot_clients = Clients(self)
        self.pilot: Pilot | None = None
        self._arming = Arming()
        self._topics: dict[str, str] = {}
        self._next_task: str | None = None
        """What was said while it was not active: what is to be done once it is."""
        self._heard: list[Any] = []
        self._loop: Any = None
        self._told: tuple[HoldCause | None, str] = (None, "")
        self._lock = threading.RLock()
        self._status = self.create_lifecycle_publisher(BrainStatus, "~/status", 10)
        self._diagnostics = self.create_lifecycle_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_STATUS_PERIOD_S, self._publish_status, clock=steady)
        self.create_service(SetBool, "~/arm", self._on_arm)
        self.create_subscription(String, "~/task", self._on_task, 10)

    # --- life ------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            refuse_unknown(self)
            self._config, self._runner = read(self, PolicyConfig), read(self, RunnerConfig)
            self._prepare(self._config, find_contract(self._config.contract))
        except RynnBrainError as error:
            self.get_logger().error(f"cannot configure: {error}")
            self.release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _prepare(self, config: PolicyConfig, contract: Contract) -> None:
        self._contract, self._arming = contract, Arming(config.armed_s)
        self._client = _connected(config, self._runner)
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._robot = PolicyRobot(self._robot_clients, servers_of(config), watched_of(config))
        self.pilot = Pilot(
            self._client,
            contract,
            config,
            self._robot,
            self._arming,
            thread=self._asking,
            now_ns=self._now_ns,
            runner=self._runner,
            joining=read(self, Joining),
        )
        self._topics = _topics(self.pilot, config, contract)
        for topic, heard in self._topics.items():
            message_class(topic, self.pilot.topics[heard])

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        pilot, client = self.pilot, self._client
        assert pilot is not None and client is not None
        pilot.begin(self._next_task)
        self._next_task = None
        self._told = (None, "")
        for topic, heard in self._topics.items():
            class_ = message_class(topic, pilot.topics[heard])
            hear = partial(self._on_message, heard)
            self._heard.append(self.create_subscription(class_, topic, hear, self._qos(heard)))
        period_s = 1 / (client.spec.rate_hz * self._runner.samples_per_step)
        self._loop = self.create_timer(period_s, self._on_tick, clock=self._loop_clock())
        means = "previews only" if self._config.dry_run else "moves once it is armed (~/arm)"
        self.get_logger().info(f"{self._config.contract}, asking {self._config.url}: {means}")
        return result

    def _loop_clock(self) -> Any:
        """What the loop waits for. The system's clock may be set back, and a timer of it is silent
        until it has caught up; `Pilot` sees the jump only where it is asked. A simulation's clock
        stands still and hurries as the robot does, and its timers follow its jumps."""
        clock = self.get_clock()
        return clock if clock.ros_time_is_active else Clock(clock_type=ClockType.STEADY_TIME)

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""
        self._rest("the node was shut down")
        with self._lock:
            asking, client, robot = self._asking, self._client, self._robot
            self._asking = self._client = self._robot = self.pilot = None
        if asking is not None:
            asking.shutdown(wait=False, cancel_futures=True)
        if client is not None:
            client.close()
        if robot is not None:
            robot.close()

    def _rest(self, why: str) -> None:
        """Ends what `on_activate` began; returns when the robot's goals have ended."""
        with self._lock:
            if self._loop is not None:
                self.destroy_timer(self._loop)
                self._loop = None
            for heard in self._heard:
                self.destroy_subscription(heard)
            self._heard.clear()
            if self.pilot is not None:
                self.pilot.disarm(why)
        if self._robot is not None and not self._robot.settle():
            self.get_logger().error("the robot's servers did not end what was cancelled")

    # --- heard -----------------------------------------------------------------------------------

    def _on_message(self, topic: str, message: Any) -> None:
        with self._lock:
            if self.pilot is not None:
                self.pilot.receive(topic, message, self._now_ns())

    def _on_task(self, message: String) -> None:
        task = message.data.strip()
        with self._lock:
            if self.pilot is not None and self._loop is not None:
                self.pilot.task, when = task, "is now"
            else:
                self._next_task, when = task, "will be, once this node is active,"
        self.get_logger().info(f"the task {when} {task!r}")

    def _on_tick(self) -> None:
        with self._lock:
            pilot = self.pilot
            if pilot is None or self._loop is None:
                return
            pilot.tick()
            hold, stopped_why = pilot.hold, pilot.stopped_why
        before, self._told = self._told, (None if hold is None else hold.cause, stopped_why)
        if self._told == before:
            return
        if stopped_why and stopped_why != before[1]:
            self.get_logger().error(f"stopped: {stopped_why}")
        if hold is not None and hold.cause not in (HoldCause.WAITING, before[0]):
            self.get_logger().warning(str(hold))
        self._publish_status()

    def _on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            pilot = self.pilot
            if pilot is None or self._loop is None:
                response.message = "policy is not active: activate it first (ros2 lifecycle set)"
            elif not request.data:
                pilot.disarm("a person disarmed it")
                response.success, response.message = True, "disarmed"
            elif self._now_ns() == 0:  # what is armed now would have expired soon
                response.message = "there is no time yet: use_sim_time is on and /clock is silent"
            else:
                response.message = pilot.arm()
                response.success = not response.message
        if response.success and request.data:
            dry = "; dry_run is on: nothing moves" if self._config.dry_run else ""
            response.message = f"armed for {self._config.armed_s:g} s{dry}"
            self.get_logger().warning(response.message)
        return response

    # --- what others see -------------------------------------------------------------------------

    def _publish_status(self) -> None:
        with self._lock:
            pilot, robot = self.pilot, self._robot
            if pilot is None or robot is None or self._loop is None:
                return
            unheard = mismatches(self, self._heard)
            problems = [f"stopped: {pilot.stopped_why}"] if pilot.stopped_why else []
            if pilot.hold is not None and pilot.hold.cause is not HoldCause.WAITING:
                problems.append(str(pilot.hold))
            problems += [pilot.unaimed] if pilot.unaimed else []
            problems += [f"no server at {name}: previews only" for name in robot.absent()]
            problems += robot.problems
            hold, now_ns = pilot.hold, self._now_ns()
            armed_s = self._arming.remaining_s(now_ns)
        idle = BrainStatus.STATE_DEGRADED if problems or unheard else BrainStatus.STATE_READY
        status = {
            "stamp": messages.stamp(now_ns),
            "state": BrainStatus.STATE_BUSY if hold is None else idle,
            "engine": self._config.url,
            "model": self._config.contract,
            "armed": armed_s > 0,
            "armed_for": armed_s,
            "dry_run": self._config.dry_run,
            "oldest_frame_age": math.nan,
            "newest_frame_age": math.nan,
            "last_answer_latency": math.nan,
            "problems": [*problems, *unheard],
        }
        self._status.publish(to_ros(BrainStatus, status))
        values = (
            ("holds because", "it does not" if hold is None else hold.cause.value),
            ("armed for [s]", f"{armed_s:.0f}"),
            ("task", pilot.task),
        )
        parts = (Part("policy", values, tuple(problems), Level.WARN), topics_part(unheard))
        told = diagnostic_array(parts, self.get_fully_qualified_name(), now_ns)
        self._diagnostics.publish(to_ros(DiagnosticArray, told))

    def _qos(self, topic: str) -> QoSProfile:
        """As the contract says; else what hears every publisher, and words reliably."""
        assert self._contract is not None
        seen = {source.channel.topic: source.channel for source in self._contract.sources}
        if topic in seen:
            return of_channel(seen[topic], "best_effort")
        task = self._contract.task
        said = task if task is not None and task.topic == topic else Channel(topic)
        return of_channel(said, "reliable")

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def _connected(config: PolicyConfig, runner: RunnerConfig) -> Any:
    """A `vla.client.PolicyClient`."""
    try:
        from rynn_brain_ros.vla.client import PolicyClient  # noqa: PLC0415  (optional packages)
    except ModuleNotFoundError as error:
        raise InputError(
            f"the policy node needs {error.name}, not installed in ROS's Python: "
            "pip install 'websockets>=15' msgpack 'ruckig>=0.12'"
        ) from error
    return PolicyClient(
        config.url, token=config.token(), timeout_s=max(2.0, runner.answer_budget_s)
    )


def _topics(pilot: Pilot, config: PolicyConfig, contract: Contract) -> dict[str, str]:
    """What is subscribed to, and which of the contract's topics it stands for."""
    said = contract.conditioning
    instead = {"plan": (config.plan_topic, said.plan)}
    instead["groundings"] = (config.groundings_topic, said.groundings)
    found = {topic: topic for topic in pilot.topics}
    for name, (mine, theirs) in instead.items():
        if mine and not theirs:
            raise ConfigError(
                f"{name}_topic is {mine}, and the contract has no conditioning.{name}: the policy "
                "was not trained with it"
            )
        if mine:
            del found[theirs]
            found[mine] = theirs
    return found


def main(arguments: list[str] | None = None) -> int:
    return spin(
        PolicyNode,
        lambda: MultiThreadedExecutor(num_threads=_THREADS),
        # The context outlives the signal: what is in flight is cancelled through it.
        PolicyNode.release,
        arguments,
    )
