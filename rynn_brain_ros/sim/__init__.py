"""Scenes with known truth. So far: a small ray-cast table that needs no simulator."""

from rynn_brain_ros.sim.tabletop import Tabletop, example_scene, write_bag

__all__ = ["Tabletop", "example_scene", "write_bag"]
