"""What a parameter file says for a node, by ROS's own rules.

ROS passes over a file that is not there, and over sections that fit no node, without an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rynn_brain_ros.values import ConfigError

_PARAMETERS = "ros__parameters"


def sections(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """(which nodes, their parameters), in the file's order. Parameters of a group have dotted
    names. Raises `ConfigError` where the file cannot be read."""
    try:
        # What is written twice is no error: ROS reads on.
        documents = list(yaml.safe_load_all(file.read_bytes()))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no YAML: {error}") from error
    return [found for document in documents for found in _sections(document, "")]


def _sections(tree: Any, nodes: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Namespaces may be written as groups, too: ``left: {act: {ros__parameters: …}}``."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == _PARAMETERS and nodes:
            yield nodes, dict(_flat(value, ""))
        else:
            yield from _sections(value, f"{nodes.removesuffix('/')}/{key}" if nodes else str(key))


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def applies(nodes: str, node: str) -> bool:
    """Whether a section is for the node of this full name, such as ``/left/act``: ``*`` stands for
    one name and ``**`` for any number of them. A section without a slash is in no namespace."""
    pattern = re.escape(f"/{nodes.removeprefix('/')}")
    pattern = pattern.replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"(/\w+)")
    return re.fullmatch(pattern, node) is not None


def parameters_for(node: str, file: Path) -> dict[str, Any] | None:
    """All parameters that a file has for the node of this full name, or None where no section is
    for it. Raises `ConfigError` where the file cannot be read."""
    fitting = [parameters for nodes, parameters in sections(file) if applies(nodes, node)]
    merged = {name: value for each in fitting for name, value in each.items()}
    return merged if fitting else None
