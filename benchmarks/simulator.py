"""What the table world costs: physics against real time, and RGB-D pictures per second.

    python benchmarks/simulator.py [--arm-look meshes]

Needs ``pip install '.[sim]'``, for the meshes ``[sim,meshes]``. The
arm swings while it is timed, and pictures have the noise of a real camera. The ratio is simulated
time over wall time, physics and contact watch only.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace

from rynn_brain_ros.sim.panda import READY
from rynn_brain_ros.sim.panda_meshes import ARM_LOOKS, PLAIN
from rynn_brain_ros.sim.table import TableWorld
from rynn_brain_ros.sim.table_layout import random_scene

SIMULATED_S = 5.0
SIZES = ((320, 240), (640, 480))


class Swing:
    """Turns the arm about its first axis, to and fro."""

    def __init__(self, world: TableWorld) -> None:
        self.world, self.elapsed_s = world, 0.0
        world.add_controller(self)

    def __call__(self, period_s: float) -> None:
        self.elapsed_s += period_s
        angle = READY[0] + 0.5 * math.sin(2.0 * self.elapsed_s)
        self.world.data.actuator("panda_joint1").ctrl[0] = angle


def best_of_five(work: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - start)
    return min(rounds)


def pictures_per_second(world: TableWorld, draw: Callable[[], object], count: int = 10) -> float:
    draw()  # the first one opens the renderer
    return count / best_of_five(lambda: [draw() for _ in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arm-look", default=PLAIN, choices=ARM_LOOKS)
    arm = parser.parse_args().arm_look
    scene = random_scene(0)
    scene = replace(scene, look=replace(scene.look, arm=arm))
    start = time.perf_counter()
    world = TableWorld(scene)
    built_s = time.perf_counter() - start
    Swing(world)
    factor = SIMULATED_S / best_of_five(lambda: world.step(SIMULATED_S))
    steps = factor / world.model.opt.timestep
    print(f"{len(scene.things)} things, world built in {built_s:.3f} s")
    print(f"\n{'physics, steps per second':38}{steps:10.0f}")
    print(f"{'physics, times real time':38}{factor:10.1f}")
    figures: dict[str, object] = {"name": "simulator", "arm_look": arm}
    figures["physics_steps_per_second"] = round(steps)
    world.close()
    for width, height in SIZES:
        world = TableWorld(scene, width, height)
        exact = pictures_per_second(world, lambda world=world: world.exact_picture("front"))
        noisy = pictures_per_second(world, lambda world=world: world.render("front"))
        print(f"{f'RGB-D {width}x{height}, exact, per second':38}{exact:10.1f}")
        print(f"{f'RGB-D {width}x{height}, with noise, per second':38}{noisy:10.1f}")
        figures[f"rgbd_per_second_{width}x{height}"] = round(noisy, 1)
        world.close()
    print(json.dumps({**figures, "ratio": round(factor, 1)}))


if __name__ == "__main__":
    main()
