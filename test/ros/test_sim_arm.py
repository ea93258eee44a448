"""The simulated arm under real rclpy, asked as MoveIt's and the controllers' own clients ask."""

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
from control_msgs.action import FollowJointTrajectory, GripperCommand  # noqa: E402
from geometry_msgs.msg import Pose  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from moveit_msgs.action import ExecuteTrajectory, MoveGroup  # noqa: E402
from moveit_msgs.msg import (  # noqa: E402
    CollisionObject,
    Constraints,
    JointConstraint,
    MoveItErrorCodes,
    OrientationConstraint,
    PlanningScene,
    PositionConstraint,
)
from moveit_msgs.srv import ApplyPlanningScene, GetCartesianPath  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from rynn_brain_ros.srv import Ground  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState  # noqa: E402
from shape_msgs.msg import SolidPrimitive  # noqa: E402
from sim_graph import SimGraph  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectoryPoint  # noqa: E402

from rynn_brain_ros import messages  # noqa: E402
from rynn_brain_ros.ros.brain_node import BrainNode  # noqa: E402
from rynn_brain_ros.ros.sim_arm import CONTROLLER, GRIPPER, STOP  # noqa: E402
from rynn_brain_ros.sim.panda import JOINTS, READY  # noqa: E402

FAST = {"realtime_factor": 4.0, "picture_rate": 1.0}
DOWN = (1.0, 0.0, 0.0, 0.0)
"""x, y, z, w: the tool's z axis points at the table."""


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def table(ros: None) -> Iterator[SimGraph]:
    graph = SimGraph(objects="red cube, yellow bowl", **FAST)
    graph.bring_up()
    yield graph
    graph.close()


@pytest.fixture
def at_ready(table: SimGraph) -> SimGraph:
    """The table, with the arm at READY and an open hand."""
    status, result = table.do(MoveGroup, "move_action", to_joints(READY))
    assert status == GoalStatus.STATUS_SUCCEEDED, result
    status, _ = table.do(GripperCommand, GRIPPER, grip(0.04))
    assert status == GoalStatus.STATUS_SUCCEEDED
    return table


def grip(position_m: float, effort_n: float = 20.0) -> Any:
    goal = GripperCommand.Goal()
    goal.command.position, goal.command.max_effort = position_m, effort_n
    return goal


def asked(constraints: Constraints) -> Any:
    """A MoveGroup goal as MoveGroupInterface makes one."""
    goal = MoveGroup.Goal()
    goal.request.group_name = "panda_arm"
    goal.request.allowed_planning_time = 60.0
    goal.request.num_planning_attempts = 1
    goal.request.max_velocity_scaling_factor = 1.0
    goal.request.max_acceleration_scaling_factor = 1.0
    goal.request.start_state.is_diff = True
    goal.planning_options.planning_scene_diff.is_diff = True
    goal.planning_options.planning_scene_diff.robot_state.is_diff = True
    goal.request.goal_constraints = [constraints]
    return goal


def to_joints(positions: Any) -> Any:
    joints = [
        JointConstraint(joint_name=name, position=float(p), weight=1.0)
        for name, p in zip(JOINTS, positions, strict=True)
    ]
    return asked(Constraints(joint_constraints=joints))


def to_pose(xyz_m: tuple[float, float, float], link: str = "panda_hand_tcp") -> Any:
    """Top down, as constructGoalConstraints writes it."""
    position = PositionConstraint(link_name=link, weight=1.0)
    position.header.frame_id = "panda_link0"
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = xyz_m
    pose.orientation.w = 1.0
    position.constraint_region.primitives = [
        SolidPrimitive(type=SolidPrimitive.SPHERE, dimensions=[0.001])
    ]
    position.constraint_region.primitive_poses = [pose]
    turned = OrientationConstraint(link_name=link, weight=1.0)
    turned.header.frame_id = "panda_link0"
    o = turned.orientation
    o.x, o.y, o.z, o.w = DOWN
    turned.absolute_x_axis_tolerance = turned.absolute_y_axis_tolerance = 0.01
    turned.absolute_z_axis_tolerance = 0.01
    return asked(Constraints(position_constraints=[position], orientation_constraints=[turned]))


