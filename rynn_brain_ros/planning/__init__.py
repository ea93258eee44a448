"""The brain's loop. So far: what it sees (`Perception`) and one question from frames to metres
(`ask`)."""

from rynn_brain_ros.planning.asking import Question, ask, make_query
from rynn_brain_ros.planning.perception import Perception, PerceptionConfig

__all__ = ["Perception", "PerceptionConfig", "Question", "ask", "make_query"]
