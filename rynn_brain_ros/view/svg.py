"""SVG elements: the report's vector overlay, and what its drawings are made of.

Drawings take the ink of the page (``currentColor``): they are legible on light and on dark, and
black on white when opened alone. Nothing uses a ``style`` attribute, which a report forbids.
"""

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


def drawing(width: float, height: float, label: str, content: str) -> str:
    """A whole SVG of this size in pixels; ``label`` is read out where it cannot be seen."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img" aria-label="{escape(label)}" '
        f'font-family="system-ui, sans-serif" font-size="12">{content}</svg>'
    )


def element(tag: str, content: str = "", /, **attributes: str | float) -> str:
    """An element around ``content``, which is SVG; ``stroke_width`` becomes ``stroke-width``."""
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for name, value in attributes.items()
    )
    return f"<{tag}{named}>{content}</{tag}>" if content else f"<{tag}{named}/>"


def words(x: float, y: float, text: str, /, **attributes: str | float) -> str:
    """A line of text; in the page's ink unless ``fill`` says otherwise."""
    return element("text", escape(text), x=x, y=y, **{"fill": "currentColor", **attributes})


def titled(text: str, content: str) -> str:
    """``content`` that tells ``text`` when pointed at."""
    return f"<g><title>{escape(text)}</title>{content}</g>"


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


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
    rim, color = hex_of(rim_of(shape.color)), hex_of(shape.color)
    dash = f' stroke-dasharray="{7 * unit:.1f} {7 * unit:.1f}"' if shape.refused else ""
    soft = "".join(
        f'<polygon points="{points_of(part.points)}" fill="{color}" stroke="{color}" '
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
                f'<{tag} points="{points_of(points)}" fill="none" stroke="{color}" '
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
                f'<polygon points="{points_of(points)}" fill="{color}" stroke="{color}" '
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
        f'fill="{hex_of(label.shape.color)}"/>'
        f'<text x="{x + 0.85 * size:.1f}" y="{y + 1.2 * size:.1f}" font-size="{size:.1f}" '
        f'textLength="{label.width - 1.5 * size:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'fill="#fff">{escape(label.text)}</text>'
    )


def points_of(points: Sequence[Point2]) -> str:
    """The ``points`` attribute of a polyline or polygon."""
    return " ".join(f"{u:.1f},{v:.1f}" for u, v in points)


def hex_of(color: Color) -> str:
    """``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)
