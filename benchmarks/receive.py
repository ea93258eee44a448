"""What receiving images costs, and how soon an answer follows them, on real ROS 2.

    source install/local_setup.bash && python3 benchmarks/receive.py

1. CPU time of a process per 640×480 rgb8 image, received and buffered by the brain's eyes, against
   a bare ``raw=True`` callback and against cv_bridge in the callback: all three listen to the same
   two topics of one publisher (30 Hz) at the same time, in the same kind of executor.
2. From the last of image, depth and transform to the published grounding, with the recorded
   engine: the question is asked first and waits for the transform, which comes last.

Every part is a process of its own; times of day are compared within one process only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rynn_brain_ros.msg import GroundingArray
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from rynn_brain_ros import messages
from rynn_brain_ros.config import BrainConfig
from rynn_brain_ros.memory import images
from rynn_brain_ros.models import ColorBaselineEngine, recorded_answer, save_recorded
from rynn_brain_ros.planning import Question, make_query
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.sim.tabletop import OPTICAL_FRAME, example_scene
from rynn_brain_ros.values import EncodedImage, Frame, FrameSet, RigidTransform, Task

COLOR, DEPTH, INFO = "/bench/color/image_raw", "/bench/depth/image_raw", "/bench/color/camera_info"
HZ, WARM_UP, THREADS = 30, 60, 6
QUESTION = "the red cube"
WAYS = ("bare", "eyes", "cv_bridge")


def seen() -> tuple[EncodedImage, EncodedImage]:
    """(colour, depth) of the example scene, 640×480."""
    scene = example_scene()
    rgb, z_m = scene.render(scene.pose_at(0))
    height, width = rgb.shape[:2]
    depth = np.round(z_m * 1000).astype(np.uint16).tobytes()
    return (
        EncodedImage("rgb8", rgb.tobytes(), width, height, step=3 * width),
        EncodedImage("16UC1", depth, width, height, step=2 * width),
    )


class Driver(Node):
    """A camera's driver."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._color = self.create_publisher(Image, COLOR, 10)
        self._depth = self.create_publisher(Image, DEPTH, 10)
        self._info = self.create_publisher(CameraInfo, INFO, 10)
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._tf_static = self.create_publisher(TFMessage, "/tf_static", latched)
        self._scene = example_scene()
        color, depth = (messages.image(image, 0, OPTICAL_FRAME)[1] for image in seen())
        self._color_message, self._depth_message = to_ros(Image, color), to_ros(Image, depth)
        self._info_message = to_ros(CameraInfo, messages.camera_info(self._scene.camera_info, 0))

    def stand_still(self) -> None:
        """Where the camera is, once and for all."""
        pose = self._scene.pose_at(0)
        self._tf_static.publish(to_ros(TFMessage, messages.tf_message([pose])))

    def show(self, stamp_ns: int, with_depth: bool = False) -> None:
        for publisher, message in (
            (self._info, self._info_message),
            *([(self._depth, self._depth_message)] if with_depth else []),
            (self._color, self._color_message),
        ):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            publisher.publish(message)

    def tell_pose(self, stamp_ns: int) -> None:
        poses = [self._pose(stamp_ns - 10**7), self._pose(stamp_ns + 10**7)]
        self._tf.publish(to_ros(TFMessage, messages.tf_message(poses)))

    def _pose(self, stamp_ns: int) -> RigidTransform:
        at = self._scene.pose_at(0)
        return RigidTransform(at.parent, at.child, at.translation_m, at.rotation_xyzw, stamp_ns)


# --- 1. receiving ---------------------------------------------------------------------------------


def receive(way: str, n: int) -> None:
    """In a process of its own: prints its CPU seconds per image, over ``n`` images."""
    node = Node(way)
    count = counter(node, way)
    with spinning(node):
        wait_until(lambda: count() >= WARM_UP)
        first, start_s = count(), time.process_time()
        wait_until(lambda: count() >= first + n)
        per_image_s = (time.process_time() - start_s) / (count() - first)
    sys.stdout.write(json.dumps({way: per_image_s}) + "\n")


def counter(node: Node, way: str) -> Callable[[], int]:
    """Receives in this way; how many images came so far."""
    if way == "eyes":
        eyes = Eyes(node, BrainConfig(color_topic=COLOR))
        eyes.start()
        return lambda: eyes.seen.cameras[COLOR].emitted
    number = itertools.count()
    came = [0]

    def store(_: object) -> None:
        came[0] = next(number)

    raw = way == "bare"
    callback = store if raw else converted(store)
    node.create_subscription(Image, COLOR, callback, qos_profile_sensor_data, raw=raw)
    node.create_subscription(CameraInfo, INFO, lambda _: None, qos_profile_sensor_data, raw=raw)
    return lambda: came[0]


