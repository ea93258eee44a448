"""How sure the model was of the numbers that it wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rynn_brain_ros.language import grammar
from rynn_brain_ros.values import AnyGrounding, TokenProbability

# Digits that are no coordinates: of frames, of tag names and of JSON keys and labels.
_NOT_COORDINATES = re.compile(
    rf'{grammar.FRAME.pattern}|{grammar.TOKEN.pattern}|"frame_idx"\s{{0,9}}:\s{{0,9}}[0-9]+|"[^"]*"',
    re.IGNORECASE | re.ASCII,
)


def coordinate_confidence(
    grounding: AnyGrounding, text: str, token_probabilities: Sequence[TokenProbability]
) -> float:
    """Mean probability (0…1) of the tokens that write the coordinates of ``grounding``.

    ``text`` is the answer that ``grounding.span`` and the tokens refer to. NaN where no token
    covers a digit of a coordinate.
    """
    start, end = grounding.span
    masked = _NOT_COORDINATES.sub(lambda found: " " * len(found[0]), text[start:end])
    digits = [character.isdigit() for character in masked]
    covering = [
        token.probability
        for token in token_probabilities
        if any(digits[max(token.start - start, 0) : max(token.end - start, 0)])
    ]
    return sum(covering) / len(covering) if covering else math.nan
