"""The flow-matching policy: pictures, words, a state and a target point → a chunk of actions.

What needs no torch is imported here. `flow`, `network`, `expert` and `checkpoint` need the extra
``model``.
"""

from rynn_brain_ros.vla.values import (
    ExpertSize,
    Observation,
    PolicyError,
    PolicySpec,
    Variant,
)

__all__ = ["ExpertSize", "Observation", "PolicyError", "PolicySpec", "Variant"]