def converted(then: Callable[[object], None]) -> Callable[[Image], None]:
    from cv_bridge import CvBridge  # noqa: PLC0415

    bridge = CvBridge()
    return lambda message: then(bridge.imgmsg_to_cv2(message, "rgb8"))


def receiving(n: int) -> dict[str, float]:
    """CPU seconds per image by way, all at the same time."""
    driver = Driver("driver")
    driver.stand_still()
    listeners = [child("--receive", way, "--images", str(n)) for way in WAYS]
    with spinning(driver):
        next_s = time.monotonic()
        while any(listener.poll() is None for listener in listeners):
            driver.show(time.time_ns())
            next_s = max(next_s + 1 / HZ, time.monotonic())
            time.sleep(max(0.0, next_s - time.monotonic()))
    taken: dict[str, float] = {}
    for listener in listeners:
        taken |= json.loads(listener.communicate()[0])
    return taken


# --- 2. answering ---------------------------------------------------------------------------------


def record(path: Path) -> None:
    """The answer that will be given again: of the colour engine to the one picture there is."""
    shown = images.select(Frame(COLOR, 0, OPTICAL_FRAME, seen()[0]))
    query = make_query(1, Question(QUESTION, Task.OBJECT), FrameSet((shown,)))
    engine = ColorBaselineEngine()
    save_recorded(path, [recorded_answer(query, engine.ask(query), engine.info.generation)])


def answering(n: int, folder: Path) -> list[float]:
    """Seconds from the transform, which comes last, to the grounding."""
    record(folder / "answers.jsonl")
    brain = child("--brain", str(folder / "answers.jsonl"))
    driver = Driver("driver")
    heard: dict[int, float] = {}

    def hear(told: GroundingArray) -> None:
        if told.groundings and told.groundings[0].fixed:
            heard[messages.stamp_ns_of(told.header.stamp)] = time.monotonic()

    driver.create_subscription(GroundingArray, "/brain/groundings", hear, 10)
    question = driver.create_publisher(String, "/brain/question", 10)
    change = driver.create_client(ChangeState, "/brain/change_state")
    taken = []
    try:
        with spinning(driver):
            change.wait_for_service()
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                change.call(ChangeState.Request(transition=Transition(id=transition)))
            for _ in range(n + 5):
                stamp_ns = time.time_ns()
                driver.show(stamp_ns, with_depth=True)
                time.sleep(0.1)  # so that the picture is there
                question.publish(String(data=QUESTION))
                time.sleep(0.1)  # so that the question waits
                start_s = time.monotonic()
                driver.tell_pose(stamp_ns)
                wait_until(lambda stamp_ns=stamp_ns: stamp_ns in heard)
                taken.append(heard[stamp_ns] - start_s)
    finally:
        brain.terminate()
        brain.wait()
    return taken[5:]


def brain(answers: str) -> None:
    from rynn_brain_ros.ros.brain_node import main as run  # noqa: PLC0415

    settings = {"color_topic": COLOR, "depth_topic": DEPTH, "engine": f"recorded:{answers}"}
    settings |= {"frames": "1", "max_wait_s": "5.0", "max_frame_age_s": "60.0"}
    given = [word for name, value in settings.items() for word in ("-p", f"{name}:={value}")]
    run(["--ros-args", *given])


# --- processes ------------------------------------------------------------------------------------


def child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield
    executor.shutdown()
    thread.join()


def wait_until(happened: Callable[[], bool], patience_s: float = 120.0) -> None:
    until_s = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > until_s:
            raise TimeoutError(f"waited {patience_s:g} s")
        time.sleep(0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--receive", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--brain", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.brain:
        brain(options.brain)
        return
    rclpy.init()
    if options.receive:
        receive(options.receive, options.images)
        return
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    cpu_s = receiving(options.images)
    ratio = cpu_s["eyes"] / cpu_s["bare"]
    for way in WAYS:
        print(
            f"{way:10} {cpu_s[way] * 1e3:6.2f} ms CPU an image, {cpu_s[way] / cpu_s['bare']:.2f}×",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        taken = answering(options.questions, Path(folder))
    p95_s = statistics.quantiles(taken, n=20)[-1]
    print(f"last input to grounding: median {statistics.median(taken) * 1e3:.1f} ms,", end=" ")
    print(f"p95 {p95_s * 1e3:.1f} ms")
    record = {"name": "receive", "ratio": ratio, "cv_bridge": cpu_s["cv_bridge"] / cpu_s["bare"]}
    print(json.dumps(record | {"answer_p50_s": statistics.median(taken), "answer_p95_s": p95_s}))
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
