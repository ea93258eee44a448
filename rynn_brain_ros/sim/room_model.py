"""A `RoomScene` as a MuJoCo model: what it looks like. Nothing in it moves but the base.

Contacts are not MuJoCo's business here: `RoomWorld` knows the outlines exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from rynn_brain_ros.sim.objects import PAINT
from rynn_brain_ros.sim.room_scene import BASE_RADIUS_M, WALL_M, Block, RoomScene, RoomThing
from rynn_brain_ros.values import Vector3

FORWARD_CAMERA, TOP_CAMERA = "forward", "top"
WIDTH_PX, HEIGHT_PX = 640, 480
HFOV_RAD = math.radians(79.0)
"""The camera that RynnBrain-Nav was trained with: 640×480, 79° wide."""
CAMERA_XYZ_M: Vector3 = (0.12, 0.0, 1.1)
"""Where the forward camera is on the base."""
CAMERA_PITCH_RAD = math.radians(30.0)
"""How far it looks down: the horizon is at the picture's upper edge, and at the lower one the
floor 0.7 m before the base's middle, or the top of a low box 0.5 m before it."""
CEILING_GROUP = 1
"""Geom group of the ceiling alone; all else is in group 0."""
TOP_SCALE = 2
"""How many times larger the picture from above is."""

_TOP_CAMERA_M = 100.0
"""So high that its rays are as good as parallel: what is 1 m high moves outwards by 1 %."""
_TRIM_GRAY = 0.9
_SKIRTING_GRAY = 0.45
_METAL_GRAY = 0.35


def fovy_deg() -> float:
    focal_px = WIDTH_PX / 2 / math.tan(HFOV_RAD / 2)
    return math.degrees(2 * math.atan(HEIGHT_PX / 2 / focal_px))


def top_height_m(scene: RoomScene) -> float:
    """How much of the map the camera above sees in y: the room and its walls."""
    x, y = outer_size_m(scene)
    return max(y, x * HEIGHT_PX / WIDTH_PX)


def outer_size_m(scene: RoomScene) -> tuple[float, float]:
    """The room with its walls, in x and y."""
    x, y = (side + 2 * WALL_M for side in scene.size_m)
    return (x, y)


def room_xml(scene: RoomScene) -> str:
    """MJCF; the base's joints are ``x``, ``y`` and ``yaw`` on the map."""
    body = "".join((*_surroundings(scene), *_cameras_and_lights(scene), *_base()))
    furniture = "".join("".join(_furniture(thing, scene)) for thing in scene.things)
    return (
        f"<mujoco>{_visual(scene)}{_assets(scene)}"
        '<default><geom contype="0" conaffinity="0"/></default>'
        f"<worldbody>{body}{furniture}</worldbody></mujoco>"
    )


def _visual(scene: RoomScene) -> str:
    ambient = _gray(scene.light.ambient)
    return (
        f'<visual><global offwidth="{TOP_SCALE * WIDTH_PX}" offheight="{TOP_SCALE * HEIGHT_PX}"/>'
        f'<headlight ambient="{ambient}" diffuse="0.12 0.12 0.12" specular="0 0 0"/>'
        '<quality offsamples="0"/><map znear="0.005"/></visual>'
    )


def _assets(scene: RoomScene) -> str:
    dark, light, joint = (_warm(scene.floor_gray + step) for step in (-0.015, 0.015, -0.06))
    repeat = 0.5 / scene.tile_m
    return (
        '<asset><texture name="floor" type="2d" builtin="checker" width="256" height="256" '
        f'rgb1="{dark}" rgb2="{light}" mark="edge" markrgb="{joint}"/>'
        f'<material name="floor" texture="floor" texuniform="true" texrepeat="{repeat} {repeat}"/>'
        '<material name="matt" specular="0" shininess="0"/>'
        '<material name="ceiling" emission="0.45" specular="0"/></asset>'
    )


def _cameras_and_lights(scene: RoomScene) -> Iterator[str]:
    direction = " ".join(f"{v:.4f}" for v in scene.light.direction)
    x, y, _ = scene.light.direction
    back = f"{-y:.4f} {x:.4f} -0.6"
    for axis, share in ((direction, 0.7), (back, 0.3)):
        yield (
            f'<light type="directional" castshadow="false" dir="{axis}" pos="0 0 4" '
            f'diffuse="{_gray(scene.light.diffuse * share)}" specular="0 0 0"/>'
        )
    opening = math.degrees(2 * math.atan(top_height_m(scene) / 2 / _TOP_CAMERA_M))
    yield f'<camera name="{TOP_CAMERA}" pos="0 0 {_TOP_CAMERA_M}" fovy="{opening:.6f}"/>'


