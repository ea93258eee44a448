"""A world that goes on by itself: one goal per actuator at a time, each with one end."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future

import pytest

from rynn_brain_ros.sim.base import BaseActuator
from rynn_brain_ros.sim.live import Cause, Ending, Errand, Lane, LiveWorld, Running
from rynn_brain_ros.sim.room import RoomWorld, random_room
from rynn_brain_ros.values import InputError, SpinGoal

LONG_RAD = 20.0


class Steps:
    """A world's time, without pictures."""

    def __init__(self, world: RoomWorld) -> None:
        self.wait = world.step


class Told:
    """An errand to turn on the spot, and what it is told."""

    def __init__(self, base: BaseActuator, angle_rad: float = 0.5, **options: float) -> None:
        self.ending: Future[Ending] = Future()
        self.fractions: list[float] = []
        self.is_cancelled = False
        self.begun = threading.Event()

        def begin(goal_id: str) -> None:
            self.begun.set()
            base.send(goal_id, SpinGoal(angle_rad))

        self.errand = Errand(
            begin=begin,
            end=self.ending.set_result,
            report=self.fractions.append,
            is_cancelled=lambda: self.is_cancelled,
            **options,
        )


@pytest.fixture
def world() -> RoomWorld:
    return RoomWorld(random_room(1))


@pytest.fixture
def base(world: RoomWorld) -> BaseActuator:
    return BaseActuator(world, world.occupancy())


@pytest.fixture
def lane(world: RoomWorld, base: BaseActuator) -> Lane:
    return Lane("base", base, lambda: world.now_ns)


def run(world: RoomWorld, lane: Lane, seconds: float = 60.0) -> None:
    for _ in range(round(seconds / world.control_period_s)):
        lane.advance()
        if lane.is_idle:
            return
        world.step(world.control_period_s)


def test_an_errand_is_carried_out_and_reports_on_the_way(
    world: RoomWorld, base: BaseActuator, lane: Lane
) -> None:
    told, before = Told(base), world.base_pose().yaw_rad
    lane.submit(told.errand)
    run(world, lane)
    assert told.ending.result().cause is Cause.DONE
    assert told.ending.result().value("angle_rad") == pytest.approx(0.5, abs=1e-3)
    assert math.remainder(world.base_pose().yaw_rad - before, 2 * math.pi) == pytest.approx(
        0.5, abs=1e-3
    )
    assert told.fractions == sorted(told.fractions)


def test_a_newer_errand_stops_the_older_one_and_then_begins(
    world: RoomWorld, base: BaseActuator, lane: Lane
) -> None:
    older, newer = Told(base, LONG_RAD), Told(base)
    lane.submit(older.errand)
    run(world, lane, 1.0)
    lane.submit(newer.errand)
    run(world, lane)
    assert older.ending.result().cause is Cause.PREEMPTED
    assert newer.ending.result().cause is Cause.DONE


def test_an_errand_that_never_began_is_preempted_too(base: BaseActuator, lane: Lane) -> None:
    waiting, newer = Told(base), Told(base)
    lane.submit(waiting.errand)
    lane.submit(newer.errand)
    assert waiting.ending.result().cause is Cause.PREEMPTED
    assert not waiting.begun.is_set()


def test_cancelling_ends_it_as_cancelled(world: RoomWorld, base: BaseActuator, lane: Lane) -> None:
    told = Told(base, LONG_RAD)
    lane.submit(told.errand)
    run(world, lane, 1.0)
    told.is_cancelled = True
    run(world, lane)
    assert told.ending.result().cause is Cause.CANCELLED


def test_it_ends_when_its_time_is_over(world: RoomWorld, base: BaseActuator, lane: Lane) -> None:
    told = Told(base, LONG_RAD, allowed_s=0.5)
    lane.submit(told.errand)
    begun_ns = world.now_ns
    run(world, lane)
    assert told.ending.result().cause is Cause.TIMED_OUT
    assert (world.now_ns - begun_ns) / 1e9 == pytest.approx(0.5, abs=0.1)


