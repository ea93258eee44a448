"""The ``nano`` engine: RynnBrain-nano, the small model whose weights come with the package.

It is an ordinary checkpoint of the Qwen3-VL architecture in the folder `CHECKPOINT`, opened by the
same code as any other; what it knows, and how well, is in its model card there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from rynn_brain_ros.models.local import open_local, require_packages
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import Engine, EngineError

_LOG = logging.getLogger(__name__)
CHECKPOINT = Path(__file__).parent / "RynnBrain-nano"


def open_nano(quantization: str = "", progress: Progress = untold) -> Engine:
    """Opens it, in 32 bits where it is not quantized: it is small enough, and many processors
    are slow in 16. A GPU that has no room for it, or does not work, is done without.

    Raises what `open_local` does."""
    spec = f"{CHECKPOINT}#{quantization}" if quantization else str(CHECKPOINT)
    dtype = "" if quantization else "F32"
    try:
        return open_local(spec, progress, dtype)
    except EngineError as error:
        require_packages()
        import torch  # noqa: PLC0415

        if not torch.cuda.is_available():
            raise
        _LOG.warning("RynnBrain-nano runs on the processor: %s", error)
    return open_local(spec, progress, dtype, "cpu")