def _surroundings(scene: RoomScene) -> Iterator[str]:
    (x, y), h = scene.size_m, scene.wall_height_m
    half = f"{x / 2 + WALL_M} {y / 2 + WALL_M}"
    yield f'<geom name="floor" type="plane" size="{half} 1" material="floor"/>'
    yield (
        f'<geom group="{CEILING_GROUP}" type="box" size="{half} 0.02" pos="0 0 {h + 0.02}" '
        f'material="ceiling" rgba="{_gray(0.86)} 1"/>'
    )
    for wall in scene.walls:
        yield _solid(wall, _gray(scene.wall_gray))
        skirting = Block(wall.xy_m, (wall.size_m[0] + 0.02, wall.size_m[1] + 0.02, 0.08))
        yield _solid(skirting, _gray(_SKIRTING_GRAY))


def _furniture(thing: RoomThing, scene: RoomScene) -> Iterator[str]:
    """A body whose origin is on the floor in the thing's middle. A door shows from above by a
    strip on its wall, which nobody sees from inside."""
    x, y = thing.xy_m
    yield f'<body name="{thing.name}" pos="{x:.6f} {y:.6f} 0" euler="0 0 {_deg(thing.yaw_rad)}">'
    yield from _SHAPES[thing.kind](thing)
    if thing.kind == "door":
        lintel = (-WALL_M / 2, 0, scene.wall_height_m + 0.05)
        yield _box(lintel, (WALL_M, thing.size_m[1], 0.02), _paint(thing))
    else:
        yield _shade(thing)
    yield "</body>"


def _shade(thing: RoomThing) -> str:
    """The soft dark patch on the floor under and around furniture."""
    x, y = (side / 2 + 0.04 for side in thing.size_m[:2])
    shape, size = ("cylinder", f"{x} 0.0005") if thing.is_round else ("box", f"{x} {y} 0.0005")
    return f'<geom type="{shape}" size="{size}" pos="0 0 0.0005" material="matt" rgba="0 0 0 0.2"/>'


