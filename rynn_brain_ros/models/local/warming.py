"""A first question that nobody asked, so that the first real one does not pay for it.

What only happens once: GPU kernels are chosen and loaded for each shape, weights are paged in, and
bitsandbytes packs its 4 bits for a CPU.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from rynn_brain_ros.language import default_budget
from rynn_brain_ros.memory import select
from rynn_brain_ros.values import EncodedImage, Engine, Frame, FrameSet, Query, Task

_TOKENS = 4
_VISUAL_TOKENS = 10240
"""The visual budget of training, which the frames of a question share."""
_TIMEOUT_S = 600.0


def warm_up(
    engine: Engine, *, width_px: int = 640, height_px: int = 480, n_frames: int = 8
) -> float:
    """Asks about ``n_frames`` pictures of noise in the size of the camera's.

    Returns how long that took in seconds. Raises `EngineError` as the first real question would.
    """
    began = time.monotonic()
    share = _VISUAL_TOKENS // n_frames
    chosen = tuple(select(_frame(i, width_px, height_px)) for i in range(n_frames))
    task = next(task for task in Task if task in engine.info.tasks)
    budget = replace(default_budget(task), max_new_tokens=_TOKENS, timeout_s=_TIMEOUT_S)
    engine.ask(Query("warm-up", task, "Point to the red cube.", FrameSet(chosen, share), budget))
    return time.monotonic() - began


def _frame(index: int, width: int, height: int) -> Frame:
    """Each is another, or the caches would see it once."""
    pixels = np.random.default_rng(index).integers(0, 255, (height, width, 3), dtype=np.uint8)
    image = EncodedImage("rgb8", pixels.tobytes(), width, height, width * 3)
    return Frame("warm-up", index, "camera", image)
