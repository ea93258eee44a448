"""Planning turns of the ``color-baseline`` engine: which step comes next, seen in pixels.

Progress is seen and not assumed: a thing counts as put when its patch lies where it should, as
held when it is high above the place where it was last picked. What was tried is read from the
history in RynnBrain's own grammar. No depth, no truth; where two things fit the words it says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.language import format_grounding, parse
from rynn_brain_ros.memory import decode_color
from rynn_brain_ros.models.color_pushing import has_come, push_end
from rynn_brain_ros.models.color_vision import Blob, find_blobs, fitting, none_of
from rynn_brain_ros.models.color_words import (
    NotUnderstood,
    Noun,
    Order,
    Phrase,
    Relation,
    read_orders,
)
from rynn_brain_ros.values import (
    Affordance,
    Area,
    Box,
    Point2,
    Query,
    SelectedFrame,
    Task,
    Turn,
)

_UP = 0.15
"""A thing this far above the place where it was picked (per picture height) has been lifted."""
_STILL = 0.05
"""A thing this near to where it was (per picture width) has not moved."""
_NEAR_WIDTHS = 0.9
"""Free space left beside a neighbour, in widths of the smaller of the two."""
_FREE_ENOUGH = 0.09
_SOLID = ("cube", "cylinder", "ball")


@dataclass(frozen=True)
class _Seen:
    """A picture with its coloured patches."""

    rgb: NDArray[np.uint8]
    blobs: tuple[Blob, ...]

    @classmethod
    def of(cls, frame: SelectedFrame) -> _Seen:
        rgb = decode_color(frame.frame.color)
        return cls(rgb, find_blobs(rgb))

    def fitting(self, noun: Noun) -> tuple[Blob, ...]:
        """Patches of the noun's colour and shape."""
        return fitting(self.blobs, noun)

    def of_color(self, color: str, near: Point2 | None = None) -> Blob | None:
        """The patch of a colour; of several the one nearest to a place, else the largest."""
        found = [blob for blob in self.blobs if blob.color == color]
        if near is None or len(found) < 2:
            return found[0] if found else None
        return min(found, key=lambda blob: math.dist(_middle(blob), near))


@dataclass(frozen=True)
class _Aim:
    """What is wanted of one thing, known by its colour and where it stood at first."""

    thing: Blob
    relation: Relation
    place: Blob | None
    preposition: str


@dataclass(frozen=True)
class _Deed:
    """An earlier step as it was written: what, and where its point and its box were (0…1)."""

    verb: str
    color: str
    box: Blob | None


class _Problem(Exception):  # noqa: N818  # never leaves this module
    """What cannot be done, as a sentence for the answer."""


def plan(query: Query) -> str:
    """The next step as one sentence, ``Done.``, or an honest sentence without a step."""
    orders = read_orders(query.instruction)
    if isinstance(orders, NotUnderstood):
        return f"{orders.text} <no object>"
    first = query.history[0].frames if query.history else query.frames
    try:
        seen = _Seen.of(first[-1])
        aims = [aim for order in orders for aim in _aims(order, seen)]
        _check_each_once(aims)
        return _next_step(query, aims)
    except _Problem as problem:
        return f"{problem} <no object>"


def _aims(order: Order, seen: _Seen) -> list[_Aim]:
    """The things that an order is about, as they were seen before anything was moved."""
    place = _meant(order.reference, seen, None)[0] if order.reference is not None else None
    things = [thing for phrase in order.things for thing in _meant(phrase, seen, place)]
    if place is not None and order.relation in (Relation.IN, Relation.POURED):
        _check_hollow(place)
    for thing in things:
        _check_followed(thing, seen)
    return [_Aim(thing, order.relation, place, order.preposition) for thing in things]


def _check_hollow(place: Blob) -> None:
    if place.shape in _SOLID:
        raise _Problem(f"Nothing goes into a {place.shape}.")


def _check_followed(thing: Blob, seen: _Seen) -> None:
    """Once it has moved a thing is found again by its colour, and so would another one be."""
    alike = sum(blob.color == thing.color for blob in seen.blobs)
    if alike > 1:
        raise _Problem(f"I see {alike} {thing.color} things and follow a thing by its colour only.")


def _check_each_once(aims: list[_Aim]) -> None:
    """A thing that is brought to where it is not to stay would be brought there for ever."""
    for number, aim in enumerate(aims):
        used = [blob for other in aims[:number] for blob in (other.thing, other.place)]
        if any(blob is aim.thing for blob in (*used, aim.place)):
            raise _Problem(f"I do one thing with each thing; the {aim.thing.color} one has two.")


