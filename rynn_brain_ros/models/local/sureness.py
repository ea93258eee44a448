"""How sure a model was of a token that it wrote.

Most models write a coordinate digit by digit. One whose vocabulary has a token for each of
0…1000 spreads its belief over neighbouring numbers instead, however well it sees: of these, all
within `NEAR` count, or its surest answers would look like guesses.
"""

from __future__ import annotations

from typing import Any

import torch

NEAR = 10
"""In 1/1000 of the picture, to either side."""
_LARGEST = 1000


class Sureness:
    """Knows the numbers of one vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        vocabulary = tokenizer.get_vocab()
        tokens = [vocabulary.get(str(number)) for number in range(_LARGEST + 1)]
        known = [int(token) for token in tokens if token is not None]
        self._tokens = torch.tensor(known if len(known) == len(tokens) else [], dtype=torch.long)
        self._number_of = {token: number for number, token in enumerate(self._tokens.tolist())}

    def __call__(self, chances: torch.Tensor, token: int) -> float:
        """Of a token, by the probabilities of all [vocabulary]; 0…1."""
        number = self._number_of.get(token)
        if number is None:
            return float(chances[token])
        near = self._tokens[max(number - NEAR, 0) : number + NEAR + 1].to(chances.device)
        return float(chances[near].sum())