def test_an_errand_that_breaks_ends_alone(world: RoomWorld, base: BaseActuator, lane: Lane) -> None:
    def broken(goal_id: str) -> None:
        raise ZeroDivisionError("oh")

    ending: Future[Ending] = Future()
    lane.submit(Errand(broken, ending.set_result))
    run(world, lane)
    assert ending.result().cause is Cause.ABORTED
    assert "ZeroDivisionError" in ending.result().text
    after = Told(base)
    lane.submit(after.errand)
    run(world, lane)
    assert after.ending.result().cause is Cause.DONE


# --- by itself ------------------------------------------------------------------------------------


def live() -> tuple[LiveWorld, BaseActuator]:
    made: list[BaseActuator] = []

    def make() -> Running:
        world = RoomWorld(random_room(1))
        made.append(BaseActuator(world, world.occupancy()))
        lanes = {"base": Lane("base", made[0], lambda: world.now_ns)}
        return Running(world, Steps(world), lanes)

    return LiveWorld(make, factor=10.0), made[0]


def test_a_live_world_goes_on_and_carries_out_errands() -> None:
    world, base = live()
    told = Told(base)
    world.resume()
    world.submit("base", told.errand)
    assert told.ending.result(timeout=30).cause is Cause.DONE
    world.close()


def test_pausing_ends_what_moves_and_stops_time() -> None:
    world, base = live()
    told = Told(base, LONG_RAD)
    world.resume()
    world.submit("base", told.errand)
    assert told.begun.wait(30)
    world.pause("switched off")
    assert told.ending.result(timeout=0).cause is Cause.STOPPED
    assert told.ending.result().text == "switched off"
    now_ns = world.running.world.now_ns
    assert world.call(lambda: world.running.world.now_ns).result(timeout=30) == now_ns
    world.close()


def test_closing_twice_is_fine_and_nothing_is_done_afterwards() -> None:
    world, _ = live()
    world.close()
    world.close()
    with pytest.raises(InputError, match="closed"):
        world.call(lambda: None)


def test_what_is_asked_of_a_world_that_breaks_is_answered_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, _ = live()
    asked: list[Future[None]] = []

    def broken(seconds: float) -> None:
        asked.append(world.call(lambda: None))
        raise ZeroDivisionError

    monkeypatch.setattr(world.running.world, "step", broken)
    world.resume()
    world.pause("switched off")  # before or after it broke
    world.close()
    assert all(isinstance(future.exception(timeout=0), InputError) for future in asked)
    world.pause("switched off")


def test_an_errand_for_a_closed_world_ends_as_stopped() -> None:
    world, base = live()
    world.close()
    told = Told(base)
    world.submit("base", told.errand)
    assert told.ending.result(timeout=0) == Ending(Cause.STOPPED, "the simulator is closed")
    assert not told.begun.is_set()


def test_a_world_that_cannot_be_made_says_why() -> None:
    def make() -> Running:
        raise InputError("there is no such world")

    with pytest.raises(InputError, match="no such world"):
        LiveWorld(make)


def test_a_world_that_breaks_tells_it_and_lets_nobody_wait() -> None:
    failures: Future[Exception] = Future()
    world = RoomWorld(random_room(1))
    base = BaseActuator(world, world.occupancy())

    class Broken:
        def wait(self, seconds: float) -> None:
            raise ZeroDivisionError("oh")

    lanes = {"base": Lane("base", base, lambda: world.now_ns)}
    broken = LiveWorld(lambda: Running(world, Broken(), lanes), 1.0, failures.set_result)
    told = Told(base)
    broken.submit("base", told.errand)
    broken.resume()
    assert isinstance(failures.result(timeout=30), ZeroDivisionError)
    assert told.ending.result(timeout=30).cause is Cause.STOPPED
    broken.close()
