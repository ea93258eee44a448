"""rclpy nodes and message conversion: thin, and the only room that knows ROS's Python."""
