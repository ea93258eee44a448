"""Damage of every kind ends in messages, warnings or a BagError: never in anything else."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from bag_makers import make_bag, storage_file, write_strings
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from rynn_brain_ros.bags import BagReader
from rynn_brain_ros.values import BagError

ROUNDS = 60


def seed_file(kind: str, folder: Path) -> Path:
    if kind == "ours":
        return write_strings(folder / "run.mcap", 20)
    plugin = StoragePlugin.SQLITE3 if kind == "sqlite" else StoragePlugin.MCAP
    modes = {"storage": CompressionMode.STORAGE, "message": CompressionMode.MESSAGE}
    mode = modes.get(kind, CompressionMode.NONE)
    return storage_file(make_bag(folder / "bag", 20, plugin=plugin, compression=mode))


def damage(data: bytes, chance: random.Random) -> bytes:
    broken = bytearray(data)
    kind = chance.choice(("flip", "flip", "overwrite", "cut", "insert", "remove"))
    place = chance.randrange(len(broken))
    length = chance.randrange(1, 200)
    if kind == "flip":
        for _ in range(chance.randrange(1, 12)):
            broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
    elif kind == "overwrite":
        broken[place : place + length] = chance.randbytes(length)
    elif kind == "cut":
        del broken[place:]
    elif kind == "insert":
        broken[place:place] = chance.randbytes(length)
    else:
        del broken[place : place + length]
    return bytes(broken)


def read_everything(path: Path) -> int:
    with BagReader(path) as bag:
        bag.info()
        return sum(1 for _ in bag.messages()) + sum(1 for _ in bag.decoded())


@pytest.mark.parametrize("kind", ["ours", "mcap", "storage", "message", "sqlite"])
def test_random_damage_raises_nothing_but_a_bag_error(tmp_path, kind):
    data = seed_file(kind, tmp_path).read_bytes()
    chance = random.Random(f"rynn {kind}")
    survived = 0
    for i in range(ROUNDS):
        broken = damage(data, chance)
        file = tmp_path / f"broken_{i}{'.db3' if kind == 'sqlite' else '.mcap'}"
        file.write_bytes(broken)
        with suppress(BagError):
            survived += read_everything(file) > 0
        file.unlink()
    assert survived > ROUNDS // 3


def test_random_damage_to_metadata_never_loses_a_message(tmp_path):
    folder = make_bag(tmp_path / "bag", 20)
    data = (folder / "metadata.yaml").read_bytes()
    chance = random.Random("rynn metadata")
    for _ in range(ROUNDS):
        (folder / "metadata.yaml").write_bytes(damage(data, chance))
        assert read_everything(folder) == 40
