"""The policy of `rynn_brain_ros.vla` with LeRobot's methods."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_policy_rynnbrain.configuration_rynnbrain import RynnBrainConfig
from lerobot_policy_rynnbrain.observations import observations_of
from rynn_brain_ros.vla.checkpoint import (
    BACKBONE,
    LoadedPolicy,
    load_policy,
    new_policy,
    save_policy,
)
from rynn_brain_ros.vla.demonstrations import Collator, Demonstrations, Sample
from rynn_brain_ros.vla.flow import sample_times, squared_errors
from rynn_brain_ros.vla.values import Observation, PolicyError


class RynnBrainPolicy(PreTrainedPolicy):  # type: ignore[misc]
    """A folder that it saves is one that `vla.checkpoint.load_policy` opens, with LeRobot's
    config.json in it, and the other way round. Actions are absolute, in the contract's units.

    ``dataset_meta`` is LeRobot's: a new policy gets its statistics and its contract from there, and
    whatever learns gets what the brain said. ``loaded``: of a folder ``folder``, instead of a new
    one. Raises `PolicyError`, and `InputError` for a data set that cannot be read.
    """

    config_class = RynnBrainConfig
    name = "rynnbrain"

    def __init__(
        self,
        config: RynnBrainConfig,
        dataset_stats: Any = None,  # LeRobot's: not of what the network sees
        dataset_meta: Any = None,
        *,
        loaded: LoadedPolicy | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(config)
        config.validate_features()
        data = None if dataset_meta is None else _demonstrations(config, dataset_meta)
        self.loaded = loaded or _new(config, data)
        config.check_made_for(self.loaded.spec)
        if data is not None:
            where = str(folder or config.backbone)
            self.loaded.statistics.provenance.check_same(data.provenance, where)
            self.loaded.statistics.aim.check_same(data.aim, where)
        self._episodes = {each.episode.index: each for each in data.demonstrations} if data else {}
        self.network = self.loaded.network
        self._companions = folder / BACKBONE if folder else Path(config.backbone)
        self._choose_what_learns()
        self.reset()

    # --- folders ----------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        dataset_stats: Any = None,
        dataset_meta: Any = None,
        **_: Any,  # of downloads
    ) -> RynnBrainPolicy:
        """Of a local folder, with LeRobot's config.json or without. Raises `PolicyError`."""
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            raise PolicyError(
                f"{folder} is no folder here: 'hf download REPO --local-dir FOLDER' brings one"
            )
        if config is None and (folder / "config.json").is_file():
            config = PreTrainedConfig.from_pretrained(folder)
        if config is not None and not isinstance(config, RynnBrainConfig):
            raise PolicyError(f"{folder} is a policy of the type {config.type}, not {cls.name}")
        dtype = "" if config is None else _dtype(config)
        loaded = load_policy(folder, device=config.device if config else "", dtype=dtype)
        policy = cls(
            config or RynnBrainConfig.of(loaded.spec),
            dataset_stats,
            dataset_meta,
            loaded=loaded,
            folder=folder,
        )
        policy.eval()
        return policy

    def _save_pretrained(self, save_directory: Path) -> None:
        if any(save_directory.iterdir()):
            raise PolicyError(f"{save_directory} is not empty: give a policy a folder of its own")
        if not self._companions.is_dir():
            raise PolicyError(f"{self._companions} is gone: the tokenizer is copied from there")
        save_directory.rmdir()
        save_policy(self.loaded, self._companions, save_directory)
        self.config._save_pretrained(save_directory)

    # --- learning ---------------------------------------------------------------------------------

    def _choose_what_learns(self) -> None:
        learns, vlm = self.config.backbone_learns, self.network.vlm
        self.network.requires_grad_(False)
        for weight in self.network.head().values():
            weight.requires_grad_(True)
        if learns != "nothing":
            part = vlm.model if learns == "everything" else vlm.model.language_model
            part.requires_grad_(True)

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Head and backbone with their rates; only matrices decay."""
        config, groups = self.config, dict[tuple[float, float], list[Tensor]]()
        for name, weight in self.network.named_parameters():
            if weight.requires_grad:
                backbone = name.startswith("vlm.")
                lr = config.optimizer_backbone_lr if backbone else config.optimizer_lr
                decay = config.optimizer_weight_decay if weight.ndim > 1 else 0.0
                groups.setdefault((lr, decay), []).append(weight)
        return [
            {"params": weights, "lr": lr, "weight_decay": decay}
            for (lr, decay), weights in groups.items()
        ]

    def train(self, mode: bool = True) -> RynnBrainPolicy:
        """The network computes alike while it learns, as in the project's own trainer."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The mean squared error of the velocity, over the actions that count.

        ``action`` is [B, H, D], absolute; ``action_is_pad`` [B, H]. What the brain said is looked
        up in the data set, by ``episode_index`` and ``index``. Raises `PolicyError`.
        """
        observations = self._with_brain(observations_of(batch), batch)
        actions = batch[ACTION].double().cpu().numpy()
        pads = batch[f"{ACTION}_is_pad"].cpu().numpy()
        real = np.ones_like(pads) if self.config.learn_padding else ~pads
        samples = [Sample(*told) for told in zip(observations, actions, real, strict=True)]
        device = self.network.vlm.device
        shown = Collator(self.loaded.reader, self.loaded.statistics)(samples).to(device)
        t, noise = sample_times(len(samples)).to(device), torch.randn(actions.shape).to(device)
        velocity = partial(self.network.velocity_at_once, shown.seen, shown.state)
        errors = squared_errors(velocity, shown.chunk, t, noise) * shown.counts
        loss = errors.sum() / (shown.counts.sum() * actions.shape[-1])
        return loss, {"loss": float(loss.detach())}

    def _with_brain(
        self, observations: list[Observation], batch: Mapping[str, Any]
    ) -> list[Observation]:
        """With the brain's step and point of these frames, but for those that are withheld."""
        if not self._episodes:
            raise PolicyError("a policy learns with its data set: make it with dataset_meta")
        withheld = (torch.rand(len(observations)) < self.config.withhold).tolist()
        places = zip(batch["episode_index"].tolist(), batch["index"].tolist(), strict=True)
        told = []
        for observation, (episode, index), silent in zip(
            observations, places, withheld, strict=True
        ):
            each = self._episodes[episode]
            row = index - each.episode.first_index
            step, point = ("", ()) if silent else (each.steps[row], each.targets[row])
            told.append(replace(observation, step=step, target_point=point))
        return told

    def wrap_with_peft(self, *_: Any, **__: Any) -> PreTrainedPolicy:
        """Raises `PolicyError`: a folder of ours holds a whole policy."""
        raise PolicyError(
            "LeRobot's adapters are not saved with a rynnbrain policy: train them with "
            "'python -m training.train … backbone_learns=lora', which merges them"
        )

    # --- acting -----------------------------------------------------------------------------------

    def reset(self) -> None:
        """Gives up what is left of a chunk."""
        self._queue = deque[Tensor]()

    def predict_action_chunk(
        self, batch: Mapping[str, Any], noise: Tensor | None = None, **_: Any
    ) -> Tensor:
        """[B, H, D] float32, from ``noise`` [B, H, D] or from torch's own. Raises `PolicyError`."""
        observations, spec = observations_of(batch), self.loaded.spec
        if noise is None:
            noise = torch.randn(len(observations), spec.horizon, spec.n_dims)
        chunk = self.loaded.sampled(observations, noise)
        return torch.from_numpy(chunk.astype(np.float32)).to(self.network.vlm.device)

    def select_action(self, batch: Mapping[str, Any], **options: Any) -> Tensor:
        """[B, D]: the next of a chunk; a new chunk where ``n_action_steps`` were executed."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch, **options)
            self._queue.extend(chunk[:, : self.config.n_executed].unbind(1))
        return self._queue.popleft()


def _demonstrations(config: RynnBrainConfig, dataset_meta: Any) -> Demonstrations:
    """The numbers and words of LeRobot's data set; its pictures come in batches."""
    found = Demonstrations(
        [Path(dataset_meta.root)],
        config.chunk_size,
        config.image_size,
        contract=config.contract,
        target=config.target,
        target_frame=config.target_frame,
        learn_padding=config.learn_padding,
    )
    keys = [feature.key for feature in found.contract.actions]
    if keys != [ACTION]:
        raise PolicyError(
            f"the contract's actions are {', '.join(keys)}: LeRobot knows one feature, {ACTION}"
        )
    return found


def _new(config: RynnBrainConfig, data: Demonstrations | None) -> LoadedPolicy:
    if data is None or not config.backbone:
        raise PolicyError(
            "a new policy needs a data set and policy.backbone=FOLDER, a checkpoint of the "
            "vision-language model; or give policy.path=FOLDER, a policy"
        )
    frames, _ = data.division(0.0, 0)
    return new_policy(
        Path(config.backbone),
        config.spec(data.provenance),
        data.statistics(frames),
        device=config.device,
        dtype="F32" if config.device == "cpu" else _dtype(config),  # 16 bits are slow there
    )


def _dtype(config: RynnBrainConfig) -> str:
    """What learns is kept in 32 bits, anything else as it is stored."""
    return "" if config.backbone_learns == "nothing" else "F32"