def _meant(phrase: Phrase, seen: _Seen, place: Blob | None) -> list[Blob]:
    if not (phrase.many or phrase.either):
        return [_only(seen, phrase.noun)]
    found = [blob for blob in seen.fitting(phrase.noun) if blob is not place]
    if not found:
        raise _Problem(none_of(seen.blobs, phrase.noun))
    if phrase.either:
        return [max(found, key=lambda blob: blob.area_px)]
    if phrase.count is not None and len(found) != phrase.count:
        raise _Problem(f"I see {len(found)} {phrase.noun}s and not {phrase.count}.")
    return found


def _only(seen: _Seen, noun: Noun) -> Blob:
    found = seen.fitting(noun)
    if not found:
        raise _Problem(none_of(seen.blobs, noun))
    if len(found) > 1:
        raise _Problem(f"I see {len(found)} {noun}s and cannot tell which one is meant.")
    return found[0]


def _next_step(query: Query, aims: list[_Aim]) -> str:
    index = len(query.frames) - 1
    now, deeds = _Seen.of(query.frames[index]), [_deed(turn) for turn in query.history]
    for aim in aims:
        if not _is_done(aim, now, deeds):
            return _step(aim, now, deeds, index)
    return "Done."


def _deed(turn: Turn) -> _Deed:
    """What an earlier answer did, by its first word, and to which colour, by its point."""
    reading = parse(turn.answer, len(turn.frames), task=Task.PLAN)
    verb = turn.answer.split(maxsplit=1)[0].lower() if turn.answer.strip() else ""
    for grounding in reading.groundings:
        if isinstance(grounding, Affordance | Box) and grounding.frame is not None:
            seen = _Seen.of(turn.frames[grounding.frame])
            x = sum(p[0] for p in grounding.points) / len(grounding.points) / 1000
            y = sum(p[1] for p in grounding.points) / len(grounding.points) / 1000
            blob = min(seen.blobs, key=lambda b: math.dist(_middle(b), (x, y)), default=None)
            if blob is not None:
                return _Deed(verb, blob.color, blob)
    return _Deed(verb, "", None)


# --- is it done? ----------------------------------------------------------------------------------


def _is_done(aim: _Aim, now: _Seen, deeds: list[_Deed]) -> bool:
    if aim.relation is Relation.HELD:
        return _is_held(aim, now, deeds)
    if aim.relation is Relation.POURED:
        return any(deed.verb == "pour" for deed in deeds)
    thing = now.of_color(aim.thing.color)
    if aim.relation is Relation.GIVEN:
        return any((deed.verb, deed.color) == ("hand", aim.thing.color) for deed in deeds)
    if aim.relation is Relation.PUSHED:
        end = push_end(aim.thing, aim.place, aim.preposition)
        return thing is not None and end is not None and has_come(aim.thing, thing, end)
    if aim.place is None or _is_held(aim, now, deeds):
        return False
    if thing is None:  # under what was put on top of it
        return aim.relation is Relation.IN and _was_placed(aim, deeds)
    place = now.of_color(aim.place.color, _middle(aim.place)) or aim.place
    if aim.relation is not Relation.BESIDE and _is_over(thing, aim.place):
        return True
    # Where one picture alone could deceive, it also takes that the thing was put there.
    if not any(deed.verb == "place" for deed in deeds) or not _was_picked(aim, deeds):
        return False
    if aim.relation is Relation.BESIDE:
        return _gap(thing, place) < 2.5 * _width(thing)
    return _is_over(thing, place) or _stands_on(thing, place)


def _was_placed(aim: _Aim, deeds: list[_Deed]) -> bool:
    """The last thing that was done to it."""
    own = [deed.verb for deed in deeds if deed.color == aim.thing.color]
    return bool(own) and own[-1] == "place"


def _was_picked(aim: _Aim, deeds: list[_Deed]) -> bool:
    return any(deed.verb == "pick" and deed.color == aim.thing.color for deed in deeds)


def _is_held(aim: _Aim, now: _Seen, deeds: list[_Deed]) -> bool:
    """It was picked last and is high above where it was, or no longer in view; or it was to be
    placed last and is still where it was held."""
    if not deeds or deeds[-1].color != aim.thing.color:
        return False
    thing, last = now.of_color(aim.thing.color), deeds[-1]
    if thing is None or last.box is None:
        return last.verb == "pick"
    here, there = _middle(thing), _middle(last.box)
    if last.verb == "pick":
        return there[1] - here[1] > _UP
    return math.dist(here, there) < _STILL


def _is_over(thing: Blob, place: Blob) -> bool:
    """The thing's middle lies within the outline of the place, as the camera sees it."""
    ys, xs = np.nonzero(place.mask)
    hull = cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32))
    h, w = place.mask.shape
    x, y = _middle(thing)
    return cv2.pointPolygonTest(hull, (x * (w - 1), y * (h - 1)), False) >= 0


