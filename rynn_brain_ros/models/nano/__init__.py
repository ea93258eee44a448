"""The ``nano`` engine: RynnBrain-nano, the small model whose weights come with the package.

It is an ordinary checkpoint of the Qwen3-VL architecture in the folder `CHECKPOINT`, opened by the
same code as any other; what it knows, and how well, is in its model card there.
"""

from __future__ import annotations

from pathlib import Path

from rynn_brain_ros.models.local import open_local
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import Engine

CHECKPOINT = Path(__file__).parent / "RynnBrain-nano"


def open_nano(quantization: str = "", progress: Progress = untold) -> Engine:
    """Opens it, in 32 bits where it is not quantized: it is small enough, and many processors
    are slow in 16. Raises what `open_local` does."""
    spec = f"{CHECKPOINT}#{quantization}" if quantization else str(CHECKPOINT)
    return open_local(spec, progress, dtype="" if quantization else "F32")
