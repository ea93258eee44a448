"""The simulated base's ROS interfaces: Nav2's actions, its map, and odometry."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from nav2_msgs.action import DriveOnHeading, FollowPath, NavigateThroughPoses, NavigateToPose, Spin
from tf_transformations import euler_from_quaternion, quaternion_from_euler

from rynn_brain_ros import messages
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.sim_goals import GoalServers, Job, Publish, seconds
from rynn_brain_ros.sim.grid import path_length_m
from rynn_brain_ros.sim.live import Cause, Ending
from rynn_brain_ros.sim.robots import RoomRobot, pose_on_map
from rynn_brain_ros.sim.room import BASE_FRAME, MAP_FRAME, ODOM_FRAME, TRACK_M, WHEEL_RADIUS_M
from rynn_brain_ros.values import DriveGoal, InputError, Point2, SpinGoal, TransformError

_UNKNOWN, _TIMEOUT, _COLLISION = "UNKNOWN", "TIMEOUT", "COLLISION_AHEAD"


def serve_base(servers: GoalServers, robot: RoomRobot) -> None:
    """Opens everything that a client of this robot may ask for."""
    made: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (NavigateToPose, "navigate_to_pose", _NavigateToPose),
        (NavigateThroughPoses, "navigate_through_poses", _NavigateThroughPoses),
        (FollowPath, "follow_path", _FollowPath),
        (Spin, "spin", _Spin),
        (DriveOnHeading, "drive_on_heading", _Drive),
    )
    for type_, name, job in made:
        servers.action(type_, name, "base", lambda *goal, job=job: job(robot, *goal))


class _Job(Job, ABC):
    """``type_`` is the action. What began when, and with which errors it may end."""

    type_: Any

    def __init__(self, robot: RoomRobot, goal: Any, publish: Publish) -> None:
        self._robot, self._goal, self._publish = robot, goal, publish
        self._begun_ns = 0

    def begin(self, goal_id: str) -> Ending | None:
        self._begun_ns = self._robot.world.now_ns
        try:
            self.send(goal_id)
        except TransformError as error:
            return Ending(Cause.REJECTED, str(error), detail="TF_ERROR")
        except InputError as error:
            return Ending(Cause.REJECTED, str(error))
        return None

    @abstractmethod
    def send(self, goal_id: str) -> None:
        """Raises `TransformError` for a pose that cannot be placed, `InputError` without a way."""

    def result(self, ending: Ending) -> Any:
        result = self.type_.Result()
        if ending.cause is Cause.PREEMPTED:  # by that, and ABORTED, Nav2's clients know it
            return result
        # Not every distribution has these, nor every code.
        if ending.cause is not Cause.DONE and hasattr(result, "error_code"):
            result.error_code = getattr(type(result), self.error(ending), 0)
        if ending.cause is not Cause.DONE and hasattr(result, "error_msg"):
            result.error_msg = f"{ending.cause.value}: {ending.text}"
        return result

    def error(self, ending: Ending) -> str:
        """A constant's name."""
        if ending.detail is not None:
            return str(ending.detail)
        return _TIMEOUT if ending.cause is Cause.TIMED_OUT else _UNKNOWN

    @property
    def passed_s(self) -> float:
        return (self._robot.world.now_ns - self._begun_ns) / 1e9


class _Way(_Job):
    """Along a path on the map: feedback tells where the base is and how much is left."""

    _length_m = 0.0

    def follow(self, goal_id: str, path: Sequence[Point2], yaw_rad: float) -> None:
        self._length_m = path_length_m((self._robot.world.base_pose().xy_m, *path))
        self._robot.base.follow(goal_id, path, yaw_rad)

    def report(self, fraction: float) -> None:
        left_m = (1 - fraction) * self._length_m
        estimated_s = self.passed_s * (1 / max(fraction, 1e-3) - 1)
        pose = self._robot.world.base_pose()
        fields = {
            "current_pose": _pose_stamped(self._robot, pose),
            "navigation_time": messages.stamp(round(self.passed_s * 1e9)),
            "estimated_time_remaining": messages.stamp(round(estimated_s * 1e9)),
            "distance_remaining": left_m,
        }
        self._publish(to_ros(self.type_.Feedback, fields))


class _NavigateToPose(_Way):
    type_ = NavigateToPose

    def send(self, goal_id: str) -> None:
        x, y, yaw_rad = _on_map(self._robot, self._goal.pose)
        self.follow(goal_id, self._robot.way_through([(x, y)]), yaw_rad)


class _NavigateThroughPoses(_Way):
    type_ = NavigateThroughPoses

    def send(self, goal_id: str) -> None:
        poses = getattr(self._goal.poses, "goals", self._goal.poses)  # nav_msgs/Goals since Kilted
        places = [_on_map(self._robot, pose) for pose in poses]
        if not places:
            raise InputError("there are no poses to go through")
        path = self._robot.way_through([(x, y) for x, y, _ in places])
        self.follow(goal_id, path, places[-1][2])


