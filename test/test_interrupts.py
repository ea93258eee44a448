"""Signals that come while what they set is waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from rynn_brain_ros.interrupts import Interrupt

_SIGNALLED = """
import signal
from rynn_brain_ros.interrupts import Interrupt
ending = Interrupt()
signal.signal(signal.SIGALRM, lambda *_: ending.set())
signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-4)
for _ in range(200_000):
    ending.wait(1e-6)
signal.setitimer(signal.ITIMER_REAL, 0.0)
print(ending.is_set())
"""


def test_signals_at_any_moment_of_a_wait_end_it():
    """The handler of a `threading.Event` would wait for the lock that the wait holds."""
    command = [sys.executable, "-c", _SIGNALLED]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "True\n"


def test_a_wait_ends_in_time_or_when_another_thread_sets_it():
    ending = Interrupt()
    assert not ending.wait(0.01)
    threading.Timer(0.05, ending.set).start()
    began_s = time.monotonic()
    assert ending.wait(60.0)
    assert time.monotonic() - began_s < 30.0
