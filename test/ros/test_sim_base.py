"""The simulated base under real rclpy, asked as Nav2's own clients ask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros
rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")
pytest.importorskip("mujoco", reason="the simulator needs MuJoCo: pip install mujoco")
pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
pytest.importorskip("nav2_msgs", reason="nav2_msgs is not installed")

from action_msgs.msg import GoalStatus  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from nav2_msgs.action import (  # noqa: E402
    DriveOnHeading,
    FollowPath,
    NavigateToPose,
    Spin,
)
from nav_msgs.msg import OccupancyGrid, Odometry  # noqa: E402
from nav_msgs.msg import Path as NavPath  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from sim_graph import LATCHED, SimGraph  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402

FAST = {"realtime_factor": 4.0, "picture_rate": 1.0}


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


# --- the base -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room(ros: None) -> Iterator[SimGraph]:
    graph = SimGraph(world="room", **FAST)
    graph.bring_up()
    yield graph
    graph.close()


def on_map(x: float, y: float, yaw: float = 0.0) -> PoseStamped:
    pose = PoseStamped()
    pose.header.frame_id = "map"
    pose.pose.position.x, pose.pose.position.y = float(x), float(y)
    pose.pose.orientation.z, pose.pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)
    return pose


def truth(graph: SimGraph) -> Any:
    """Where the base truly is, for judging."""
    assert graph.sim.robot is not None
    return graph.sim.robot.world.base_pose()


def says(result: Any, words: str) -> bool:
    """Whether it gives this reason; Humble's results have no words."""
    return words in getattr(result, "error_msg", words)


def free_place(graph: SimGraph, at_least_m: float = 1.0) -> tuple[float, float]:
    """Somewhere on the received map with room around it, for the next drive."""
    here = truth(graph).xy_m
    scene = graph.sim.robot.world.scene
    spots = [(x / 2, y / 2) for x in range(-8, 9) for y in range(-8, 9)]
    free = [p for p in spots if scene.clearance_m(p) > 0.5 and math.dist(p, here) > at_least_m]
    return min(free, key=lambda p: math.dist(p, here))