class _FollowPath(_Way):
    type_ = FollowPath

    def send(self, goal_id: str) -> None:
        poses = self._goal.path.poses
        for pose in poses:
            pose.header.frame_id = pose.header.frame_id or self._goal.path.header.frame_id
        places = [_on_map(self._robot, pose) for pose in poses]
        if not places:
            raise InputError("the path has no poses")
        self.follow(goal_id, [(x, y) for x, y, _ in places], places[-1][2])

    def report(self, fraction: float) -> None:
        speed_m_s = odometry(self._robot, 0)["twist"]["twist"]["linear"]["x"]
        fields = {"distance_to_goal": (1 - fraction) * self._length_m, "speed": speed_m_s}
        nested = "tracking_feedback" in FollowPath.Feedback.get_fields_and_field_types()  # Lyrical
        told = {"tracking_feedback": fields} if nested else fields
        self._publish(to_ros(FollowPath.Feedback, told))

    def error(self, ending: Ending) -> str:
        name = super().error(ending)
        return "INVALID_PATH" if ending.cause is Cause.REJECTED and name == _UNKNOWN else name


class _Behaviour(_Job):
    """Spin or drive, within ``time_allowance`` (0: as long as it takes)."""

    def __init__(self, robot: RoomRobot, goal: Any, publish: Publish) -> None:
        super().__init__(robot, goal, publish)
        self.allowed_s = seconds(goal.time_allowance) or math.inf

    def result(self, ending: Ending) -> Any:
        result = super().result(ending)
        took = messages.stamp(round(self.passed_s * 1e9))
        result.total_elapsed_time.sec, result.total_elapsed_time.nanosec = took.values()
        return result

    def error(self, ending: Ending) -> str:
        return _COLLISION if ending.cause is Cause.ABORTED else super().error(ending)


class _Spin(_Behaviour):
    type_ = Spin

    def send(self, goal_id: str) -> None:
        self._robot.base.send(goal_id, SpinGoal(float(self._goal.target_yaw)))

    def report(self, fraction: float) -> None:
        turned_rad = fraction * float(self._goal.target_yaw)
        self._publish(Spin.Feedback(angular_distance_traveled=turned_rad))


class _Drive(_Behaviour):
    type_ = DriveOnHeading

    def send(self, goal_id: str) -> None:
        distance_m = float(self._goal.target.x)
        limit_m_s = self._robot.base.limits.linear_m_s
        speed = abs(float(self._goal.speed)) / limit_m_s
        self._robot.base.send(goal_id, DriveGoal(distance_m, min(speed, 1.0)))

    def report(self, fraction: float) -> None:
        driven_m = abs(fraction * float(self._goal.target.x))
        self._publish(DriveOnHeading.Feedback(distance_traveled=driven_m))


def odometry(robot: RoomRobot, stamp_ns: int) -> messages.MessageDict:
    """nav_msgs/Odometry: the base never slips here, and what the wheels do is what it does."""
    pose = robot.world.base_pose()
    left, right = (rate * WHEEL_RADIUS_M for rate in robot.world.joint_state().velocities)
    twist = {"linear": {"x": (left + right) / 2}, "angular": {"z": (right - left) / TRACK_M}}
    return {
        "header": messages.header(stamp_ns, ODOM_FRAME),
        "child_frame_id": BASE_FRAME,
        "pose": {"pose": _pose(pose)},
        "twist": {"twist": twist},
    }


def map_message(robot: RoomRobot) -> messages.MessageDict:
    """nav_msgs/OccupancyGrid."""
    grid = robot.grid
    rows, columns = grid.data.shape
    x, y = grid.origin_m
    info = {
        "resolution": grid.resolution_m,
        "width": columns,
        "height": rows,
        "origin": {"position": {"x": x, "y": y}, "orientation": {"w": 1.0}},
    }
    stamp_ns = robot.world.now_ns
    return {
        "header": messages.header(stamp_ns, MAP_FRAME),
        "info": info,
        "data": grid.data.ravel().tolist(),
    }


def _on_map(robot: RoomRobot, pose: Any) -> tuple[float, float, float]:
    """x, y, yaw of a geometry_msgs/PoseStamped."""
    T_map_pose = pose_on_map(robot.world, pose)
    x, y, _ = T_map_pose.translation_m
    *_, yaw_rad = euler_from_quaternion(T_map_pose.rotation_xyzw)
    if not all(map(math.isfinite, (x, y, yaw_rad))):
        raise TransformError("a pose holds a value that is not a finite number")
    return (x, y, yaw_rad)


def _pose(pose: Any) -> messages.MessageDict:
    x, y = pose.xy_m
    rotation = dict(zip("xyzw", quaternion_from_euler(0.0, 0.0, pose.yaw_rad), strict=True))
    return {"position": {"x": x, "y": y}, "orientation": rotation}


def _pose_stamped(robot: RoomRobot, pose: Any) -> messages.MessageDict:
    return {"header": messages.header(robot.world.now_ns, MAP_FRAME), "pose": _pose(pose)}
