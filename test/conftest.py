"""Fixtures shared by all tests: where the real recordings are, and what is skipped without."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from recordings import SMALL_SEED, small_scene

from rynn_brain_ros.sim import Tabletop, example_scene, write_bag

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(os.environ.get("RYNN_BRAIN_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skips = {
        "shared": (SHARED_DATA.is_dir(), f"no recordings at {SHARED_DATA}"),
        "ros": (importlib.util.find_spec("rclpy") is not None, "rclpy is not importable"),
    }
    for item in items:
        for marker, (available, reason) in skips.items():
            if item.get_closest_marker(marker) is not None and not available:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return SHARED_DATA


@pytest.fixture(scope="session")
def small_bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of a rendered table in 160×120, at 0, 0.5 and 1 s. Not to be changed."""
    path = tmp_path_factory.mktemp("small") / "table.mcap"
    write_bag(small_scene(SMALL_SEED), path, n_frames=3, seed=SMALL_SEED)
    return path


@pytest.fixture(scope="session")
def large_scene() -> Tabletop:
    return example_scene(3)


@pytest.fixture(scope="session")
def large_bag(tmp_path_factory: pytest.TempPathFactory, large_scene: Tabletop) -> Path:
    """Two frames of a rendered table in 640×480, where depth is good to millimetres."""
    path = tmp_path_factory.mktemp("large") / "table.mcap"
    write_bag(large_scene, path, n_frames=2, seed=3)
    return path
