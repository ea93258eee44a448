"""Fixtures shared by all tests: where the real recordings are, and what is skipped without."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

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
