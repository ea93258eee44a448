"""A pool of pictures on disk, drawn once and looked at many times.

A shard is a folder: ``images.npy`` uint8 [N, 240, 320, 3] as the model is shown them, ``maps.npy``
uint8 [N, 240, 320], which thing each pixel shows, and ``things.json``, the things of each picture.
It has its final name only when it is whole, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.nano.camera import SEEN_PX
from training.nano.pictures import Picture, Seen, table_pictures
from training.nano.team import ALONE, Team


def draw_pool(
    folder: Path,
    seed: int,
    shards: range,
    size: int,
    pictures: Callable[[int], Iterator[Picture]] = table_pictures,
) -> None:
    """``shards`` of ``size`` pictures each, those that are not there yet, of ``pictures`` without
    end from a seed."""
    for number in shards:
        path = folder / f"{seed}-{number:03}"
        if not path.exists():
            _draw_shard(path, pictures(seed * 1000 + number), size)


def _draw_shard(path: Path, pictures: Iterator[Picture], size: int) -> None:
    unfinished = path.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    width, height = SEEN_PX
    images = np.empty((size, height, width, 3), np.uint8)
    maps = np.empty((size, height, width), np.uint8)
    things = []
    for index, picture in enumerate(islice(pictures, size)):
        images[index], maps[index] = picture.pixels(), picture.numbers()
        things.append([asdict(thing) for thing in picture.things])
    np.save(unfinished / "images.npy", images)
    np.save(unfinished / "maps.npy", maps)
    (unfinished / "things.json").write_text(json.dumps(things), encoding="utf-8")
    unfinished.rename(path)


class Pool:
    """The whole shards of some folders as one sequence, read from disk as they are needed."""

    def __init__(self, *folders: Path, team: Team = ALONE) -> None:
        """Of a ``team`` each has shards of its own."""
        everybodys: list[Path] = []
        shards: list[Path] = []
        for folder in folders:
            whole = sorted(path for path in folder.iterdir() if path.suffix != ".part")
            if len(whole) < team.size:
                raise FileNotFoundError(
                    f"{folder} holds {len(whole)} shards for {team.size} workers: draw more"
                )
            everybodys += whole
            shards += whole[team.rank :: team.size]
        self.shards = tuple(path.name for path in everybodys)
        self._images = [np.load(path / "images.npy", mmap_mode="r") for path in shards]
        self._maps = [np.load(path / "maps.npy", mmap_mode="r") for path in shards]
        self._places = [(n, i) for n, maps in enumerate(self._maps) for i in range(len(maps))]
        texts = [(path / "things.json").read_text(encoding="utf-8") for path in shards]
        self._things = [
            tuple(_seen(thing) for thing in things) for text in texts for things in json.loads(text)
        ]

    def __len__(self) -> int:
        return len(self._things)

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB, uint8 [240, 320, 3]."""
        shard, place = self._places[index]
        return np.asarray(self._images[shard][place])

    def numbers(self, index: int) -> NDArray[np.uint8]:
        """Which thing each pixel shows, uint8 [240, 320]."""
        shard, place = self._places[index]
        return np.asarray(self._maps[shard][place])

    def things(self, index: int) -> tuple[Seen, ...]:
        return self._things[index]


def _seen(told: dict[str, Any]) -> Seen:
    spot = told.get("beside")
    return Seen(**{**told, "beside": None if spot is None else tuple(spot)})
