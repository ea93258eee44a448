"""Watching in a window: it opens or says why not, shows what is meant, and changes nothing."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from rynn_brain_ros.sim.viewing import check_screen
from rynn_brain_ros.values import InputError

SCREEN_PX = (800, 600)
MARKED = """
from rynn_brain_ros.sim.{world} import {World}
from rynn_brain_ros.sim.viewing import TARGET, Viewpoint, Window
from {maker} import {make}

world = {World}({make}(0))
window = Window(world, Viewpoint((0, 0, 0), 2.0, 90.0, -89.0, hidden=(0, 1, 2)))
world.add_controller(window)
for place in ([], [(0.0, 0.0, 0.0)]):
    window.mark(place, color=(0.0, 1.0, 0.0, 1.0))
    world.step(3.0)  # at least as long until it is surely drawn
    print("drawn", flush=True)
    input()
window.close()
world.close()
"""
"""Looks through everything at first at nothing, then at one green ball."""
WORLDS = {
    "table": MARKED.format(
        world="table",
        World="TableWorld",
        maker="rynn_brain_ros.sim.table_layout",
        make="random_scene",
    ),
    "room": MARKED.format(
        world="room", World="RoomWorld", maker="rynn_brain_ros.sim.room", make="random_room"
    ),
}


@dataclass(frozen=True)
class Screen:
    """An X server without hardware."""

    environment: Mapping[str, str]
    memory: Path

    def picture(self) -> np.ndarray:
        """uint8 [H, W, 3], from its memory, which is an XWD file (X11/XWDFile.h)."""
        data = self.memory.read_bytes()
        header = struct.unpack(">25I", data[:100])
        begin, width, height, line, colors = (header[i] for i in (0, 4, 5, 12, 19))
        pixels = np.frombuffer(data, np.uint8, height * line, begin + 12 * colors)
        return pixels.reshape(height, line)[:, : 4 * width].reshape(height, width, 4)[..., 2::-1]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb: apt-get install xvfb")
    yield from served(tmp_path_factory.mktemp("screen"))


def served(folder: Path, *options: str) -> Iterator[Screen]:
    size = "{}x{}x24".format(*SCREEN_PX)
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", size, "-fbdir", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            number = server.stdout.readline().decode().strip()
            here = {**os.environ, "DISPLAY": f":{number}", "WAYLAND_DISPLAY": ""}
            yield Screen(here, folder / "Xvfb_screen0")
        finally:
            server.terminate()


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return monkeypatch


def green(picture: np.ndarray) -> int:
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return int(np.sum((green > 60) & (red < green / 2) & (blue < green / 2)))


# --- what is seen --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_marked_shows_in_a_window_onto(world: str, screen: Screen):
    command = [sys.executable, "-c", WORLDS[world]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    seen = []
    with subprocess.Popen(command, env=screen.environment, text=True, **pipes) as watching:
        for _ in range(2):
            assert watching.stdout.readline() == "drawn\n", watching.stderr.read()
            seen.append(green(screen.picture()))
            watching.stdin.write("\n")
            watching.stdin.flush()
        assert watching.wait(30) == 0
    assert seen[0] == 0 and seen[1] > 100


@pytest.mark.slow
@pytest.mark.parametrize("world", ["table", "room"])
def test_an_episode_goes_as_it_goes_when_nobody_watches(world: str, screen: Screen, tmp_path: Path):
    for folder, more in (("watched", ["--view"]), ("alone", [])):
        command = [sys.executable, "-m", "rynn_brain_ros.cli", "demo", "--world", world, "--json"]
        command += ["--engine", "color-baseline", "--dry-run", *more]
        command += ["--out", str(tmp_path / folder)]
        ran = subprocess.run(
            command, env=screen.environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 1, ran.stderr  # a dry run does nothing, so it does not succeed
    watched, alone = (tmp_path / name / "turns.jsonl" for name in ("watched", "alone"))
    assert watched.read_bytes() == alone.read_bytes()


# --- no screen -----------------------------------------------------------------------------------


def test_without_a_screen_one_is_told_what_to_do_instead(no_screen):
    with pytest.raises(InputError, match=r"no screen .*DISPLAY.*: leave --view out, .* film"):
        check_screen()


def test_a_screen_that_does_not_answer_is_told_at_once(no_screen):
    no_screen.setenv("DISPLAY", ":31415")
    with pytest.raises(InputError, match=r"no window can be opened .*31415.*: leave --view out"):
        check_screen()


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb: apt-get install xvfb")
def test_a_screen_without_opengl_is_told_at_once(no_screen, tmp_path: Path):
    for bare in served(tmp_path, "-extension", "GLX"):
        no_screen.setenv("DISPLAY", bare.environment["DISPLAY"])
        with pytest.raises(InputError, match=r"no window can be opened .*GLX"):
            check_screen()
