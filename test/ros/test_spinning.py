"""How a process of nodes ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not importable")

pytestmark = pytest.mark.ros

FAILS = """
import threading
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rynn_brain_ros.ros.spinning import spin

class Faulty(Node):
    def __init__(self):
        super().__init__("faulty")
        self.bell = self.create_guard_condition(lambda: self.rung.set())
        self.rung = threading.Event()
        self.create_timer(0.05, self.fail)

    def fail(self):
        raise RuntimeError("a callback failed")

def release(node):
    node.bell.trigger()
    print("a callback ran:", node.rung.wait(10), flush=True)

raise SystemExit(spin(Faulty, lambda: MultiThreadedExecutor(2), release))
"""


def test_where_a_callback_failed_others_run_while_it_is_released():
    """Goals are cancelled there, which takes callbacks."""
    program = textwrap.dedent(FAILS)
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert "a callback ran: True" in ran.stdout, ran.stderr
    assert "a callback failed" in ran.stderr
    assert ran.returncode == 1