def _door(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((0, 0, z / 2 + 0.05), (x * 0.6, y + 0.2, z + 0.1), _gray(_TRIM_GRAY))
    yield _box((0, 0, z / 2), (x, y, z), _paint(thing))
    for low, high in ((0.12, 0.45), (0.52, 0.92)):
        size = (x + 0.01, y * 0.7, z * (high - low))
        yield _box((0, 0, z * (low + high) / 2), size, _paint(thing, 0.88))
    yield _box((x / 2 + 0.03, y * 0.42, 1.02), (0.05, 0.12, 0.03), _gray(_METAL_GRAY))


def _cabinet(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((0, 0, z / 2), (x, y, z), _paint(thing))
    for side in (-1, 1):
        yield _box((x / 2, side * y / 4, z / 2), (0.02, y * 0.46, z * 0.92), _paint(thing, 0.88))
        handle = (x / 2 + 0.02, side * 0.05, z * 0.55)
        yield _box(handle, (0.02, 0.02, 0.14), _gray(_METAL_GRAY))


def _shelf(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((-x / 2 + 0.01, 0, z / 2), (0.02, y, z), _paint(thing, 0.85))
    for side in (-1, 1):
        yield _box((0, side * (y / 2 - 0.015), z / 2), (x, 0.03, z), _paint(thing))
    for height in np.linspace(0.015, z - 0.015, 5):
        yield _box((0, 0, float(height)), (x, y, 0.03), _paint(thing))


def _sofa(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((0, 0, 0.19), (x, y, 0.38), _paint(thing, 0.8))
    yield _box((-x / 2 + 0.1, 0, z / 2), (0.2, y, z), _paint(thing, 0.9))
    for side in (-1, 1):
        yield _box((0, side * (y / 2 - 0.09), 0.28), (x, 0.18, 0.56), _paint(thing, 0.9))
        seat = (0.09, side * (y / 4 - 0.09), 0.41)
        yield _box(seat, (x - 0.22, y / 2 - 0.2, 0.08), _paint(thing))


def _table(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    if thing.is_round:
        yield _cylinder((0, 0, z - 0.02), x / 2, 0.04, _paint(thing))
        yield _cylinder((0, 0, z / 2), 0.05, z, _paint(thing, 0.85))
        yield _cylinder((0, 0, 0.015), x / 4, 0.03, _paint(thing, 0.85))
        return
    yield _box((0, 0, z - 0.02), (x, y, 0.04), _paint(thing))
    yield from _legs((x, y), 0.06, z, _paint(thing, 0.85))


def _chair(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((0, 0, 0.44), (x, y, 0.05), _paint(thing))
    yield _box((-x / 2 + 0.02, 0, (0.44 + z) / 2), (0.04, y, z - 0.44), _paint(thing, 0.92))
    yield from _legs((x, y), 0.05, 0.44, _paint(thing, 0.85))


def _box_thing(thing: RoomThing) -> Iterator[str]:
    x, y, z = thing.size_m
    yield _box((0, 0, z / 2 - 0.01), (x - 0.02, y - 0.02, z - 0.02), _paint(thing))
    yield _box((0, 0, z - 0.04), (x, y, 0.08), _paint(thing, 0.88))


def _legs(size: tuple[float, float], width: float, height: float, rgb: str) -> Iterator[str]:
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot = (sx * (size[0] - width) / 2, sy * (size[1] - width) / 2, height / 2)
            yield _box(foot, (width, width, height), rgb)


_SHAPES = {
    "door": _door,
    "cabinet": _cabinet,
    "sofa": _sofa,
    "table": _table,
    "chair": _chair,
    "shelf": _shelf,
    "box": _box_thing,
}


def _base() -> Iterator[str]:
    """A round foot, a mast and the camera on it; it looks along the base's x, a little down."""
    x, y, z = CAMERA_XYZ_M
    down, ahead = math.sin(CAMERA_PITCH_RAD), math.cos(CAMERA_PITCH_RAD)
    yield '<body name="base_link"><joint name="x" type="slide" axis="1 0 0"/>'
    yield '<joint name="y" type="slide" axis="0 1 0"/><joint name="yaw" axis="0 0 1"/>'
    yield _cylinder((0, 0, 0.13), BASE_RADIUS_M, 0.22, _gray(0.2), 'mass="20"')
    yield _box((0.1, 0, 0.25), (0.16, 0.06, 0.02), _gray(0.95))
    yield _box((0, 0, 0.65), (0.05, 0.08, 0.85), _gray(0.3))
    yield _box((x - 0.08, y, z), (0.04, 0.14, 0.04), _gray(0.15))
    yield (
        f'<camera name="{FORWARD_CAMERA}" pos="{x} {y} {z}" fovy="{fovy_deg():.9f}" '
        f'xyaxes="0 -1 0 {down:.12f} 0 {ahead:.12f}"/></body>'
    )


def _solid(block: Block, rgb: str) -> str:
    """A box, or an upright cylinder, from the floor up."""
    (x, y), (sx, sy, h) = block.xy_m, block.size_m
    where = (x, y, h / 2)
    return _cylinder(where, sx / 2, h, rgb) if block.is_round else _box(where, (sx, sy, h), rgb)


def _box(center: Sequence[float], size: Sequence[float], rgb: str) -> str:
    pos = " ".join(f"{v:.5f}" for v in center)
    half = " ".join(f"{v / 2:.5f}" for v in size)
    return f'<geom type="box" pos="{pos}" size="{half}" material="matt" rgba="{rgb} 1"/>'


def _cylinder(
    center: Sequence[float], radius: float, height: float, rgb: str, more: str = ""
) -> str:
    pos = " ".join(f"{v:.5f}" for v in center)
    return (
        f'<geom type="cylinder" pos="{pos}" size="{radius:.5f} {height / 2:.5f}" '
        f'material="matt" rgba="{rgb} 1" {more}/>'
    )


def _paint(thing: RoomThing, shade: float = 1.0) -> str:
    return " ".join(f"{channel * shade:.4f}" for channel in PAINT[thing.color])


def _gray(value: float) -> str:
    return f"{value:.4f} {value:.4f} {value:.4f}"


def _warm(value: float) -> str:
    """A gray with a touch of wood, far from being a colour: saturation 0.07."""
    return f"{value:.4f} {value * 0.97:.4f} {value * 0.93:.4f}"


def _deg(angle_rad: float) -> str:
    return f"{math.degrees(angle_rad):.6f}"
