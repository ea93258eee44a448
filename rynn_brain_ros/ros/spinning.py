"""How nodes of ours live in a process, and end."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from rynn_brain_ros.interrupts import Interrupt

N = TypeVar("N", bound=Node)
_LAST_CALLBACKS_S = 5.0
"""Humble's executor waits for callbacks that only it could go on with."""


def spin(
    make: Callable[[], N],
    executor: Callable[[], Executor],
    release: Callable[[N], None] = lambda _: None,
    arguments: list[str] | None = None,
) -> int:
    """As `spin_together`, for one node."""
    return spin_together((make,), executor, release, arguments)


def spin_together(
    makes: Sequence[Callable[[], N]],
    executor: Callable[[], Executor],
    release: Callable[[N], None] = lambda _: None,
    arguments: list[str] | None = None,
) -> int:
    """Until Ctrl-C or SIGTERM, which are how nodes end. Returns the exit status.

    A node can still publish, and callbacks run, while ``release`` makes an end of what it does,
    one node after the other in their order, also where one of them failed. Signals that come then
    change nothing: a terminal's Ctrl-C comes twice, from itself and from ros2 launch.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    ending, failed, released = Interrupt(), threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    nodes, spinning = [make() for make in makes], executor()
    for node in nodes:
        spinning.add_node(node)

    def run() -> None:
        while not released.is_set():
            try:
                keep_spinning(spinning)
                break
            except ExternalShutdownException:
                break  # somebody else ended the context
            except Exception:  # noqa: BLE001  # whatever it is, the process ends with it
                if released.is_set():
                    break  # Lyrical's executor ends its threads while it hands out work
                traceback.print_exc()
                failed.set()
                ending.set()  # goals are still to be cancelled, which takes callbacks
        ending.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not ending.wait(1.0):
        pass  # so that Python gets to see signals
    for node in nodes:
        try:
            release(node)
        except Exception:  # noqa: BLE001  # the others have goals to cancel, too
            traceback.print_exc()
            failed.set()
    released.set()
    spinning.shutdown(_LAST_CALLBACKS_S)
    thread.join()
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # while the interpreter ends
    return int(failed.is_set())


def execute(handle: Any) -> None:
    """Of an action's goal that was taken. rclpy's own looks whether a cancel is wanted and then
    changes the state; where one comes in between it raises, and now it sees it."""
    try:
        handle.execute()
    except Exception:
        if not handle.is_cancel_requested:
            raise
        handle.execute()


def keep_spinning(executor: Executor) -> None:
    """Goes on where rclpy's executor met what another thread was just destroying, as happens when
    a node is cleaned up: https://github.com/ros2/rclpy/issues/1284. Each look begins anew."""
    while True:
        try:
            executor.spin()
            return
        except InvalidHandle:
            text = "rclpy met something that was being destroyed, and goes on"
            get_logger("spinning").info(text)
