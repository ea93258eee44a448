"""Model directories on this machine: which member of the family each is, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rynn_brain_ros.models.local.checkpoint import inspect
from rynn_brain_ros.models.local.memory import Request
from rynn_brain_ros.models.local.quantization import Machine, possible
from rynn_brain_ros.models.profiles import profile_for
from rynn_brain_ros.values import RynnBrainError

_PACKAGES = frozenset({"bitsandbytes", "kernels"})
"""What models fit in does not depend on what is installed: that is told, and can be mended."""


@dataclass(frozen=True)
class FoundModel:
    """A model directory. ``profile`` is the member of the family that it is or comes nearest to,
    ``fits_in`` the quantizations in which it fits now, best first; ``problem`` says why it cannot
    be used at all."""

    path: Path
    name: str
    profile: str = ""
    roles: tuple[str, ...] = ()
    n_bytes: int = 0
    quantization: str = "none"
    fits_in: tuple[str, ...] = ()
    problem: str = ""

    @property
    def spelling(self) -> str:
        """As an engine, in the best quantization that fits."""
        first = self.fits_in[0] if self.fits_in else ""
        return f"local:{self.path}" + ("" if first in ("", self.quantization) else f"#{first}")


def find_models(
    folders: Sequence[Path],
    environ: Mapping[str, str],
    free_bytes: int | None,
    capability: tuple[int, int] | None,
) -> tuple[FoundModel, ...]:
    """Models of the family in the Hugging Face cache, and every model that is, or lies in, one of
    ``folders``. ``free_bytes`` and the compute ``capability`` are the GPU's, or the memory's and
    ``None``. Never raises: a directory that cannot be used says why."""
    places = [*_given(folders), *_cached(environ)]
    return tuple(_look(path, free_bytes, capability) for path in dict.fromkeys(places))


def _given(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        inner = sorted(path.parent for path in _glob(folder, "*/config.json"))
        yield from [folder] if (folder / "config.json").is_file() or not inner else inner


def _cached(environ: Mapping[str, str]) -> Iterator[Path]:
    """Snapshots of the cache whose repository's name says RynnBrain."""
    home = Path(environ.get("HOME", "/"))
    root = Path(environ.get("HF_HOME") or home / ".cache" / "huggingface")
    cache = Path(environ.get("HF_HUB_CACHE") or root / "hub")
    for path in sorted(_glob(cache, "models--*/snapshots/*/config.json")):
        if "rynnbrain" in path.parts[-4].lower():
            yield path.parent


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from folder.glob(pattern)
    except OSError:
        return


def _look(path: Path, free_bytes: int | None, capability: tuple[int, int] | None) -> FoundModel:
    try:
        model = inspect(path)
        size_b = model.n_parameters / 1e9
        profile = profile_for(model.name, model.kind, size_b)
        words = possible(model, Machine(capability, _PACKAGES))
        device = "cpu" if capability is None else "cuda"
        needs = {word: Request(model, device, model.dtype, word).need.total for word in words}
    except RynnBrainError as error:
        return FoundModel(path, path.name, problem=str(error))
    return FoundModel(
        path=path,
        name=model.name,
        profile=profile.name,
        roles=tuple(sorted(role.value for role in profile.roles)),
        n_bytes=model.n_bytes,
        quantization=model.quantization,
        fits_in=tuple(w for w, need in needs.items() if free_bytes is None or need <= free_bytes),
    )
