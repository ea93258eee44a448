"""The table world: a Franka arm, things to move, a fixed and a wrist camera, true physics.

It needs MuJoCo (``pip install '.[sim]'``), and OpenGL for pictures only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.sim.contacts import ContactWatch
from rynn_brain_ros.sim.panda import (
    BASE_FRAME,
    FINGER_BODIES,
    FINGERS,
    HAND,
    JOINTS,
    TCP_FRAME,
    TCP_SITE,
)
from rynn_brain_ros.sim.rendering import (
    RGB,
    Depth,
    SceneRenderer,
    as_measured,
    load_mujoco,
    pinhole_info,
    with_grain,
)
from rynn_brain_ros.sim.servos import Account
from rynn_brain_ros.sim.table_furnishing import DRAWER, bead_name
from rynn_brain_ros.sim.table_scene import (
    FOVY_DEG,
    FRONT_FRAME,
    WRIST_FRAME,
    TableScene,
    ready_data,
    scene_spec,
    wrist_mount,
)
from rynn_brain_ros.sim.world import START_NS, Controller, JointState, Picture
from rynn_brain_ros.values import CameraInfo, InputError, RigidTransform, Vector3

LINKS = (*(f"panda_link{number}" for number in range(1, 9)), HAND, *FINGER_BODIES)
_OPTICAL = {"front": FRONT_FRAME, "wrist": WRIST_FRAME}
_PERIOD_NS = 20_000_000
_SETTLE_PERIODS = 15
_WITH_PERSON_M: Vector3 = (1.6, -1.4, -0.7)
"""Where nobody looks."""


class TableWorld:
    """A `World`. ``model`` and ``data`` are MuJoCo's own, for those who move the arm: its
    actuators are those of `panda.panda_spec`. ``given`` are the things that a person has taken,
    ``streamed`` is what a `CommandedArm` was told.

    The arm begins at READY with an open hand, and the things have come to rest. Draw pictures
    from one thread, and close it. Raises `InputError` where MuJoCo is missing, and on the first
    picture where OpenGL is.
    """

    control_period_s = _PERIOD_NS / 1e9
    base_frame = BASE_FRAME

    def __init__(self, scene: TableScene, width: int = 640, height: int = 480) -> None:
        self._mj = load_mujoco()
        self.scene, self.width, self.height = scene, width, height
        self.model = scene_spec(scene, width, height).compile()
        self.data = ready_data(self.model)
        if scene.drawer is not None:
            self.data.joint(DRAWER).qpos[0] = scene.drawer.out_m
        self._steps = round(self.control_period_s / self.model.opt.timestep)
        self._mj.mj_step(self.model, self.data, nstep=_SETTLE_PERIODS * self._steps)
        self._periods = 0
        self._controllers: list[Controller] = []
        movable = [thing.name for thing in scene.things]
        self._watch = ContactWatch(self.model, movable + [DRAWER] * (scene.drawer is not None))
        self._bodies = {thing.name: self.model.body(thing.name).id for thing in scene.things}
        self._first_m = self._highest_m = self._heights_m()
        self._renderer: SceneRenderer | None = None
        self._frozen: dict[str, Picture] = {}
        self._hole: str | None = None
        self.given: frozenset[str] = frozenset()
        self.streamed = Account()

    # --- time -----------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        return START_NS + self._periods * _PERIOD_NS

    def step(self, seconds: float) -> None:
        """As many whole control periods as it takes to let ``seconds`` pass."""
        for _ in range(math.ceil(seconds / self.control_period_s - 1e-6)):
            for controller in self._controllers:
                controller(self.control_period_s)
            self._mj.mj_step(self.model, self.data, nstep=self._steps)
            self._watch.count(self.data)
            self._highest_m = np.maximum(self._highest_m, self._heights_m())
            self._periods += 1

    def add_controller(self, controller: Controller) -> None:
        self._controllers.append(controller)

    # --- sensors --------------------------------------------------------------------------------

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(_OPTICAL)

    def render(self, camera: str) -> Picture:
        """Colour with a camera's grain, depth with its noise and holes; the same at the same
        stamp however often it is asked. `InputError` for a camera that is not there."""
        if camera in self._frozen:
            return self._frozen[camera]
        rgb, depth_m = self.exact_picture(camera)
        rng = np.random.default_rng((self.scene.seed, self.cameras.index(camera), self._periods))
        measured = as_measured(depth_m, self.scene.noise, rng)
        if self._hole is not None:
            measured[self.mask(camera, self._hole)] = 0.0
        return Picture(camera, self.now_ns, with_grain(rgb, rng), measured)

    def exact_picture(self, camera: str) -> tuple[RGB, Depth]:
        """uint8 [H, W, 3], and metres along the optical axis [H, W], as no camera sees them."""
        return self._drawing(camera).color_and_depth(self.data, camera)

    def mask(self, camera: str, thing: str) -> Any:
        """Where the thing is seen, bool [H, W]."""
        self.scene.thing(thing)
        geoms = self._drawing(camera).geoms_seen(self.data, camera)
        body = self.model.body(thing).id
        return (geoms >= 0) & (self.model.geom_bodyid[geoms] == body)

    def camera_info(self, camera: str) -> CameraInfo:
        self._check(camera)
        return pinhole_info(self.width, self.height, FOVY_DEG[camera], _OPTICAL[camera])

    def static_transforms(self) -> tuple[RigidTransform, ...]:
        return (self.scene.T_base_front, wrist_mount())

    def transforms(self) -> tuple[RigidTransform, ...]:
        """Links, hand, fingers and the tool centre point, each in its parent."""
        links = [self._link(name) for name in LINKS]
        site = self.model.site(TCP_SITE)
        parent = self.model.body(site.bodyid[0]).name
        return (*links, self._transform(parent, TCP_FRAME, site.pos, site.quat))

    def joint_state(self) -> JointState:
        names = (*JOINTS, *FINGERS)
        joints = [self.data.joint(name) for name in names]
        return JointState(
            self.now_ns,
            names,
            tuple(float(joint.qpos[0]) for joint in joints),
            tuple(float(joint.qvel[0]) for joint in joints),
            tuple(float(joint.qfrc_actuator[0]) for joint in joints),
        )

    def copy_state(self, data: Any) -> None:
        """Puts arm and things in ``data``, an ``mjData`` of ``model``, where they are now."""
        data.qpos[:] = self.data.qpos

    # --- truth, for evaluation only -------------------------------------------------------------

    def things(self) -> Mapping[str, RigidTransform]:
        """The true pose of each thing's middle in the base frame, now."""
        bodies = {thing.name: self.data.body(thing.name) for thing in self.scene.things}
        return {
            name: self._transform(BASE_FRAME, name, body.xpos, body.xquat)
            for name, body in bodies.items()
        }

    def thing_size(self, name: str) -> Vector3:
        """x, y, z in metres in its own frame; `InputError` for a thing that is not there."""
        return self.scene.thing(name).size_m

    def risen_m(self, name: str) -> float:
        """How much higher than at first its middle ever was."""
        risen = dict(zip(self._bodies, self._highest_m - self._first_m, strict=True))
        return float(risen[name])

    def held_thing(self) -> str | None:
        """The thing that both fingers press on, or the drawer."""
        return self._watch.held(self.data)

    def drawer_out_m(self) -> float:
        """How far the drawer is out; NaN where there is none."""
        return math.nan if self.scene.drawer is None else float(self.data.joint(DRAWER).qpos[0])

    def filled(self, name: str) -> int:
        """How many beads, of any filling, lie within the thing as seen from above, over the table
        and under its rim."""
        vessel = self.things()[name].translation_m
        width, _, height = self.thing_size(name)
        beads = [
            self.data.body(bead_name(filling, number)).xpos
            for filling in self.scene.fillings
            for number in range(filling.count)
        ]
        return sum(
            math.dist(bead[:2], vessel[:2]) < width / 2 and abs(bead[2] - vessel[2]) < height / 2
            for bead in beads
        )

    def touched(self) -> frozenset[tuple[str, str]]:
        """(robot's body, thing, ``drawer``, ``chest`` or ``table``) that press on each other
        now."""
        return self._watch.touches(self.data)

    def collisions(self, *targets: str) -> int:
        """Control periods so far in which the arm pressed on the table, the chest or a thing,
        other than with the fingers on one of the ``targets``."""
        return self._watch.collisions(targets)

    # --- a person --------------------------------------------------------------------------------

    def take_from_hand(self) -> None:
        """A person takes what the hand holds, out of its fingers and out of the scene."""
        held = self.held_thing()
        if held in self._bodies:
            self.given |= {held}
            self.move_thing(held, _WITH_PERSON_M)

    # --- trouble, for failure episodes ----------------------------------------------------------

    def move_thing(self, name: str, xyz_m: Vector3) -> None:
        """Its middle is at ``xyz_m`` of the base frame at once, at rest, turned as it was."""
        self.scene.thing(name)
        joint = self.data.joint(name)
        joint.qpos[:3], joint.qvel[:] = xyz_m, 0.0
        self._mj.mj_forward(self.model, self.data)

    def freeze_camera(self, camera: str, frozen: bool = True) -> None:
        """From now on `render` returns the picture of now, with its stamp."""
        self._frozen.pop(camera, None)
        if frozen:
            self._frozen[camera] = self.render(camera)

    def set_depth_hole(self, thing: str | None) -> None:
        """From now on no depth is measured on the thing, as on glass; ``None`` ends it."""
        if thing is not None:
            self.scene.thing(thing)
        self._hole = thing

    def close(self) -> None:
        self._controllers.clear()  # who know the world: only the garbage collector would end it
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # --- inside ---------------------------------------------------------------------------------

    def _check(self, camera: str) -> None:
        if camera not in _OPTICAL:
            raise InputError(f"there is no camera '{camera}'; there are: {', '.join(_OPTICAL)}")

    def _drawing(self, camera: str) -> SceneRenderer:
        self._check(camera)
        if self._renderer is None:
            self._renderer = SceneRenderer(self.model, self.width, self.height)
        return self._renderer

    def _heights_m(self) -> NDArray[np.float64]:
        return np.array(self.data.xpos[list(self._bodies.values()), 2])

    def _link(self, name: str) -> RigidTransform:
        body = self.model.body(name)
        parent = self.model.body(body.parentid[0]).name
        outer, inner = self.data.body(parent), self.data.body(name)
        inverse_pos, inverse_quat, pos, quat = np.zeros(3), np.zeros(4), np.zeros(3), np.zeros(4)
        self._mj.mju_negPose(inverse_pos, inverse_quat, outer.xpos, outer.xquat)
        self._mj.mju_mulPose(pos, quat, inverse_pos, inverse_quat, inner.xpos, inner.xquat)
        return self._transform(parent, name, pos, quat)

    def _transform(self, parent: str, child: str, pos: Any, quat: Any) -> RigidTransform:
        x, y, z = map(float, pos)
        qw, qx, qy, qz = map(float, quat)
        return RigidTransform(parent, child, (x, y, z), (qx, qy, qz, qw), self.now_ns)
