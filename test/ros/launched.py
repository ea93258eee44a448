"""A launch file in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


class Launched:
    """``ros2 launch rynn_brain_ros ...`` until the end of the block, by Ctrl-C, with which it has
    to end well. Its logs go into ``folder``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = ["ros2", "launch", "rynn_brain_ros", *arguments]
        environment = {**os.environ, "ROS_LOG_DIR": str(folder)}
        self._process = subprocess.Popen(
            command, env=environment, stdout=sys.stderr, start_new_session=True
        )

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        assert self._process.wait(timeout=60) == 0
