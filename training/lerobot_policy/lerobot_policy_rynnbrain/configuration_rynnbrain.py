"""What a policy of this type is and how it learns, as ``--policy.…`` sets it."""

# No postponed annotations: draccus reads the types of the fields.
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from rynn_brain_ros.vla.normalization import Provenance
from rynn_brain_ros.vla.values import ExpertSize, PolicyError, PolicySpec, Variant

NUMBERS_OF_A_TARGET = {"none": 0, "image": 2, "metres": 3}
LEARNS = ("nothing", "language", "everything")


@PreTrainedConfig.register_subclass("rynnbrain")
@dataclass
class RynnBrainConfig(PreTrainedConfig):  # type: ignore[misc]
    """Fields mean what the settings of the project's own trainer mean. Raises `PolicyError`.

    ``backbone``, a checkpoint directory, and ``contract``, a name or a file (empty: the one that
    the data set holds), are for a new policy. ``n_action_steps`` of a chunk are executed, 0: all.
    """

    backbone: str = ""
    contract: str = ""
    chunk_size: int = 32
    n_action_steps: int = 0

    variant: str = Variant.SMALL_EXPERT.value
    image_size: tuple[int, int] = (224, 320)  # height, width
    expert_layers: int = 6
    expert_width: int = 512
    expert_heads: int = 8

    target: str = "none"  # how the brain's point is told: none, image or metres
    target_frame: str = ""  # metres: the frame they are told in, the robot's base
    told_step: bool = True  # the brain's current step is part of the instruction
    withhold: float = 0.1  # share of samples without the brain's step and point

    backbone_learns: str = "nothing"  # or language or everything, beside the head
    learn_padding: bool = False  # learn the last action, repeated past the episode's end
    optimizer_lr: float = 3e-4
    optimizer_backbone_lr: float = 2e-5
    optimizer_weight_decay: float = 0.01
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 100
    scheduler_decay_steps: int = 20_000
    scheduler_last: float = 0.05  # share of the rate at the end of the cosine

    push_to_hub: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (
            ("target", tuple(NUMBERS_OF_A_TARGET)),
            ("backbone_learns", LEARNS),
            ("variant", tuple(variant.value for variant in Variant)),
        ):
            if getattr(self, name) not in choices:
                raise PolicyError(
                    f"policy.{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )
        if not 0 <= self.n_action_steps <= self.chunk_size:
            raise PolicyError(
                f"policy.n_action_steps is {self.n_action_steps}: a chunk has {self.chunk_size}"
            )
        if self.variant == Variant.SMALL_EXPERT.value and self.backbone_learns != "nothing":
            raise PolicyError(
                "no gradient reaches the backbone of a small_expert: set "
                "policy.backbone_learns=nothing, or policy.variant=single_stream"
            )
        if self.push_to_hub:
            raise PolicyError(
                "LeRobot's upload leaves out the backbone's tokenizer and templates: set "
                "policy.push_to_hub=false and upload the folder with 'hf upload REPO FOLDER'"
            )

    # --- what LeRobot asks ------------------------------------------------------------------------

    @property
    def normalization_mapping(self) -> dict[str, NormalizationMode]:
        """Nothing: the network's statistics are those of relative chunks, and the policy's own."""
        return {kind.value: NormalizationMode.IDENTITY for kind in FeatureType}

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=(0.9, 0.95),
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.optimizer_lr * self.scheduler_last,
        )

    def validate_features(self) -> None:
        """That there is what any policy of this type needs."""
        found = {
            OBS_STATE: self.robot_state_feature,
            f"{OBS_IMAGES}.CAMERA": self.image_features,
            ACTION: self.action_feature,
        }
        missing = [key for key, feature in found.items() if not feature]
        if missing:
            raise PolicyError(
                f"a rynnbrain policy needs {', '.join(missing)}: rename what you have"
            )

    # --- between here and a policy's own specification --------------------------------------------

    @property
    def n_executed(self) -> int:
        """Actions of each chunk."""
        return self.n_action_steps or self.chunk_size

    def spec(self, provenance: Provenance) -> PolicySpec:
        """Of a policy for what ``provenance`` says. Raises `PolicyError`."""
        return PolicySpec(
            Variant(self.variant),
            self.chunk_size,
            provenance.action_space.size,
            len(provenance.state_names),
            provenance.cameras,
            self.image_size,
            NUMBERS_OF_A_TARGET[self.target],
            self.told_step,
            ExpertSize(self.expert_layers, self.expert_width, self.expert_heads),
        )

    @classmethod
    def of(cls, spec: PolicySpec) -> "RynnBrainConfig":
        """For a policy that exists."""
        height, width = spec.image_size
        features: Mapping[str, PolicyFeature] = {
            OBS_STATE: PolicyFeature(FeatureType.STATE, (spec.n_state,)),
            **{
                f"{OBS_IMAGES}.{camera}": PolicyFeature(FeatureType.VISUAL, (3, height, width))
                for camera in spec.cameras
            },
        }
        actions = {ACTION: PolicyFeature(FeatureType.ACTION, (spec.n_dims,))}
        return cls(input_features=features, output_features=actions, **_fields_of(spec))

    def check_made_for(self, spec: PolicySpec) -> None:
        """Raises `PolicyError` where it says otherwise than the policy that exists, or where the
        data set or the environment has other numbers."""
        wrong = [
            f"policy.{name} is {getattr(self, name)}, the policy's is {value}"
            for name, value in _fields_of(spec).items()
            if getattr(self, name) != value
        ]
        numbers = (
            (OBS_STATE, self.robot_state_feature, spec.n_state),
            (ACTION, self.action_feature, spec.n_dims),
        )
        wrong += [
            f"{key} has the shape {tuple(feature.shape)}, the policy's has {n} numbers"
            for key, feature, n in numbers
            if tuple(feature.shape) != (n,)
        ]
        roles = {key.rpartition(".")[2] for key in self.image_features}
        wrong += [f"the camera {name} is missing" for name in spec.cameras if name not in roles]
        if wrong:
            raise PolicyError(f"the policy does not fit: {'; '.join(wrong)}")


def _fields_of(spec: PolicySpec) -> dict[str, Any]:
    """What a configuration must say of a policy."""
    targets = {n: name for name, n in NUMBERS_OF_A_TARGET.items()}
    expert = {
        f"expert_{f.name.removeprefix('n_')}": getattr(spec.expert, f.name)
        for f in fields(ExpertSize)
    }
    return {
        "variant": spec.variant.value,
        "chunk_size": spec.horizon,
        "image_size": spec.image_size,
        "target": targets[spec.n_target],
        "told_step": spec.told_step,
        **expert,
    }
