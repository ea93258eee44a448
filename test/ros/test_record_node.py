"""The real record node under real rclpy: a robot publishes, an operator says when."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

from asking import Asking  # noqa: E402
from demonstrations import CAMERA, COMMANDS, JOINTS, NAMES, TASK, YAML, picture  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import TransformStamped  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.executors import MultiThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402
from rynn_brain_ros.srv import StartEpisode  # noqa: E402
from sensor_msgs.msg import CompressedImage, JointState, Joy  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from rynn_brain_ros.bags import BagReader  # noqa: E402
from rynn_brain_ros.data import MarkEvent, contract_from  # noqa: E402
from rynn_brain_ros.data.marks import Span, marks_of, spans  # noqa: E402
from rynn_brain_ros.data.sampling import sample  # noqa: E402
from rynn_brain_ros.data.streams import Streams  # noqa: E402
from rynn_brain_ros.ros.record_node import RecordNode  # noqa: E402
from rynn_brain_ros.ros.spinning import keep_spinning  # noqa: E402

PATIENCE_S = 40.0
EXTRA = """
adjunct:
  - channel: {topic: /tf_static, type: tf2_msgs/msg/TFMessage}
limits: {max_gap_s: 2.0, min_rate: 0.1}
"""
"""Rates and gaps are tested where clocks are driven: this machine may be busy."""
OPTIONS = {"task": TASK, "max_offset_s": 1.0, "min_free_gib": 0.0}


class SyntheticRobot(Node):
    """One camera at 20 Hz, joints at 100 Hz and their commands, and a camera's static pose."""

    def __init__(self) -> None:
        super().__init__("synthetic_robot")
        self.has_camera = True
        self._n = 0
        self._images = self.create_publisher(CompressedImage, CAMERA, qos_profile_sensor_data)
        self._joints = [self.create_publisher(JointState, t, 10) for t in (JOINTS, COMMANDS)]
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        transform = TransformStamped(child_frame_id="camera")
        transform.transform.rotation.w = 1.0
        self._static = self.create_publisher(TFMessage, "/tf_static", latched)
        self._static.publish(TFMessage(transforms=[transform]))
        self.create_timer(0.01, self._move)

    def _move(self) -> None:
        self._n += 1
        stamp = self.get_clock().now().to_msg()
        for publisher in self._joints:
            joints = JointState(name=list(NAMES), position=[self._n / 1000, 0.5, 0.04])
            joints.header.stamp = stamp
            publisher.publish(joints)
        if self.has_camera and self._n % 5 == 0:
            image = CompressedImage(format="jpeg", data=picture(self._n // 5))
            image.header.stamp = stamp
            self._images.publish(image)


class Graph(Asking):
    """A robot and an operator; the recorder is here too, unless it runs somewhere else."""

    def __init__(self, recorder: Node | None, name: str = "/record") -> None:
        self.robot, self.recorder, self.operator = SyntheticRobot(), recorder, Node("operator")
        self.status: list[str] = []
        self.diagnostics: list[Any] = []
        user = self.operator
        user.create_subscription(String, f"{name}/status", lambda m: self.status.append(m.data), 10)
        user.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.joy = user.create_publisher(Joy, "/joy", 10)
        self.change = user.create_client(ChangeState, f"{name}/change_state")
        self.clients = {"start": user.create_client(StartEpisode, f"{name}/start")}
        for end in ("stop", "success", "failure", "discard"):
            self.clients[end] = user.create_client(Trigger, f"{name}/{end}")
        self.executor = MultiThreadedExecutor(num_threads=3)
        self.nodes = [node for node in (self.robot, recorder, user) if node is not None]
        for node in self.nodes:
            self.executor.add_node(node)
        self.spinner = threading.Thread(target=keep_spinning, args=(self.executor,), daemon=True)
        self.spinner.start()

    def bring_up(self) -> None:
        assert self.transition(Transition.TRANSITION_CONFIGURE)
        assert self.transition(Transition.TRANSITION_ACTIVATE)

    def mark(self, name: str, task: str = "") -> Any:
        request = StartEpisode.Request(task=task) if name == "start" else Trigger.Request()
        return self.call(self.clients[name], request)

    def begin(self, task: str = "") -> None:
        """An episode has begun: tried until all topics have been heard."""
        self.wait_until(lambda: self.mark("start", task).success, "an episode that begins")

    def record(self, seconds: float) -> None:
        """Until the operator sees an episode of this length."""

        def is_long() -> bool:
            last = self.status[-1] if self.status else ""
            is_recording = last.startswith("RECORDING ")
            return is_recording and float(last.split(", ")[1].split(" ")[0]) > seconds

        self.status.clear()
        self.wait_until(is_long, f"{seconds} s of an episode")

    def press(self, *buttons: int) -> None:
        for down in ((), buttons, ()):
            self.joy.publish(Joy(buttons=[int(i in down) for i in range(8)]))

    def close(self) -> None:
        if isinstance(self.recorder, RecordNode):
            self.recorder.finish()
        self.executor.shutdown()
        self.spinner.join()
        for node in self.nodes:
            node.destroy_node()


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def contract_file(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(YAML + EXTRA, encoding="utf-8")
    return file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def options(contract_file: Path, out: Path) -> dict[str, Any]:
    return {"contract": str(contract_file), "out": str(out), **OPTIONS}


@pytest.fixture
def graphs(contract_file: Path, out: Path) -> Iterator[Callable[..., Graph]]:
    made: list[Graph] = []

    def make(**others: Any) -> Graph:
        values = {**options(contract_file, out), **others}
        overrides = [rclpy.parameter.Parameter(k, value=v) for k, v in values.items()]
        made.append(Graph(RecordNode(parameter_overrides=overrides)))
        return made[-1]

    yield make
    for graph in made:
        graph.close()


@pytest.fixture
def graph(graphs: Callable[..., Graph]) -> Graph:
    made = graphs()
    made.bring_up()
    return made


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def span_of(file: Path) -> Span:
    with BagReader(file) as bag:
        (span,) = spans(bag.info(), contract_from(YAML + EXTRA))
    return span


# --- episodes -------------------------------------------------------------------------------------


def test_an_episode_is_recorded_by_services(graph: Graph, out: Path) -> None:
    graph.begin("fold the towel")
    graph.record(1.5)
    done = graph.mark("success")
    assert done.success and "episode-00000.mcap: success" in done.message
    span = span_of(out / "episode-00000.mcap")
    assert (span.task, span.outcome, span.faults) == ("fold the towel", "success", ())
    with BagReader(out / "episode-00000.mcap") as bag:
        counts = {topic.topic: topic.count for topic in bag.info().topics}
        assert bag.info().metadata["rynn_brain_ros.contract"]["robot_type"] == "tiny"
        assert not bag.info().problems
    assert set(counts) == {CAMERA, JOINTS, COMMANDS, "/tf_static"}
    assert min(counts[CAMERA], counts[JOINTS]) > 10


def test_what_it_records_can_be_sampled(graph: Graph, out: Path) -> None:
    graph.begin()
    graph.record(1.0)
    graph.mark("success")
    contract, file = contract_from(YAML + EXTRA), out / "episode-00000.mcap"
    streams, wrong = Streams(contract), []
    with BagReader(file) as bag:
        for topic, message, at_ns in ((m.topic, m.decode(), m.log_time_ns) for m in bag.messages()):
            wrong += streams.receive(topic, message, at_ns)
    features = sample(contract, streams, span_of(file).end_ns)
    assert not wrong and not features.faults
    assert features.values["observation.images.main"].shape == (48, 64, 3)
    assert features.values["observation.state"][1:].tolist() == [0.5, 1.0]


def test_a_discarded_episode_leaves_nothing(graph: Graph, out: Path) -> None:
    graph.begin()
    assert files(out) == ["episode-00000.partial.mcap"]
    assert graph.mark("discard").success
    assert files(out) == []


def test_what_cannot_be_now_is_refused_with_a_reason(graphs: Callable[..., Graph]) -> None:
    graph = graphs(task="")
    assert "record is not active" in graph.mark("start", TASK).message
    graph.bring_up()
    early = graph.mark("stop")
    assert not early.success and "no episode is being recorded" in early.message
    assert "needs a task" in graph.mark("start").message


def test_a_missing_camera_is_named_before_the_start(
    graphs: Callable[..., Graph], out: Path
) -> None:
    graph = graphs()
    graph.robot.has_camera = False
    graph.bring_up()
    missing = f"{CAMERA}: no message came"
    told = f"idle, 0 kept; {missing}"
    graph.wait_until(lambda: any(s.endswith(f"; {missing}") for s in graph.status[-1:]), told)
    refused = graph.mark("start")
    assert not refused.success and refused.message == f"not started: {missing}"
    status = next(s for s in graph.diagnostics[-1].status if s.name == f"/record: {CAMERA}")
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "no message came")
    assert files(out) == []
    graph.robot.has_camera = True
    graph.begin()


def test_a_disk_with_little_left_starts_nothing(graphs: Callable[..., Graph], out: Path) -> None:
    graph = graphs(min_free_gib=1e6)
    graph.bring_up()
    refused = graph.mark("start")
    assert not refused.success and "min_free_gib is 1e+06" in refused.message
    assert files(out) == []


def test_a_joystick_starts_and_ends(graph: Graph, out: Path) -> None:
    graph.begin()
    graph.mark("discard")
    graph.press(7)
    graph.wait_until(lambda: files(out) == ["episode-00000.partial.mcap"], "the start")
    graph.record(0.5)
    graph.press(0)
    graph.wait_until(lambda: files(out) == ["episode-00000.mcap"], "the end")
    assert (span_of(out / "episode-00000.mcap")).outcome == "success"


# --- life -----------------------------------------------------------------------------------------


def test_deactivation_ends_an_episode_whole(graph: Graph, out: Path) -> None:
    graph.begin()
    graph.record(0.5)
    assert graph.transition(Transition.TRANSITION_DEACTIVATE)
    assert span_of(out / "episode-00000.mcap").outcome == "stop"
    assert graph.transition(Transition.TRANSITION_ACTIVATE)
    graph.begin()


@pytest.mark.parametrize(
    "wrong", [{"contract": "r2d2"}, {"joy_success": 7}, {"out": "/dev/null/x"}]
)
def test_what_cannot_be_configured_fails_configuration(
    graphs: Callable[..., Graph], wrong: dict[str, Any]
) -> None:
    assert not graphs(**wrong).transition(Transition.TRANSITION_CONFIGURE)


@pytest.fixture
def launched(contract_file: Path, out: Path, tmp_path: Path) -> Iterator[tuple[Graph, Any]]:
    """A recorder in a process of its own, by its launch file. Each has a name of its own: a killed
    one's services seem to be there for a while."""
    parameters = tmp_path / "params.yaml"
    lines = "".join(f"    {k}: {v}\n" for k, v in options(contract_file, out).items())
    parameters.write_text(f"/**/record:\n  ros__parameters:\n{lines}", encoding="utf-8")
    command = ["ros2", "launch", "rynn_brain_ros", "record.launch.py"]
    command += [f"namespace:={tmp_path.name}", f"params_file:={parameters}"]
    environment = {**os.environ, "ROS_LOG_DIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr, start_new_session=True)
    graph = Graph(None, f"/{tmp_path.name}/record")
    yield graph, process
    graph.close()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


def test_a_killed_recorder_keeps_what_it_received(launched: tuple[Graph, Any], out: Path) -> None:
    graph, process = launched
    graph.begin()
    graph.record(1.0)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    with BagReader(out / "episode-00000.partial.mcap") as bag:
        info = bag.info()
        count = sum(1 for message in bag.messages([JOINTS]) if message.decode().position[1] == 0.5)
    assert count > 20
    (mark,) = marks_of(info.metadata)
    assert (mark.event, mark.task) == (MarkEvent.START, TASK)
    assert info.metadata["rynn_brain_ros.contract"]["robot_type"] == "tiny"


def test_a_signal_ends_an_episode_whole(launched: tuple[Graph, Any], out: Path) -> None:
    graph, process = launched
    graph.begin()
    graph.record(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert span_of(out / "episode-00000.mcap").outcome == "stop"


def test_a_terminals_keys_start_and_end(graph: Graph, out: Path, tmp_path: Path) -> None:
    graph.begin()
    graph.mark("discard")
    terminal, theirs = pty.openpty()
    log = tmp_path / "log"
    command = ["ros2", "run", "rynn_brain_ros", "record_keys"]
    with log.open("w") as sink:
        keys = subprocess.Popen(command, stdin=theirs, stderr=sink, start_new_session=True)
    os.close(theirs)
    try:
        os.write(terminal, b"t")
        graph.wait_until(lambda: "what is done?" in log.read_text(), "the question for the task")
        os.write(terminal, b"press the button\n")
        os.write(terminal, b"s")
        graph.wait_until(lambda: files(out) == ["episode-00000.partial.mcap"], "the start")
        os.write(terminal, b"n")
        graph.wait_until(lambda: files(out) == ["episode-00000.mcap"], "the end")
        os.write(terminal, b"xq")
        assert keys.wait(timeout=PATIENCE_S) == 0
    finally:
        if keys.poll() is None:
            os.killpg(keys.pid, signal.SIGKILL)
        os.close(terminal)
    span = span_of(out / "episode-00000.mcap")
    assert (span.task, span.outcome) == ("press the button", "failure")
