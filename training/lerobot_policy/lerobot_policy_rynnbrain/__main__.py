"""A policy of the project's own trainer, for LeRobot's commands: adds their files to its folder.

python -m lerobot_policy_rynnbrain runs/policy/policy-000085
lerobot-eval --policy.path=runs/policy/policy-000085 …
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lerobot_policy_rynnbrain.configuration_rynnbrain import RynnBrainConfig
from lerobot_policy_rynnbrain.processor_rynnbrain import make_rynnbrain_pre_post_processors
from rynn_brain_ros.values import RynnBrainError
from rynn_brain_ros.vla.checkpoint import load_policy
from rynn_brain_ros.vla.values import PolicyError


def add_lerobot_files(folder: Path) -> None:
    """Nothing of the policy is changed. Raises `PolicyError`."""
    if (folder / "config.json").exists():
        raise PolicyError(f"{folder} has a config.json already")
    config = RynnBrainConfig.of(load_policy(folder, device="cpu").spec)
    for pipeline in make_rynnbrain_pre_post_processors(config):
        pipeline.save_pretrained(folder)
    config.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    told = list(sys.argv[1:] if arguments is None else arguments)
    if len(told) != 1 or told[0].startswith("-"):
        raise SystemExit(__doc__)
    try:
        add_lerobot_files(Path(told[0]))
    except RynnBrainError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"lerobot-eval --policy.path={told[0]}")


if __name__ == "__main__":
    main()
