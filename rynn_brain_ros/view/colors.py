"""One colour per grounding of an answer, the same in text, picture and marker; and per turn."""

from __future__ import annotations

from rynn_brain_ros.values import LiftedGrounding

Color = tuple[int, int, int]
"""Red, green, blue in 0…255."""

# Okabe & Ito's colour-blind-safe palette without black, ordered so that neighbours differ in
# hue and lightness. https://jfly.uni-koeln.de/color/
PALETTE: tuple[Color, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermillion
    (0, 114, 178),  # blue
    (240, 228, 66),  # yellow
)
# A turn's colour differs from that of its first groundings, which are numbered from orange on.
TURN_PALETTE: tuple[Color, ...] = tuple(PALETTE[i] for i in (5, 4, 2, 3, 1, 0, 6))
GOOD: Color = (0, 158, 115)
BAD: Color = (213, 94, 0)
REFUSED: Color = (158, 158, 158)
_DARK: Color = (24, 24, 24)
_WHITE: Color = (255, 255, 255)


def color_of(index: int, *, refused: bool = False) -> Color:
    """The colour of the ``index``-th grounding of an answer; grey where it may not be used."""
    return REFUSED if refused else PALETTE[index % len(PALETTE)]


def turn_color(number: int) -> Color:
    """The colour of turn ``number`` in an episode's map, timeline and cards."""
    return TURN_PALETTE[number % len(TURN_PALETTE)]


def rim_of(color: Color) -> Color:
    """Dark around light colours, white around dark ones: one of the two shows on any picture."""
    red, green, blue = color
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return _DARK if luma > 120 else _WHITE


def is_unusable(item: LiftedGrounding) -> bool:
    """Refused for what the answer says. One that is right in the picture and merely has no depth
    keeps its colour: it is drawn dashed, with the reason."""
    return item.refusal is not None and not item.grounding.actionable
