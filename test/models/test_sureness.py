"""How sure a model was: digits as they are, whole numbers with their neighbours."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rynn_brain_ros.models.local.sureness import NEAR, Sureness  # noqa: E402


class Words:
    def __init__(self, *words: str) -> None:
        self._vocabulary = {word: token for token, word in enumerate(words)}

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary


def test_a_digit_is_as_probable_as_the_model_says():
    sureness = Sureness(Words(*"0123456789", "(", ")"))
    chances = torch.full((12,), 0.01)
    chances[4] = 0.7
    assert sureness(chances, 4) == pytest.approx(0.7)


def test_a_whole_number_is_as_probable_as_all_that_are_near():
    sureness = Sureness(Words("(", *map(str, range(1001)), ")"))
    chances = torch.zeros(1003)
    chances[1 + 300 : 1 + 340] = 1 / 40
    assert sureness(chances, 1 + 320) == pytest.approx((2 * NEAR + 1) / 40)
    assert sureness(chances, 1 + 300) == pytest.approx((NEAR + 1) / 40)
    assert sureness(chances, 0) == 0.0


@pytest.mark.parametrize("number", [0, 1000])
def test_the_smallest_and_the_largest_number_have_neighbours_on_one_side(number: int):
    sureness = Sureness(Words(*map(str, range(1001))))
    chances = torch.full((1001,), 0.001)
    assert sureness(chances, number) == pytest.approx((NEAR + 1) * 0.001)
