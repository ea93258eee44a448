"""The confidence of a grounding is that of the numbers it consists of."""

from __future__ import annotations

import math

import pytest

from rynn_brain_ros.language import coordinate_confidence, parse
from rynn_brain_ros.values import TokenProbability


def tokens(text: str, probabilities: dict[str, float]) -> list[TokenProbability]:
    """The first occurrence of each piece of ``text`` as one token."""
    return [
        TokenProbability(text.index(piece), text.index(piece) + len(piece), probability)
        for piece, probability in probabilities.items()
    ]


def test_only_the_tokens_of_coordinates_count() -> None:
    text = "At 77: <affordance> <frame 3>: (12, 34) </affordance> 88"
    (point,) = parse(text, 4).groundings
    pieces = {"77": 0.0, "affordance": 0.0, "3>": 0.0, "(12": 0.5, ",": 0.0, " 34": 0.7, "88": 0.0}

    assert coordinate_confidence(point, text, tokens(text, pieces)) == pytest.approx(0.6)


def test_each_grounding_has_its_own() -> None:
    text = "<area> (12, 34) </area> <area> (56, 78) </area>"
    first, second = parse(text, 1).groundings
    probabilities = tokens(text, {"12": 0.5, "34": 0.5, "56": 0.9, "78": 0.9})

    assert coordinate_confidence(first, text, probabilities) == pytest.approx(0.5)
    assert coordinate_confidence(second, text, probabilities) == pytest.approx(0.9)


def test_json_keys_frames_and_labels_do_not_count() -> None:
    text = '{"point": [12, 34], "frame_idx": 5, "label": "cup 6"}'
    (point,) = parse(text, 8).groundings
    pieces = {"12": 0.5, "34": 0.7, "5": 0.0, "6": 0.0}

    assert coordinate_confidence(point, text, tokens(text, pieces)) == pytest.approx(0.6)


def test_the_tag_of_a_3d_box_does_not_count() -> None:
    text = "<3D Grounding> 0.1, 0, 1, 1, 1, 1, 0, 0, 0 </3D Grounding>"
    (box,) = parse(text, 1).groundings

    assert coordinate_confidence(box, text, tokens(text, {"3": 0.0, "0.1": 0.8})) == 0.8


def test_without_probabilities_it_is_not_a_number() -> None:
    text = "<affordance> (12, 34) </affordance>"
    (point,) = parse(text, 1).groundings

    assert math.isnan(coordinate_confidence(point, text, ()))
    assert math.isnan(coordinate_confidence(point, text, tokens(text, {"affordance": 0.9})))
