"""A hand of three positions and a gripper with one camera, as an environment of LeRobot's: it is
where it is told to be, and done where it is at its target."""

# No postponed annotations: draccus reads the types of the fields.
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

N_STEPS = 8


class PointerEnv(gymnasium.Env):
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    task_description = "pick up the red cube"
    _max_episode_steps = N_STEPS

    def __init__(self, render_mode: str = "rgb_array") -> None:
        self.render_mode = render_mode
        image = gymnasium.spaces.Box(0, 255, (32, 48, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": gymnasium.spaces.Dict({"front": image}),
                "agent_pos": gymnasium.spaces.Box(-10, 10, (4,), np.float64),
            }
        )
        self.action_space = gymnasium.spaces.Box(-10, 10, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = np.append(self.np_random.uniform([0.3, -0.3, 0.2], [0.7, 0.3, 0.5]), 1.0)
        self._n = 0
        return self._seen(), {"is_success": False}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._place = np.asarray(action, np.float64)
        self._n += 1
        done = self._n == N_STEPS
        distance = float(np.linalg.norm(self._place[:3]))
        return self._seen(), -distance, done, False, {"is_success": distance < 0.1}

    def render(self) -> Any:
        return np.full((32, 48, 3), 128, np.uint8)

    def _seen(self) -> dict[str, Any]:
        return {"pixels": {"front": self.render()}, "agent_pos": self._place}


gymnasium.register("gym_pointer/Pointer-v0", PointerEnv, max_episode_steps=N_STEPS)


@EnvConfig.register_subclass("pointer")
@dataclass
class PointerConfig(EnvConfig):
    task: str | None = "Pointer-v0"
    fps: int = 10
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (4,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (4,)),
            "pixels/front": PolicyFeature(FeatureType.VISUAL, (32, 48, 3)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            "action": "action",
            "agent_pos": "observation.state",
            "pixels/front": "observation.images.front",
        }
    )

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"render_mode": "rgb_array"}
