"""What only some parts need, and how to install it."""

from __future__ import annotations

import shlex

EXTRAS = {
    "model": (
        *("torch>=2.6", "transformers>=5.10", "accelerate>=1.1", "safetensors>=0.4"),
        *("jinja2>=3.1", "llguidance>=1.3"),
    ),
    "quantization": ("bitsandbytes>=0.50",),
    "serve": ("starlette>=0.37", "uvicorn>=0.30", "prometheus_client>=0.20"),
    "sim": ("mujoco>=3.3", "av>=12"),
    "meshes": ("rtb-data>=2.0",),
    "data": ("pyarrow>=15", "av>=12"),
    "onnx": ("onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"),
    "policy": ("websockets>=15", "msgpack>=1.0.5", "ruckig>=0.12"),
}
"""As pyproject.toml has them, which is not there once the package is installed."""


def pip_install(*extras: str) -> str:
    """The command that installs what these extras are made of. It names the packages themselves:
    where colcon built this one, or a checkout is merely on the path, pip knows no extra of it."""
    packages = dict.fromkeys(name for extra in extras for name in EXTRAS[extra])
    return f"pip install {shlex.join(packages)}"
