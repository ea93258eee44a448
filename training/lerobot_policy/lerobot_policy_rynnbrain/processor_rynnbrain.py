"""What LeRobot does before and behind the policy: keys, devices, and no numbers."""

from __future__ import annotations

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.utils.constants import (
    POLICY_POSTPROCESSOR_DEFAULT_NAME,
    POLICY_PREPROCESSOR_DEFAULT_NAME,
)

from lerobot_policy_rynnbrain.configuration_rynnbrain import RynnBrainConfig


def make_rynnbrain_pre_post_processors(
    config: RynnBrainConfig, dataset_stats: Any = None
) -> tuple[Any, Any]:
    """The (un)normalizers change nothing (`RynnBrainConfig.normalization_mapping`): they are there
    because ``lerobot-train --policy.path=…`` insists on handing them ``dataset_stats``."""
    inert: dict[str, Any] = {"norm_map": config.normalization_mapping, "stats": dataset_stats}
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
        NormalizerProcessorStep(
            features={**config.input_features, **config.output_features}, **inert
        ),
    ]
    behind = [
        UnnormalizerProcessorStep(features=config.output_features, **inert),
        DeviceProcessorStep(device="cpu"),
    ]
    return (
        PolicyProcessorPipeline(steps=before, name=POLICY_PREPROCESSOR_DEFAULT_NAME),
        PolicyProcessorPipeline(
            steps=behind,
            name=POLICY_POSTPROCESSOR_DEFAULT_NAME,
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        ),
    )
