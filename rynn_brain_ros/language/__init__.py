"""What the brain speaks: prompts per task and model generation, and the grammar of its answers.

Pure text: this room knows `values` and no image, model or robot. `compose` turns a `Query` into
chat messages, `parse` (or `StreamParser`, while the answer is being written) turns the answer
into a `Reading`, `format_grounding` writes the same grammar, and `coordinate_confidence` says how
sure the model was of the numbers.
"""

from rynn_brain_ros.language.confidence import coordinate_confidence
from rynn_brain_ros.language.formatter import (
    format_actions,
    format_frame,
    format_grounding,
    format_points,
    format_reference,
)
from rynn_brain_ros.language.parser import parse
from rynn_brain_ros.language.prompts import compose, default_budget
from rynn_brain_ros.language.stream import StreamedGrounding, StreamParser
from rynn_brain_ros.language.strict import StrictAnswer, strict_answer

__all__ = [
    "StreamParser",
    "StreamedGrounding",
    "StrictAnswer",
    "compose",
    "coordinate_confidence",
    "default_budget",
    "format_actions",
    "format_frame",
    "format_grounding",
    "format_points",
    "format_reference",
    "parse",
    "strict_answer",
]