def trajectory(graph: SimGraph, joints: Any, seconds: int) -> Any:
    goal = FollowJointTrajectory.Goal()
    goal.trajectory.joint_names = list(JOINTS)
    point = JointTrajectoryPoint(positions=[float(j) for j in joints])
    point.velocities = [0.0] * len(JOINTS)
    point.time_from_start.sec = seconds
    goal.trajectory.points = [point]
    return goal


def down_to(xyz_m: tuple[float, float, float]) -> Any:
    request = GetCartesianPath.Request(group_name="panda_arm", link_name="panda_hand_tcp")
    request.header.frame_id = "panda_link0"
    request.max_step, request.avoid_collisions = 0.005, True
    request.start_state.is_diff = True
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = xyz_m
    pose.orientation.x, pose.orientation.w = 1.0, 0.0
    request.waypoints = [pose]
    return request


# --- the arm --------------------------------------------------------------------------------------


def test_a_joint_trajectory_is_executed_and_joint_states_arrive_there(at_ready: SimGraph) -> None:
    goal = READY + np.array((0.3, 0.0, 0.1, 0.0, 0.0, 0.2, -0.2))
    states = at_ready.listen(JointState, "/joint_states")
    feedback: list[Any] = []
    handle = at_ready.send(
        FollowJointTrajectory, CONTROLLER, trajectory(at_ready, goal, 2), feedback.append
    )
    status, result = at_ready.end_of(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_string
    assert result.error_code == FollowJointTrajectory.Result.SUCCESSFUL
    n = len(states)
    at_ready.wait_until(lambda: len(states) > n, "a joint state")
    assert np.allclose(states[-1].position[:7], goal, atol=0.01)
    assert list(states[-1].name[:7]) == list(JOINTS)
    assert feedback
    assert list(feedback[0].joint_names) == list(JOINTS)


def test_move_group_brings_the_tool_to_the_pose_that_tf_tells(at_ready: SimGraph) -> None:
    status, result = at_ready.do(MoveGroup, "move_action", to_pose((0.45, 0.1, 0.25)))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_code
    assert result.error_code.val == MoveItErrorCodes.SUCCESS
    tool = at_ready.latest("panda_link0", "panda_tcp")
    assert math.dist(tool.translation_m, (0.45, 0.1, 0.25)) < 0.002
    assert abs(float(np.dot(tool.rotation_xyzw, DOWN))) > math.cos(math.radians(0.5))


def test_a_goal_for_the_flange_brings_the_flange_there(at_ready: SimGraph) -> None:
    status, _ = at_ready.do(MoveGroup, "move_action", to_pose((0.4, 0.0, 0.4), "panda_link8"))
    assert status == GoalStatus.STATUS_SUCCEEDED
    flange = at_ready.latest("panda_link0", "panda_link8")
    assert math.dist(flange.translation_m, (0.4, 0.0, 0.4)) < 0.002
    assert abs(float(np.dot(flange.rotation_xyzw, DOWN))) > math.cos(math.radians(0.5))


def far(goal: Any) -> Any:
    return to_pose((1.4, 0.0, 0.3))


def in_the_table(goal: Any) -> Any:
    return to_pose((0.5, 0.0, -0.05))


def hurried(goal: Any) -> Any:
    goal.request.allowed_planning_time = 1e-6
    return goal


def another_group(goal: Any) -> Any:
    goal.request.group_name = "left_arm"
    return goal


def another_link(goal: Any) -> Any:
    return to_pose((0.5, 0.0, 0.3), "panda_elbow")


def another_frame(goal: Any) -> Any:
    goal.request.goal_constraints[0].position_constraints[0].header.frame_id = "moon"
    return goal


def without_goal(goal: Any) -> Any:
    goal.request.goal_constraints = []
    return goal


def beyond_a_joint(goal: Any) -> Any:
    return to_joints((*READY[:3], 1.0, *READY[4:]))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (far, "NO_IK_SOLUTION"),
        (in_the_table, "GOAL_IN_COLLISION"),
        (hurried, "TIMED_OUT"),
        (another_group, "INVALID_GROUP_NAME"),
        (another_link, "INVALID_LINK_NAME"),
        (another_frame, "FRAME_TRANSFORM_FAILURE"),
        (without_goal, "INVALID_GOAL_CONSTRAINTS"),
        (beyond_a_joint, "INVALID_GOAL_CONSTRAINTS"),
    ],
)
def test_what_cannot_be_planned_is_aborted_with_its_own_code(
    at_ready: SimGraph, change: Any, code: str
) -> None:
    goal = change(to_pose((0.45, 0.1, 0.3)))
    status, result = at_ready.do(MoveGroup, "move_action", goal)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code.val == getattr(MoveItErrorCodes, code)
    assert getattr(result.error_code, "message", "not on Humble")
    assert not result.planned_trajectory.joint_trajectory.points


