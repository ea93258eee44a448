"""LeRobot's policy type ``rynnbrain``: the flow-matching policy of `rynn_brain_ros.vla`.

Importing it registers the type; LeRobot finds the rest by name, when it is asked for.
"""

from lerobot_policy_rynnbrain.configuration_rynnbrain import RynnBrainConfig

__all__ = ["RynnBrainConfig"]
