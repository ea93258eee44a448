"""How much memory is free for a model, in a container too."""

from __future__ import annotations

from pathlib import Path

import pytest

from rynn_brain_ros.models.local import memory


@pytest.mark.parametrize("key", ["inactive_file", "total_inactive_file"])
def test_files_that_were_read_lately_count_as_free_in_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text(f"{4 << 20}\n")
    used.write_text(f"{3 << 20}\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((limit, used),))
    assert memory.available_bytes() == 1 << 20
    (tmp_path / "memory.stat").write_text(f"anon 5\n{key} {2 << 20}\n")
    assert memory.available_bytes() == 3 << 20


def test_a_container_without_a_limit_has_what_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text("max\n")
    used.write_text(f"{3 << 20}\n")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 7 kB\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((limit, used),))
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    assert memory.available_bytes() == 7 * 1024
