"""The first question that nobody asked."""

from __future__ import annotations

import pytest

from rynn_brain_ros.models import open_engine
from rynn_brain_ros.values import EngineError

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_models import build

from rynn_brain_ros.models.local.warming import warm_up


@pytest.fixture
def engine(tmp_path):
    return open_engine(f"local:{build('qwen3_vl', tmp_path)}")


def test_warming_up_reads_as_many_pictures_of_that_size_as_will_be_shown(engine):
    assert warm_up(engine, width_px=320, height_px=224, n_frames=3) > 0.0
    assert engine.stats.frames.misses == 3
    assert engine.stats.tokens_read > 3 * 70


def test_warming_up_fails_as_the_first_question_would(engine):
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        warm_up(engine, n_frames=1)