def test_navigate_to_pose_arrives_where_tf_says(room: SimGraph) -> None:
    x, y = free_place(room)
    feedback: list[Any] = []
    goal = NavigateToPose.Goal(pose=on_map(x, y, 1.0))
    handle = room.send(NavigateToPose, "navigate_to_pose", goal, feedback.append)
    status, result = room.end_of(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED, getattr(result, "error_msg", "")
    base = room.latest("map", "base_link")
    assert math.dist(base.translation_m[:2], (x, y)) < 0.05
    assert base.rotation_xyzw[2] == pytest.approx(math.sin(0.5), abs=0.02)
    left = [f.distance_remaining for f in feedback]
    assert left[0] > left[-1]
    assert feedback[0].current_pose.header.frame_id == "map"


def test_a_place_without_a_way_or_in_an_unknown_frame_is_aborted_with_words(
    room: SimGraph,
) -> None:
    nowhere = NavigateToPose.Goal(pose=on_map(50.0, 50.0))
    status, result = room.do(NavigateToPose, "navigate_to_pose", nowhere)
    assert status == GoalStatus.STATUS_ABORTED
    assert says(result, "no way")
    moon = NavigateToPose.Goal(pose=on_map(0.0, 0.0))
    moon.pose.header.frame_id = "moon"
    status, result = room.do(NavigateToPose, "navigate_to_pose", moon)
    assert status == GoalStatus.STATUS_ABORTED
    assert says(result, "moon")
    unturned = NavigateToPose.Goal(pose=on_map(0.0, 0.0))
    unturned.pose.pose.orientation.w = 0.0
    status, result = room.do(NavigateToPose, "navigate_to_pose", unturned)
    assert status == GoalStatus.STATUS_ABORTED
    assert says(result, "no length")


def test_cancelling_a_drive_stops_the_base(room: SimGraph) -> None:
    x, y = free_place(room, 1.5)
    begun: list[Any] = []
    goal = NavigateToPose.Goal(pose=on_map(x, y))
    handle = room.send(NavigateToPose, "navigate_to_pose", goal, begun.append)
    room.wait_until(lambda: len(begun) > 2, "feedback")
    room.result_of(handle.cancel_goal_async(), "the cancellation")
    status, _ = room.end_of(handle)
    assert status == GoalStatus.STATUS_CANCELED
    odometry = room.listen(Odometry, "odom")
    room.wait_until(lambda: len(odometry) > 5, "odometry")
    assert odometry[-1].twist.twist.linear.x == 0.0
    turn = odometry[-1].pose.pose.orientation
    assert 2 * math.atan2(turn.z, turn.w) == pytest.approx(truth(room).yaw_rad)
    assert math.dist(truth(room).xy_m, (x, y)) > 0.1


def test_a_drive_whose_place_another_takes_is_aborted_without_a_reason(room: SimGraph) -> None:
    begun: list[Any] = []
    goal = NavigateToPose.Goal(pose=on_map(*free_place(room, 1.5)))
    older = room.send(NavigateToPose, "navigate_to_pose", goal, begun.append)
    room.wait_until(lambda: len(begun) > 2, "feedback")
    newer = room.send(NavigateToPose, "navigate_to_pose", goal)
    status, result = room.end_of(older)
    assert status == GoalStatus.STATUS_ABORTED
    assert result == NavigateToPose.Result()
    status, _ = room.end_of(newer)
    assert status == GoalStatus.STATUS_SUCCEEDED


def test_spin_and_drive_do_what_they_are_told_and_time_out(room: SimGraph) -> None:
    before = truth(room)
    status, _ = room.do(Spin, "spin", Spin.Goal(target_yaw=0.7))
    assert status == GoalStatus.STATUS_SUCCEEDED
    turned = math.remainder(truth(room).yaw_rad - before.yaw_rad, 2 * math.pi)
    assert turned == pytest.approx(0.7, abs=0.01)
    goal = DriveOnHeading.Goal(speed=0.2)
    goal.target.x = 0.2
    status, _ = room.do(DriveOnHeading, "drive_on_heading", goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert math.dist(truth(room).xy_m, before.xy_m) == pytest.approx(0.2, abs=0.01)
    hurried = Spin.Goal(target_yaw=6.0)
    hurried.time_allowance.nanosec = 200_000_000
    status, result = room.do(Spin, "spin", hurried)
    assert status == GoalStatus.STATUS_ABORTED
    if hasattr(result, "error_code"):  # not on Humble
        assert result.error_code == Spin.Result.TIMEOUT


def test_a_path_is_followed_and_one_through_a_wall_is_not(room: SimGraph) -> None:
    x, y = free_place(room, 0.4)
    path = NavPath()
    path.header.frame_id = "map"
    here = truth(room).xy_m
    way = room.sim.robot.way_through([(x, y)])
    path.poses = [on_map(*place) for place in (here, *way)]
    status, result = room.do(FollowPath, "follow_path", FollowPath.Goal(path=path))
    assert status == GoalStatus.STATUS_SUCCEEDED, result
    assert math.dist(truth(room).xy_m, (x, y)) < 0.05
    path.poses = [on_map(x, y), on_map(30.0, 30.0)]
    status, result = room.do(FollowPath, "follow_path", FollowPath.Goal(path=path))
    assert status == GoalStatus.STATUS_ABORTED
    if hasattr(result, "error_code"):  # not on Humble
        assert result.error_code == FollowPath.Result.INVALID_PATH


def test_the_map_is_there_for_those_who_come_late(room: SimGraph) -> None:
    got = room.listen(OccupancyGrid, "map", LATCHED)
    room.wait_until(lambda: bool(got), "the map")
    info, data = got[0].info, np.array(got[0].data, np.int8)
    assert info.width * info.height == data.size
    assert {0, 100} <= set(data.tolist())
    x, y = truth(room).xy_m
    column = int((x - info.origin.position.x) / info.resolution)
    row = int((y - info.origin.position.y) / info.resolution)
    assert data.reshape(info.height, info.width)[row, column] == 0


def test_a_room_is_seen_with_depth_from_a_frame_on_the_map(room: SimGraph) -> None:
    depth = room.listen(Image, "/forward/aligned_depth_to_color/image_raw")
    room.wait_until(lambda: bool(depth), "a picture")
    stamp_ns = messages.stamp_ns_of(depth[-1].header.stamp)
    found = room.frame_at("map", depth[-1].header.frame_id, stamp_ns)
    assert found.translation_m[2] == pytest.approx(1.1)
