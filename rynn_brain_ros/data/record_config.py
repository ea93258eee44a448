"""What the recorder is told at its start."""

from __future__ import annotations

from dataclasses import dataclass

from rynn_brain_ros.config import setting


@dataclass(frozen=True)
class RecordConfig:
    """The record node's settings. A button of -1 is none."""

    contract: str = setting("panda", "the contract: panda, fr3, sim_table, or a .yaml file")
    out: str = setting("recordings", "folder of the recordings, one .mcap file for each episode")
    task: str = setting("", "what is demonstrated, in words, where a start does not say it")
    operator: str = setting("", "who teleoperates; kept with every recording")
    strict: bool = setting(
        True, "start no episode while a topic of an observation breaks the contract"
    )
    min_free_gib: float = setting(
        5.0, "with less free on the disk no episode starts, and a running one ends [GiB]", 0.0, 1e6
    )
    max_offset_s: float = setting(
        0.1,
        "how much later than the joints' messages images may come after their stamps [s]",
        0.0,
        10.0,
    )
    joy_topic: str = setting("joy", "sensor_msgs/Joy of the operator's joystick; empty: none")
    joy_start: int = setting(7, "button that starts an episode", -1, 63)
    joy_stop: int = setting(6, "button that ends one without a judgement", -1, 63)
    joy_success: int = setting(0, "button that ends one as a success", -1, 63)
    joy_failure: int = setting(1, "button that ends one as a failure", -1, 63)
    joy_discard: int = setting(3, "button that ends one and deletes it", -1, 63)
