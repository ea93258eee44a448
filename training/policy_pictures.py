"""What a policy would do beside what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rynn_brain_ros.vla.actions import ActionSpace
from rynn_brain_ros.vla.values import Floats

_N_COLUMNS = 4
_INK, _TOLD, _WITHHELD = "#222222", "#0072b2", "#d55e00"


def draw_chunks(
    path: Path,
    true: Floats,
    told: Floats,
    withheld: Floats,
    *,
    n_real: Sequence[int],
    space: ActionSpace,
) -> None:
    """A PNG: a row for each number of an action, a column for each of a few chunks [n, H, D],
    spread evenly. What was demonstrated ends where the episode did, after ``n_real`` steps."""
    chosen = np.linspace(0, len(true) - 1, min(_N_COLUMNS, len(true))).round().astype(int).tolist()
    figure = Figure(figsize=(3.2 * len(chosen) + 1, 1.15 * space.size + 1.2), layout="constrained")
    axes = figure.subplots(space.size, len(chosen), sharex=True, sharey="row", squeeze=False)
    for column, n in enumerate(chosen):
        for row in range(space.size):
            plot = axes[row][column]
            plot.plot(withheld[n, :, row], color=_WITHHELD, lw=1.2, ls="--")
            plot.plot(told[n, :, row], color=_TOLD, lw=1.6)
            plot.plot(true[n, : n_real[n], row], color=_INK, lw=1.2)
            plot.grid(alpha=0.2)
            plot.tick_params(labelsize=7)
        axes[-1][column].set_xlabel("step of the chunk", fontsize=8)
        axes[0][column].set_title(f"held-out chunk {n + 1}", fontsize=9)
    for row, (name, units) in enumerate(zip(space.names, space.units, strict=True)):
        short = name.rpartition(".")[2]
        label = f"{short}\n[{units}]" if units in ("rad", "m") else short
        axes[row][0].set_ylabel(label, fontsize=8)
    handles = [axes[0][0].lines[i] for i in (2, 1, 0)]
    labels = ["demonstrated", "policy", "policy, step and point withheld"]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=90)
