"""What this package says to MoveIt, Nav2 and grippers, and hears from them: the fields it fills or
reads of each message, with their types as ROS 2 Jazzy has them. The other fields stay as they are
in a fresh message. An action's parts are messages of their own, as in ``Spin_Goal``."""

SPOKEN: dict[str, dict[str, str]] = {
    "control_msgs/msg/GripperCommand": {
        "position": "float64",
        "max_effort": "float64",
    },
    "control_msgs/msg/GripperCommand_Goal": {
        "command": "control_msgs/GripperCommand",
    },
    "control_msgs/msg/GripperCommand_Result": {
        "position": "float64",
        "stalled": "bool",
        "reached_goal": "bool",
    },
    "control_msgs/msg/ParallelGripperCommand_Goal": {
        "command": "sensor_msgs/JointState",
    },
    "control_msgs/msg/ParallelGripperCommand_Result": {
        "state": "sensor_msgs/JointState",
        "stalled": "bool",
        "reached_goal": "bool",
    },
    "franka_msgs/msg/ErrorRecovery_Goal": {},
    "franka_msgs/msg/ErrorRecovery_Result": {},
    "franka_msgs/msg/GraspEpsilon": {
        "inner": "float64",
        "outer": "float64",
    },
    "franka_msgs/msg/Grasp_Feedback": {
        "current_width": "float64",
    },
    "franka_msgs/msg/Grasp_Goal": {
        "width": "float64",
        "epsilon": "franka_msgs/GraspEpsilon",
        "speed": "float64",
        "force": "float64",
    },
    "franka_msgs/msg/Grasp_Result": {
        "success": "bool",
        "error": "string",
    },
    "franka_msgs/msg/Homing_Result": {
        "success": "bool",
    },
    "franka_msgs/msg/Move_Feedback": {
        "current_width": "float64",
    },
    "franka_msgs/msg/Move_Goal": {
        "width": "float64",
        "speed": "float64",
    },
    "franka_msgs/msg/Move_Result": {
        "success": "bool",
    },
    "moveit_msgs/msg/AttachedCollisionObject": {
        "link_name": "string",
        "object": "moveit_msgs/CollisionObject",
        "touch_links": "string[]",
    },
    "moveit_msgs/msg/BoundingVolume": {
        "primitives": "shape_msgs/SolidPrimitive[]",
        "primitive_poses": "geometry_msgs/Pose[]",
    },
    "moveit_msgs/msg/CollisionObject": {
        "header": "std_msgs/Header",
        "pose": "geometry_msgs/Pose",
        "id": "string",
        "primitives": "shape_msgs/SolidPrimitive[]",
        "primitive_poses": "geometry_msgs/Pose[]",
        "operation": "byte",
    },
    "moveit_msgs/msg/Constraints": {
        "joint_constraints": "moveit_msgs/JointConstraint[]",
        "position_constraints": "moveit_msgs/PositionConstraint[]",
        "orientation_constraints": "moveit_msgs/OrientationConstraint[]",
    },
    "moveit_msgs/msg/ExecuteTrajectory_Goal": {
        "trajectory": "moveit_msgs/RobotTrajectory",
    },
    "moveit_msgs/msg/ExecuteTrajectory_Result": {
        "error_code": "moveit_msgs/MoveItErrorCodes",
    },
    "moveit_msgs/msg/GetCartesianPath_Request": {
        "header": "std_msgs/Header",
        "start_state": "moveit_msgs/RobotState",
        "group_name": "string",
        "link_name": "string",
        "waypoints": "geometry_msgs/Pose[]",
        "max_step": "float64",
        "jump_threshold": "float64",
        "revolute_jump_threshold": "float64",
        "avoid_collisions": "bool",
        "max_velocity_scaling_factor": "float64",
        "max_acceleration_scaling_factor": "float64",
    },
    "moveit_msgs/msg/GetCartesianPath_Response": {
        "solution": "moveit_msgs/RobotTrajectory",
        "fraction": "float64",
        "error_code": "moveit_msgs/MoveItErrorCodes",
    },
    "moveit_msgs/msg/JointConstraint": {
        "joint_name": "string",
        "position": "float64",
        "tolerance_above": "float64",
        "tolerance_below": "float64",
        "weight": "float64",
    },
    "moveit_msgs/msg/MotionPlanRequest": {
        "workspace_parameters": "moveit_msgs/WorkspaceParameters",
        "start_state": "moveit_msgs/RobotState",
        "goal_constraints": "moveit_msgs/Constraints[]",
        "pipeline_id": "string",
        "planner_id": "string",
        "group_name": "string",
        "num_planning_attempts": "int32",
        "allowed_planning_time": "float64",
        "max_velocity_scaling_factor": "float64",
        "max_acceleration_scaling_factor": "float64",
    },
    "moveit_msgs/msg/MoveGroup_Feedback": {
        "state": "string",
    },
    "moveit_msgs/msg/MoveGroup_Goal": {
        "request": "moveit_msgs/MotionPlanRequest",
        "planning_options": "moveit_msgs/PlanningOptions",
    },
    "moveit_msgs/msg/MoveGroup_Result": {
        "error_code": "moveit_msgs/MoveItErrorCodes",
        "planned_trajectory": "moveit_msgs/RobotTrajectory",
    },
    "moveit_msgs/msg/MoveItErrorCodes": {
        "val": "int32",
        "message": "string",
    },
    "moveit_msgs/msg/OrientationConstraint": {
        "header": "std_msgs/Header",
        "orientation": "geometry_msgs/Quaternion",
        "link_name": "string",
        "absolute_x_axis_tolerance": "float64",
        "absolute_y_axis_tolerance": "float64",
        "absolute_z_axis_tolerance": "float64",
        "parameterization": "uint8",
        "weight": "float64",
    },
    "moveit_msgs/msg/PlanningOptions": {
        "planning_scene_diff": "moveit_msgs/PlanningScene",
        "plan_only": "bool",
    },
    "moveit_msgs/msg/PlanningScene": {
        "robot_state": "moveit_msgs/RobotState",
        "world": "moveit_msgs/PlanningSceneWorld",
        "is_diff": "bool",
    },
    "moveit_msgs/msg/PlanningSceneWorld": {
        "collision_objects": "moveit_msgs/CollisionObject[]",
    },
    "moveit_msgs/msg/PositionConstraint": {
        "header": "std_msgs/Header",
        "link_name": "string",
        "constraint_region": "moveit_msgs/BoundingVolume",
        "weight": "float64",
    },
    "moveit_msgs/msg/RobotState": {
        "attached_collision_objects": "moveit_msgs/AttachedCollisionObject[]",
        "is_diff": "bool",
    },
    "moveit_msgs/msg/RobotTrajectory": {
        "joint_trajectory": "trajectory_msgs/JointTrajectory",
    },
    "moveit_msgs/msg/WorkspaceParameters": {
        "header": "std_msgs/Header",
        "min_corner": "geometry_msgs/Vector3",
        "max_corner": "geometry_msgs/Vector3",
    },
    "nav2_msgs/msg/BackUp_Goal": {
        "target": "geometry_msgs/Point",
        "speed": "float32",
        "time_allowance": "builtin_interfaces/Duration",
    },
    "nav2_msgs/msg/BackUp_Result": {
        "error_code": "uint16",
        "error_msg": "string",
    },
    "nav2_msgs/msg/DriveOnHeading_Goal": {
        "target": "geometry_msgs/Point",
        "speed": "float32",
        "time_allowance": "builtin_interfaces/Duration",
    },
    "nav2_msgs/msg/DriveOnHeading_Result": {
        "error_code": "uint16",
        "error_msg": "string",
    },
    "nav2_msgs/msg/FollowPath_Goal": {
        "path": "nav_msgs/Path",
        "controller_id": "string",
    },
    "nav2_msgs/msg/FollowPath_Result": {
        "error_code": "uint16",
        "error_msg": "string",
    },
    "nav2_msgs/msg/NavigateThroughPoses_Goal": {
        "poses": "geometry_msgs/PoseStamped[]",
        "behavior_tree": "string",
    },
    "nav2_msgs/msg/NavigateToPose_Feedback": {
        "distance_remaining": "float32",
    },
    "nav2_msgs/msg/NavigateToPose_Goal": {
        "pose": "geometry_msgs/PoseStamped",
        "behavior_tree": "string",
    },
    "nav2_msgs/msg/NavigateToPose_Result": {
        "error_code": "uint16",
        "error_msg": "string",
    },
    "nav2_msgs/msg/Spin_Goal": {
        "target_yaw": "float32",
        "time_allowance": "builtin_interfaces/Duration",
    },
    "nav2_msgs/msg/Spin_Result": {
        "error_code": "uint16",
        "error_msg": "string",
    },
}
