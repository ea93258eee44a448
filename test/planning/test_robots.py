"""Whole robots: their settings as plain values, and the loop put together for them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from played_robot import CAMERA, PlayedFloor, PlayedTable, ScriptedEngine, played

from rynn_brain_ros.planning.arm import Arm
from rynn_brain_ros.planning.manipulating import Manipulation
from rynn_brain_ros.planning.navigating import Navigation, NavigationConfig
from rynn_brain_ros.planning.robots import ROBOTS, assemble, panda, rover

BOTH = pytest.mark.parametrize("name", sorted(ROBOTS))


@BOTH
def test_a_robot_moves_nothing_unless_it_is_said(name: str):
    assert ROBOTS[name]().limits.dry_run


@BOTH
def test_a_robot_is_found_by_its_own_name(name: str):
    assert ROBOTS[name]().name == name


@BOTH
def test_what_a_person_must_approve_is_asked_for(name: str):
    limits = ROBOTS[name](dry_run=False, require_approval=True).limits
    assert (limits.dry_run, limits.require_approval) == (False, True)


@BOTH
def test_a_robots_settings_survive_being_written_down(name: str):
    record = ROBOTS[name]().record
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_the_record_holds_every_kind_of_setting():
    record = panda().record
    assert record["limits"]["dry_run"] is True
    assert record["body"]["grasp"]["max_opening_m"] == 0.08
    assert record["body"]["motion"]["posture"] == "ready"
    assert record["body"]["links"][-1] == "panda_tcp"
    assert record["body"]["skills"] == sorted(s.value for s in Arm().skills)
    assert record["body"]["hand_over_m"] == list(Arm().hand_over_m)


def test_the_record_follows_the_settings():
    body = replace(Arm(), hover_m=0.3)
    assert replace(panda(), body=body).record["body"]["hover_m"] == 0.3


def test_the_panda_knows_its_links_from_base_to_tool():
    body = panda().body
    assert isinstance(body, Arm)
    assert (body.links[0], body.links[-1]) == (body.base_frame, body.tool_frame)
    assert len(body.links) == 11


def test_an_arm_manipulates_and_a_base_navigates():
    assert isinstance(played(PlayedTable((), 32), ScriptedEngine()).taker, Manipulation)
    assert isinstance(played(PlayedFloor(), ScriptedEngine()).taker, Navigation)
    assert isinstance(rover().body, NavigationConfig)


def test_a_robot_put_together_is_not_armed_yet():
    table, engine = PlayedTable((), 32), ScriptedEngine()
    actuator = played(table, engine).actuator
    brain, _, arming = assemble(
        panda(dry_run=False), table.perception, table, actuator, lambda q: engine, tell=print
    )
    assert not brain.mover.is_armed(table.now_ns())
    arming.arm(table.now_ns())
    assert brain.mover.is_armed(table.now_ns())


def test_the_loop_watches_the_first_camera_with_the_robots_own_limits():
    settings = replace(panda(), armed_s=5.0)
    whole = played(PlayedTable((), 32), ScriptedEngine(), settings)
    assert whole.brain.sight.camera == CAMERA
    assert whole.brain.gate.limits is settings.limits
    assert whole.brain.config is settings.executive
    assert whole.arming.expires_s == 5.0
