"""The contracts that come with the package, by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.reading_contracts import read_contract
from rynn_brain_ros.values import ConfigError


def find_contract(spec: str) -> Contract:
    """Of a YAML file, or one of ours by its name, such as ``panda``. Raises `ConfigError`."""
    if Path(spec).is_file() or spec.endswith((".yaml", ".yml")):
        return read_contract(Path(spec))
    for folder in _folders():
        if spec and (folder / f"{spec}.yaml").is_file():
            return read_contract(folder / f"{spec}.yaml")
    known = sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})
    raise ConfigError(
        f"no contract {spec!r}: known are {', '.join(known) or 'none'}; or give a .yaml file"
    )


def _folders() -> Iterator[Path]:
    """A checkout, an installed wheel, and the workspaces of ROS."""
    yield Path(__file__).resolve().parents[2] / "config" / "contracts"
    for prefix in (sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(":"))):
        yield Path(prefix) / "share" / "rynn_brain_ros" / "config" / "contracts"