def _stands_on(thing: Blob, place: Blob) -> bool:
    """Right above it in the picture, touching."""
    x0, y0, x1, _ = place.bounds()
    x, _ = _middle(thing)
    bottom = thing.bounds()[3]
    slack = 0.35 * (thing.bounds()[3] - thing.bounds()[1])
    return x0 <= x <= x1 and y0 - slack <= bottom <= place.bounds()[3]


def _gap(a: Blob, b: Blob) -> float:
    return max(0.0, math.dist(_middle(a), _middle(b)) - (_width(a) + _width(b)) / 2)


# --- the next step --------------------------------------------------------------------------------


def _step(aim: _Aim, now: _Seen, deeds: list[_Deed], index: int) -> str:
    thing = now.of_color(aim.thing.color)
    if aim.relation is Relation.PUSHED or not _is_held(aim, now, deeds):
        if thing is None:
            raise _Problem(f"I no longer see the {aim.thing.color} thing.")
        if aim.relation is Relation.PUSHED:
            return _push(aim, thing, index)
        point = Affordance(index, (_norm(thing.inmost()),), (0, 0), "affordance")
        return f"Pick up {format_grounding(point)} of {format_grounding(_box(thing, index))}."
    if aim.relation is Relation.GIVEN and thing is not None:
        return f"Hand over {format_grounding(_box(thing, index))}."
    if aim.place is None:
        return "Done."
    area = Area(index, (_norm(_destination(aim, now)),), (0, 0), "area")
    if aim.relation is Relation.POURED:
        return f"Pour it {aim.preposition} {format_grounding(area)}."
    what = f"{format_grounding(_box(thing, index))} " if thing is not None else ""
    return f"Place {what}{aim.preposition} {format_grounding(area)}."


def _push(aim: _Aim, thing: Blob, index: int) -> str:
    end = push_end(thing, aim.place, aim.preposition)
    if end is None:
        raise _Problem(f"I see no room to push the {aim.thing.color} thing {aim.preposition}.")
    area = Area(index, (_norm(end),), (0, 0), "area")
    return f"Push {format_grounding(_box(thing, index))} to {format_grounding(area)}."


def _destination(aim: _Aim, now: _Seen) -> Point2:
    """In the middle of a bowl or plate, on the top of a block, or free beside a neighbour."""
    assert aim.place is not None
    place = now.of_color(aim.place.color, _middle(aim.place))
    if place is None:
        raise _Problem(f"I no longer see the {aim.place.color} thing.")
    if aim.relation is Relation.BESIDE:
        return _beside(place, aim.thing, now)
    if aim.place.shape in ("cube", "cylinder"):
        x0, y0, x1, y1 = place.bounds()
        return ((x0 + x1) / 2, y0 + 0.28 * (y1 - y0))
    # What it holds by now covers it, not its outline.
    return _middle(place) if _holds_something(place) else place.inmost()


def _holds_something(place: Blob) -> bool:
    ys, xs = np.nonzero(place.mask)
    hull = cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32))
    return place.area_px < 0.9 * cv2.contourArea(hull)


def _beside(place: Blob, thing: Blob, now: _Seen) -> Point2:
    """The freest of eight places around, at the height of the feet."""
    x0, y0, x1, y1 = place.bounds()
    aspect = now.rgb.shape[1] / now.rgb.shape[0]
    feet = y1 - 0.3 * (y1 - y0)
    reach = (x1 - x0) / 2 + (0.5 + _NEAR_WIDTHS) * min(_width(thing), _width(place))
    others = [b for b in now.blobs if b.color not in (place.color, thing.color)]
    spots = [
        ((x0 + x1) / 2 + reach * math.cos(a), feet + 0.6 * aspect * reach * math.sin(a))
        for a in (i * math.pi / 4 for i in range(8))
    ]
    inside = [spot for spot in spots if 0.05 < spot[0] < 0.95 and 0.3 < spot[1] < 0.95]

    def free(spot: Point2) -> float:
        return min((math.dist(spot, _middle(b)) - _width(b) / 2 for b in others), default=1.0)

    if not inside:
        raise _Problem("I see no free place there.")
    # Free enough is free; then rather towards the camera than towards the robot behind.
    return max(inside, key=lambda spot: min(free(spot), _FREE_ENOUGH) + 0.1 * spot[1])


def _box(blob: Blob, index: int) -> Box:
    x0, y0, x1, y1 = blob.bounds()
    return Box(index, (_norm((x0, y0)), _norm((x1, y1))), (0, 0), "object")


def _middle(blob: Blob) -> Point2:
    x0, y0, x1, y1 = blob.bounds()
    return ((x0 + x1) / 2, (y0 + y1) / 2)


def _width(blob: Blob) -> float:
    x0, _, x1, _ = blob.bounds()
    return x1 - x0


def _norm(unit: Point2) -> Point2:
    return (round(unit[0] * 1000), round(unit[1] * 1000))
