"""The thread that moves the robot: it owns what is seen, the arming and the task being done.

Everything that others want of it (a task, arming, a cancel) is left for it to find; nobody waits
for it but who asked for that.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, field, replace

from rclpy.node import Node

from rynn_brain_ros.actuators import Body, RemoteActuator, RobotProfile, body_of
from rynn_brain_ros.actuators.settings import ActConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines
from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.arming import Arming
from rynn_brain_ros.planning.episode import Answered, Episode, EpisodeEvent, TurnEnded
from rynn_brain_ros.planning.executive import Brain, carry_out
from rynn_brain_ros.planning.holding import Hand
from rynn_brain_ros.planning.robots import Robot, assemble
from rynn_brain_ros.planning.waiting import Approvals, PatientEngine
from rynn_brain_ros.ros.clients import Clients
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.ros.qos import unheard
from rynn_brain_ros.ros.telling import Previews, Show, Telling
from rynn_brain_ros.ros.wire import RosWire
from rynn_brain_ros.safety import tightened
from rynn_brain_ros.values import Engine, Motion, Query, RefusalCode, Step, Timings

_TICK_S = 0.02
_IDLE_S = 0.05
_ANSWER_S = 2.0
"""How long who asks for arming waits for the thread."""
_PATIENCE = 5
_PATIENCE_S = 1.0
"""ROS time may stand still: whoever waits looks again after so many times as long by the wall, and
not before this."""
_STAY_S = 2.0
_END_S = 15.0
"""How long the thread may take to end: a cancelled goal, an engine that is told to stop."""


@dataclass
class TaskRun:
    """One task: what is wanted, who hears how it goes, and how it ended."""

    text: str
    dry_run: bool
    max_turns: int
    report: Callable[[MessageDict], None]
    camera: str = ""
    """Its name or colour topic; empty: the default one."""
    cancel: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    episode: Episode | None = None
    error: str = ""
    plan: MessageDict = field(default_factory=dict)


class RosClock:
    """ROS time. Waiting takes in what has arrived, and answers whoever left a word."""

    def __init__(self, node: Node, pump: Callable[[], None], stopping: threading.Event) -> None:
        self._clock, self._pump, self._stopping = node.get_clock(), pump, stopping

    def now_ns(self) -> int:
        return int(self._clock.now().nanoseconds)

    def wait(self, seconds: float) -> None:
        """Returns early where the clock jumps back, or stands still: somebody may have disarmed the
        robot meanwhile, and it may go on without a clock."""
        start_ns = self.now_ns()
        deadline_s = time.monotonic() + max(_PATIENCE_S, _PATIENCE * seconds)
        while time.monotonic() < deadline_s:
            self._pump()
            passed_s = (self.now_ns() - start_ns) / 1e9
            if not 0 <= passed_s < seconds:
                return
            time.sleep(min(0.01, seconds - passed_s))
            if self._stopping.is_set():
                return


class Acting:
    """One robot that acts. `start` and `stop` it as often as the node is activated."""

    def __init__(
        self,
        node: Node,
        config: ActConfig,
        profile: RobotProfile,
        engines: Engines,
        eyes: Eyes,
        *,
        clients: Clients,
        show: Show,
    ) -> None:
        self._node, self._config, self._engines, self._show = node, config, engines, show
        self.robot: Robot = config.robot_of(profile)
        self.eyes = eyes
        self.arming = Arming(config.armed_s)
        self.hand = Hand()
        self.approvals = Approvals()
        self.stopped_why = ""
        self.query_id, self.timings, self.failure = "", Timings(), ""
        self.wire = RosWire(clients)
        self.body: Body = body_of(profile, self.wire)
        self.wire.connect(self.body.servers, self.body.watched)
        if self.body.stop is not None:
            self.wire.announce(self.body.stop)
        self._stopping = threading.Event()
        self.clock = RosClock(node, self._pump, self._stopping)
        self.actuator = RemoteActuator(self.body, self.wire, self.clock.now_ns)
        self._words: deque[tuple[Callable[[], bool], Future[bool]]] = deque()
        self._task: TaskRun | None = None
        self._lock, self._ending = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None

    # --- for other threads ------------------------------------------------------------------------

    @property
    def task(self) -> TaskRun | None:
        return self._task

    @property
    def armed_for_s(self) -> float:
        return self.arming.remaining_s(self.clock.now_ns())

    @property
    def unheard_stop(self) -> str:
        """A sentence where the declared stop would reach nobody."""
        stop, by_all = self.body.stop, self.body.needs_stop
        if stop is None:
            return ""
        told = unheard(self._node, stop.topic, stop.type, by_all=by_all)
        return told and f"a stop would not be heard: {told} (the robot profile's stop_topic)"

    @property
    def dangers(self) -> tuple[str, ...]:
        """What others do on the network that nothing may move by: sentences."""
        return (*self.eyes.crowds(), *filter(None, [self.unheard_stop]))

    @property
    def unseen_links(self) -> list[str]:
        """The arm's links that /tf has not told of: without one of them it goes nowhere."""
        body, known = self.robot.body, self.eyes.perception.transforms.known_frames
        links = body.links if isinstance(body, Arm) else ()
        return [link for link in links if link not in known]

    @property
    def is_alive(self) -> bool:
        """Whether its thread goes on, perhaps though it was stopped."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Where it is not alive: two threads would move one robot."""
        self.arming.disarm("it has not been armed")
        self._stopping.clear()
        self.stopped_why = ""
        self.eyes.start(with_worker=False)
        self._thread = threading.Thread(target=self._live, name="acting", daemon=True)
        self._thread.start()

    def stop(self, why: str) -> None:
        """Disarms, ends the task with its goals, and stops looking. May be called twice, and from
        two threads: a Ctrl-C may come while the node is being deactivated."""
        self.arming.disarm(why)
        self._stopping.set()
        task = self._task
        if task is not None:
            task.cancel.set()
        with self._ending:
            if self._thread is not None:
                self._thread.join(_END_S)
            if self.is_alive:
                self._node.get_logger().error(f"the task did not end within {_END_S:g} s")
                self.actuator.stop()
            self.eyes.stop()

    def close(self) -> None:
        self.stop("the node was shut down")
        self.wire.close()

    def begin(self, task: TaskRun) -> bool:
        """Whether the task was taken: there is one at a time."""
        with self._lock:
            if self._task is not None or not self.is_alive or self._stopping.is_set():
                return False
            self._task = task
            return True

    def arm(self) -> bool:
        """Whether it is armed now: not where it was disarmed meanwhile. Raises `TimeoutError` where
        the thread does not come to it."""
        done: Future[bool] = Future()
        ticket = self.arming.ticket()
        self._words.append((lambda: self.arming.arm(self.clock.now_ns(), ticket=ticket), done))
        try:
            return done.result(_ANSWER_S)
        except NotInTime:
            if not done.cancel():
                return done.result()  # it has just come to it
            raise TimeoutError("the robot's thread is busy; try again") from None

    # --- the thread ------------------------------------------------------------------------------

    def _live(self) -> None:
        while not self._stopping.is_set():
            task = self._task
            if task is None:
                self._idle()
                continue
            self._carry_out(task)
            with self._lock:
                self._task = None
            task.done.set()
        self._stay_stopped()
        with self._lock:
            left, self._task = self._task, None
        if left is not None:
            left.error = "the node was deactivated before it began"
            left.done.set()

    def _stay_stopped(self) -> None:
        """The declared stop is published for as long as it takes, also where the node ends."""
        until_s = time.monotonic() + _STAY_S  # ROS time may stand still
        while self.actuator.is_stopping and time.monotonic() < until_s:
            time.sleep(_TICK_S)
            self.actuator.poll()

    def _idle(self) -> None:
        try:
            self.clock.wait(_IDLE_S)
            self.eyes.perception.poll(self.clock.now_ns())
            self.actuator.poll()  # what was given up is cancelled when its server is back
        except Exception as error:  # noqa: BLE001  # nor may anything that arrives meanwhile
            self._node.get_logger().error("".join(traceback.format_exception(error)))
            self._stopping.wait(_IDLE_S)

    def _pump(self) -> None:
        self.eyes.take_in()
        while self._words:
            do, done = self._words.popleft()
            if done.set_running_or_notify_cancel():
                done.set_result(do())

    def _carry_out(self, task: TaskRun) -> None:
        try:
            task.episode = self._episode(task)
        except Exception as error:  # noqa: BLE001  # no task may kill the thread
            task.error = f"internal error, see the node's log: {type(error).__name__}: {error}"
            self._node.get_logger().error("".join(traceback.format_exception(error)))
            self.actuator.stop()
        finally:
            self.query_id = ""

    def _episode(self, task: TaskRun) -> Episode:
        previews = Previews(self.body, self.wire, self._show)
        telling = Telling(task.text, task.report, self._show, previews, self._stop)
        brains: list[Brain] = []

        def tick() -> int:
            return brains[0].sight.tick(_TICK_S)

        def engine_for(query: Query) -> Engine:
            self.query_id = query.query_id
            return PatientEngine(self._engines.select(query), tick, telling.hear)

        def tell(event: EpisodeEvent) -> None:
            self._hear(event)
            telling.tell(event)

        def approve(step: Step | None, motion: Motion) -> bool:
            now_ns = self.clock.now_ns()
            query_id, index = telling.question(step, motion, now_ns)
            deadline_ns = now_ns + round(self._config.approval_s * 1e9)
            return self.approvals.wait(
                query_id,
                index,
                lambda: telling.ask_person(motion),
                tick,
                lambda: task.cancel.is_set() or self.clock.now_ns() > deadline_ns,
            )

        brain, taker, _ = assemble(
            self._robot_for(task),
            self.eyes.perception,
            self.clock,
            self.actuator,
            engine_for,
            tell=tell,
            approve=approve,
            arming=self.arming,
            hand=self.hand,
            camera=self.eyes.camera_of(task.camera),
        )
        brains.append(brain)
        episode = carry_out(task.text, taker, brain, task.cancel)
        task.plan = telling.plan
        return episode

    def _hear(self, event: EpisodeEvent) -> None:
        """How the engine does, for who asks."""
        if isinstance(event, Answered):
            self.query_id, self.timings, self.failure = "", event.response.answer.timings, ""
        elif isinstance(event, TurnEnded):
            refusal = event.record.refusal
            if refusal is not None and refusal.code is RefusalCode.ENGINE_FAILED:
                self.query_id, self.failure = "", refusal.text

    def _robot_for(self, task: TaskRun) -> Robot:
        """The configured robot; a task can only tighten it."""
        limits = tightened(self.robot.limits, dry_run=True) if task.dry_run else self.robot.limits
        looking = self.robot.executive
        turns = min(task.max_turns, looking.max_turns) if task.max_turns else looking.max_turns
        return replace(self.robot, limits=limits, executive=replace(looking, max_turns=turns))

    def _stop(self, why: str) -> None:
        """The safe action, and why."""
        self.actuator.stop()
        self.stopped_why = why
        self._node.get_logger().error(f"stopped: {why}")
