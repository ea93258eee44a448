"""An action server in a process of its own, which can be killed in the middle of its work."""

from __future__ import annotations


def mortal_server(type_: str, name: str) -> str:
    """A program for ``python -c`` that serves ``type_`` (``package/Action``) at ``name``, and
    prints a line when it has taken a goal."""
    package, action = type_.split("/")
    return f"""
import time, rclpy
from {package}.action import {action}
from rclpy.action import ActionServer

def work(goal):
    print("taken", flush=True)
    time.sleep(1e4)

rclpy.init()
node = rclpy.create_node("mortal")
server = ActionServer(node, {action}, "{name}", work)
rclpy.spin(node)
"""