def test_plan_only_plans_and_moves_nothing(at_ready: SimGraph) -> None:
    goal = to_pose((0.45, -0.2, 0.3))
    goal.planning_options.plan_only = True
    status, result = at_ready.do(MoveGroup, "move_action", goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    points = result.planned_trajectory.joint_trajectory.points
    assert np.allclose(points[0].positions, READY, atol=0.01)
    assert np.abs(np.subtract(points[-1].positions, READY)).max() > 0.1
    states = at_ready.listen(JointState, "/joint_states")
    at_ready.wait_until(lambda: bool(states), "a joint state")
    assert np.allclose(states[-1].position[:7], READY, atol=0.01)


def test_a_cartesian_path_is_planned_whole_and_executed(at_ready: SimGraph) -> None:
    client = at_ready.client.create_client(GetCartesianPath, "compute_cartesian_path")
    here = at_ready.latest("panda_link0", "panda_tcp").translation_m
    low = (here[0], here[1], here[2] - 0.2)
    plan = at_ready.call(client, down_to(low))
    assert plan.error_code.val == MoveItErrorCodes.SUCCESS
    assert plan.fraction == 1.0
    goal = ExecuteTrajectory.Goal(trajectory=plan.solution)
    status, result = at_ready.do(ExecuteTrajectory, "execute_trajectory", goal)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_code
    tool = at_ready.latest("panda_link0", "panda_tcp")
    assert math.dist(tool.translation_m, low) < 0.002


def test_a_cartesian_path_through_the_table_is_planned_as_far_as_it_goes(
    at_ready: SimGraph,
) -> None:
    client = at_ready.client.create_client(GetCartesianPath, "compute_cartesian_path")
    here = at_ready.latest("panda_link0", "panda_tcp").translation_m
    plan = at_ready.call(client, down_to((here[0], here[1], -0.2)))
    # The fingertips end 9 mm below the tool centre point.
    share = (here[2] - 0.009) / (here[2] + 0.2)
    assert plan.fraction == pytest.approx(share, abs=0.03)
    assert plan.solution.joint_trajectory.points


def test_what_is_said_to_stand_in_the_way_is_not_driven_through(at_ready: SimGraph) -> None:
    apply = at_ready.client.create_client(ApplyPlanningScene, "apply_planning_scene")
    box = CollisionObject(id="box", operation=CollisionObject.ADD)
    box.header.frame_id = "panda_link0"
    box.pose.orientation.w = 1.0
    box.primitives = [SolidPrimitive(type=SolidPrimitive.BOX, dimensions=[0.2, 0.2, 0.2])]
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = 0.45, 0.25, 0.25
    box.primitive_poses = [pose]
    scene = PlanningScene(is_diff=True)
    scene.world.collision_objects = [box]
    assert at_ready.call(apply, ApplyPlanningScene.Request(scene=scene)).success
    status, result = at_ready.do(MoveGroup, "move_action", to_pose((0.45, 0.25, 0.25)))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code.val == MoveItErrorCodes.GOAL_IN_COLLISION
    assert "box" in getattr(result.error_code, "message", "box")  # not on Humble
    box.operation = CollisionObject.REMOVE
    assert at_ready.call(apply, ApplyPlanningScene.Request(scene=scene)).success
    status, _ = at_ready.do(MoveGroup, "move_action", to_pose((0.45, 0.25, 0.25)))
    assert status == GoalStatus.STATUS_SUCCEEDED


def test_cancelling_in_mid_motion_stops_the_arm_where_it_is(at_ready: SimGraph) -> None:
    goal = READY + np.array((1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    begun: list[Any] = []
    handle = at_ready.send(
        FollowJointTrajectory, CONTROLLER, trajectory(at_ready, goal, 8), begun.append
    )
    at_ready.wait_until(lambda: len(begun) > 3, "feedback")
    cancelled = at_ready.result_of(handle.cancel_goal_async(), "the cancellation")
    assert cancelled.goals_canceling
    status, _ = at_ready.end_of(handle)
    assert status == GoalStatus.STATUS_CANCELED
    states = at_ready.listen(JointState, "/joint_states")
    at_ready.wait_until(lambda: len(states) > 10, "joint states")
    first = [state.position[0] for state in states]
    assert READY[0] < first[0] < goal[0] - 0.1
    assert max(first) - min(first) < 0.002


def test_what_is_executed_goes_on_in_spite_of_a_cancel_until_a_stop_is_published(
    at_ready: SimGraph,
) -> None:
    """As with move_group itself."""
    slow = to_joints(READY + np.array((1.5, 0, 0, 0, 0, 0, 0)))
    slow.request.max_velocity_scaling_factor = 0.1
    slow.planning_options.plan_only = True
    stop = at_ready.client.create_publisher(String, STOP, 10)
    _, plan = at_ready.do(MoveGroup, "move_action", slow)
    states = at_ready.listen(JointState, "/joint_states")

    def turned_rad() -> float:
        return float(states[-1].position[0] - READY[0]) if states else 0.0

    goal = ExecuteTrajectory.Goal(trajectory=plan.planned_trajectory)
    handle = at_ready.send(ExecuteTrajectory, "execute_trajectory", goal)
    at_ready.wait_until(lambda: turned_rad() > 0.05, "motion")
    at_ready.result_of(handle.cancel_goal_async(), "the cancellation")
    at_ready.wait_until(lambda: turned_rad() > 0.3, "more of it")
    stop.publish(String(data="stop"))
    status, result = at_ready.end_of(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code.val == MoveItErrorCodes.PREEMPTED
    assert turned_rad() < 1.4


def test_a_newer_goal_takes_the_place_of_the_old_one(at_ready: SimGraph) -> None:
    slow = to_joints(READY + np.array((1.5, 0, 0, 0, 0, 0, 0)))
    slow.request.max_velocity_scaling_factor = 0.1
    states: list[str] = []
    first = at_ready.send(MoveGroup, "move_action", slow, lambda f: states.append(f.state))
    at_ready.wait_until(lambda: "MONITOR" in states, "motion")
    status, result = at_ready.do(MoveGroup, "move_action", to_joints(READY))
    assert status == GoalStatus.STATUS_SUCCEEDED
    status, result = at_ready.end_of(first)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code.val == MoveItErrorCodes.PREEMPTED


def test_a_trajectory_from_elsewhere_or_for_other_joints_is_refused(at_ready: SimGraph) -> None:
    elsewhere = trajectory(at_ready, np.array(READY) + 0.3, 0)
    status, result = at_ready.do(FollowJointTrajectory, CONTROLLER, elsewhere)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.error_code == FollowJointTrajectory.Result.INVALID_GOAL
    others = trajectory(at_ready, READY, 2)
    others.trajectory.joint_names = [f"fr3_joint{n}" for n in range(1, 8)]
    status, result = at_ready.do(FollowJointTrajectory, CONTROLLER, others)
    assert result.error_code == FollowJointTrajectory.Result.INVALID_JOINTS


def test_the_hand_closes_on_a_cube_and_says_that_it_stalled(at_ready: SimGraph) -> None:
    assert at_ready.sim.robot is not None
    world = at_ready.sim.robot.world
    # The simulator's truth stands in for somebody who has looked.
    cube = world.things()["red cube"]
    x, y, _ = cube.translation_m
    yaw = 2 * math.atan2(cube.rotation_xyzw[2], cube.rotation_xyzw[3])
    over = to_pose((x, y, 0.15))
    o = over.request.goal_constraints[0].orientation_constraints[0].orientation
    yaw = math.remainder(yaw, math.pi / 2)
    o.x, o.y, o.z, o.w = math.cos(yaw / 2), math.sin(yaw / 2), 0.0, 0.0
    status, result = at_ready.do(MoveGroup, "move_action", over)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.error_code
    client = at_ready.client.create_client(GetCartesianPath, "compute_cartesian_path")
    request = down_to((x, y, 0.02))
    request.waypoints[0].orientation = o
    plan = at_ready.call(client, request)
    assert plan.fraction == 1.0, plan.error_code.message
    goal = ExecuteTrajectory.Goal(trajectory=plan.solution)
    status, _ = at_ready.do(ExecuteTrajectory, "execute_trajectory", goal)
    assert status == GoalStatus.STATUS_SUCCEEDED
    status, result = at_ready.do(GripperCommand, GRIPPER, grip(0.0))
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.stalled
    assert not result.reached_goal
    width_m = world.thing_size("red cube")[0]
    assert 2 * result.position == pytest.approx(width_m, abs=0.003)
    status, result = at_ready.do(GripperCommand, GRIPPER, grip(0.04))
    assert result.reached_goal
    assert not result.stalled


def test_deactivation_ends_what_moves_and_refuses_goals_until_it_is_active_again(
    at_ready: SimGraph,
) -> None:
    goal = READY + np.array((1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    begun: list[Any] = []
    handle = at_ready.send(
        FollowJointTrajectory, CONTROLLER, trajectory(at_ready, goal, 8), begun.append
    )
    at_ready.wait_until(lambda: bool(begun), "feedback")
    assert at_ready.transition(Transition.TRANSITION_DEACTIVATE)
    status, result = at_ready.end_of(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert "stopped" in result.error_string
    assert not at_ready.send(GripperCommand, GRIPPER, grip(0.0)).accepted
    assert at_ready.transition(Transition.TRANSITION_ACTIVATE)
    assert at_ready.do(MoveGroup, "move_action", to_joints(READY))[0] == GoalStatus.STATUS_SUCCEEDED


# --- the senses -----------------------------------------------------------------------------------


def test_pictures_have_the_clocks_stamp_and_a_transform_at_it(at_ready: SimGraph) -> None:
    color = at_ready.listen(Image, "/front/color/image_raw")
    packed = at_ready.listen(CompressedImage, "/front/color/image_raw/compressed")
    depth = at_ready.listen(Image, "/front/aligned_depth_to_color/image_raw")
    info = at_ready.listen(CameraInfo, "/front/color/camera_info")
    wrist = at_ready.listen(Image, "/wrist/aligned_depth_to_color/image_raw")
    clock = at_ready.listen(Clock, "/clock")
    at_ready.wait_until(lambda: all((color, packed, depth, info, wrist)), "pictures")
    stamp_ns = messages.stamp_ns_of(color[-1].header.stamp)
    for got in (packed, depth, info):
        at_ready.wait_until(
            lambda got=got: stamp_ns in [messages.stamp_ns_of(m.header.stamp) for m in got],
            "the same stamp",
        )
        assert got[-1].header.frame_id == "front_color_optical_frame"
    assert (color[-1].width, color[-1].height, color[-1].encoding) == (640, 480, "rgb8")
    assert depth[-1].encoding == "16UC1"
    at_ready.wait_until(
        lambda: messages.stamp_ns_of(clock[-1].clock) >= stamp_ns, "the clock at that stamp"
    )
    wrist_ns = messages.stamp_ns_of(wrist[-1].header.stamp)
    front = at_ready.frame_at("panda_link0", "front_color_optical_frame", stamp_ns)
    assert front.translation_m[2] > 0.1
    hand = at_ready.frame_at("panda_link0", wrist[-1].header.frame_id, wrist_ns)
    assert hand.translation_m[2] > 0.1


def test_the_brain_points_at_the_true_thing_in_the_simulators_picture(at_ready: SimGraph) -> None:
    brain = BrainNode(
        parameter_overrides=[
            Parameter("use_sim_time", value=True),
            Parameter("color_topic", value="/front/color/image_raw"),
            Parameter("depth_topic", value="/front/aligned_depth_to_color/image_raw"),
            Parameter("max_frame_age_s", value=60.0),
        ]
    )
    at_ready.executor.add_node(brain)
    change = at_ready.client.create_client(ChangeState, "/brain/change_state")
    for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert at_ready.call(change, ChangeState.Request(transition=Transition(id=step))).success
    infos = at_ready.listen(CameraInfo, "/front/color/camera_info")
    at_ready.wait_until(lambda: len(infos) > 3, "pictures")
    ask = at_ready.client.create_client(Ground, "/brain/ground")
    answer = at_ready.call(ask, Ground.Request(target="the red cube"))
    assert answer.success, answer.message
    assert answer.target.header.frame_id == "panda_link0"
    place = (answer.target.point.x, answer.target.point.y, answer.target.point.z)
    assert at_ready.sim.robot is not None
    cube = at_ready.sim.robot.world.things()["red cube"].translation_m
    assert math.dist(place, cube) < 0.04  # on its surface; it is at most 5 cm wide
    at_ready.executor.remove_node(brain)
    brain.release()
    brain.destroy_node()
