"""Safety: what everything that would move must pass.

`Gate.judge` looks at a proposed motion and at the robot's situation, runs every check and says
yes or names the first no. `scene_unchanged` and `free_ahead_m` are its two looks at the newest
image; they also serve a motion that is under way.
"""

from rynn_brain_ros.safety.corridor import Strip, free_ahead_m
from rynn_brain_ros.safety.engine_verdict import EngineIdentity, EngineVerdict, read_verdicts
from rynn_brain_ros.safety.gate import Gate
from rynn_brain_ros.safety.limits import SafetyLimits, tightened
from rynn_brain_ros.safety.obstacles import GroundMemory
from rynn_brain_ros.safety.proposal import Proposal, Situation
from rynn_brain_ros.safety.readiness import gives
from rynn_brain_ros.safety.scene import SceneLook, Verdict, scene_unchanged
from rynn_brain_ros.safety.watching import room_m, strip_of

__all__ = [
    "EngineIdentity",
    "EngineVerdict",
    "Gate",
    "GroundMemory",
    "Proposal",
    "SafetyLimits",
    "SceneLook",
    "Situation",
    "Strip",
    "Verdict",
    "free_ahead_m",
    "gives",
    "read_verdicts",
    "room_m",
    "scene_unchanged",
    "strip_of",
    "tightened",
]
