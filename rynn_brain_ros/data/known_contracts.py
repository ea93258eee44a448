"""The contracts that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from rynn_brain_ros.config import bundled
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.reading_contracts import read_contract
from rynn_brain_ros.values import ConfigError


def find_contract(spec: str) -> Contract:
    """Of a YAML file, or one of ours by its name, such as ``panda``. Raises `ConfigError`."""
    if Path(spec).is_file() or spec.endswith((".yaml", ".yml")):
        return read_contract(Path(spec))
    known = bundled("contracts")
    if spec in known:
        return read_contract(known[spec])
    raise ConfigError(
        f"no contract {spec!r}: known are {', '.join(known) or 'none'}; or give a .yaml file"
    )
