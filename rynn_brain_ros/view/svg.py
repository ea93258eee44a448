"""Shapes and labels as SVG elements: the report's vector overlay."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rynn_brain_ros.values import LiftedGrounding, Point2, SelectedFrame
from rynn_brain_ros.view.colors import Color, rim_of
from rynn_brain_ros.view.shapes import (
    Disc,
    Label,
    Line,
    Patch,
    Polygon,
    Primitive,
    Shape,
    place_labels,
    shapes_of,
    unit_of,
)


def overlay_svg(
    lifted: Sequence[LiftedGrounding],
    frame: SelectedFrame,
    *,
    first_index: int = 0,
    key: str,
) -> str:
    """The groundings of ``frame`` as SVG groups in pixels of the full image.

    Each group has the attribute ``data-g="<key><index>"`` so that text and table can point to it.
    """
    width, height = max(1, frame.width), max(1, frame.height)
    unit = unit_of(width, height)
    shapes = shapes_of(lifted, frame, width, height, first_index)
    size = 13 * unit

    def measure(text: str) -> tuple[float, float]:
        return (0.55 * size * len(text) + 1.5 * size, 1.7 * size)

    marks = [(shape.index, _shape(shape, unit)) for shape in shapes]
    marks += [  # after the shapes, so that none of them crosses a text
        (label.shape.index, _label(label, size))
        for label in place_labels(shapes, width, height, measure, unit)
    ]
    return "".join(f'<g data-g="{key}{index}">{svg}</g>' for index, svg in marks)


def _shape(shape: Shape, unit: float) -> str:
    rim, color = _hex(rim_of(shape.color)), _hex(shape.color)
    dash = f' stroke-dasharray="{7 * unit:.1f} {7 * unit:.1f}"' if shape.refused else ""
    soft = "".join(
        f'<polygon points="{_points(part.points)}" fill="{color}" stroke="{color}" '
        f'stroke-width="{2 * part.radius:.1f}" opacity="0.33"/>'
        for part in shape.primitives
        if isinstance(part, Patch)
    )
    under = "".join(_stroke(part, rim, 1.2 * unit, "") for part in shape.primitives)
    return soft + under + "".join(_stroke(part, color, 0.0, dash) for part in shape.primitives)


def _stroke(part: Primitive, color: str, grow: float, dash: str) -> str:
    match part:
        case Line(points, width, closed):
            tag = "polygon" if closed else "polyline"
            return (
                f'<{tag} points="{_points(points)}" fill="none" stroke="{color}" '
                f'stroke-width="{width + 2 * grow:.1f}"{dash}/>'
            )
        case Disc((u, v), radius, width) if width:
            return (
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius:.1f}" fill="none" '
                f'stroke="{color}" stroke-width="{width + 2 * grow:.1f}"{dash}/>'
            )
        case Disc((u, v), radius):
            return f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius + grow:.1f}" fill="{color}"/>'
        case Polygon(points):
            return (
                f'<polygon points="{_points(points)}" fill="{color}" stroke="{color}" '
                f'stroke-width="{2 * grow:.1f}"/>'
            )
        case Patch():
            return ""


def _label(label: Label, size: float) -> str:
    """``textLength`` makes every system's font fill exactly the plate that was reserved."""
    x, y, bar = label.left, label.top, 0.3 * size
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{label.width:.1f}" height="{label.height:.1f}" '
        f'rx="{0.2 * size:.1f}" fill="#141618" fill-opacity="0.8"/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar:.1f}" height="{label.height:.1f}" '
        f'fill="{_hex(label.shape.color)}"/>'
        f'<text x="{x + 0.85 * size:.1f}" y="{y + 1.2 * size:.1f}" font-size="{size:.1f}" '
        f'textLength="{label.width - 1.5 * size:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'fill="#fff">{escape(label.text)}</text>'
    )


def _points(points: Sequence[Point2]) -> str:
    return " ".join(f"{u:.1f},{v:.1f}" for u, v in points)


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
