"""Prompts without a model: where the pictures are, their positions, what two prompts share."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from rynn_brain_ros.models.local.frame_cache import FrameCache
from rynn_brain_ros.models.local.patches import read_patcher
from rynn_brain_ros.models.local.pictures import shown_size
from rynn_brain_ros.models.local.prompt import Prompt, expand
from rynn_brain_ros.values import EncodedImage, EngineError, Frame, SelectedFrame

IMAGE = 9
A, B = ("a", 96, 64), ("b", 96, 64)


def prompt(*ids: int, images=()) -> Prompt:
    return expand(ids, IMAGE, images)


def test_a_placeholder_becomes_one_id_for_each_visual_token():
    made = prompt(1, IMAGE, 2, IMAGE, images=[(A, 2, 3), (B, 1, 2)])
    assert made.ids.tolist() == [1, *[IMAGE] * 6, 2, *[IMAGE] * 2]
    assert [(i.key, i.start, i.end) for i in made.images] == [(A, 1, 7), (B, 8, 10)]


def test_text_alone_counts_up_on_all_axes():
    assert prompt(1, 2, 3).positions().tolist() == [[0, 1, 2]] * 3


def test_an_image_spreads_its_rows_and_columns_and_text_goes_on_behind_its_larger_side():
    made = prompt(1, IMAGE, 2, images=[(A, 2, 3)])
    time, row, column = made.positions().tolist()
    assert time == [0, 1, 1, 1, 1, 1, 1, 4]
    assert row == [0, 1, 1, 1, 2, 2, 2, 4]
    assert column == [0, 1, 2, 3, 1, 2, 3, 4]
    assert made.next_position() == 5


def test_positions_are_those_of_the_library(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tiny_models import build_config, build_tokenizer  # noqa: PLC0415

    config = build_config("qwen3_vl", build_tokenizer("Qwen2Tokenizer"))
    model = transformers.AutoModelForImageTextToText.from_config(config).model
    made = prompt(5, IMAGE, 6, 7, IMAGE, 8, images=[(A, 4, 3), (B, 2, 7)])
    ids = torch.from_numpy(made.ids)[None]
    grid = torch.tensor([[1, 8, 6], [1, 4, 14]])
    theirs, delta = model.get_rope_index(ids, (ids == IMAGE).int(), grid)
    assert np.array_equal(theirs[:, 0].numpy(), made.positions())
    assert int(delta) + len(made) == made.next_position()


@pytest.mark.parametrize(
    ("other", "common"),
    [
        (prompt(1, IMAGE, 2, 3, images=[(A, 2, 3)]), 9),
        (prompt(1, IMAGE, 2, 4, images=[(A, 2, 3)]), 8),
        (prompt(1, IMAGE, 2, 3, images=[(B, 2, 3)]), 1),
        (prompt(1, IMAGE, 2, 3, images=[(A, 3, 2)]), 1),
        (prompt(1, IMAGE, 2, images=[(A, 2, 3)]), 8),
        (prompt(5), 0),
    ],
    ids=["all", "words", "another picture", "another shape", "shorter", "nothing"],
)
def test_the_common_beginning_ends_where_words_or_pictures_differ(other: Prompt, common: int):
    mine = prompt(1, IMAGE, 2, 3, images=[(A, 2, 3)])
    assert mine.common_prefix(other) == other.common_prefix(mine) == common


def test_written_tokens_continue_a_prompt():
    made = prompt(1, IMAGE, images=[(A, 1, 2)]).written([4, 5])
    assert made.ids.tolist() == [1, IMAGE, IMAGE, 4, 5]
    assert made.first(3).images == made.images


@dataclass(frozen=True)
class Block:
    n_bytes: int


def test_the_frame_cache_forgets_what_was_used_longest_ago():
    cache: FrameCache[Block] = FrameCache(25)
    for name in ("a", "b", "a", "c"):
        cache.get((name, 1, 1), lambda: Block(10))
    made = [name for name in ("a", "c", "b") if _is_made(cache, name)]
    assert made == ["b"]
    assert cache.stats.n_bytes == 20


def _is_made(cache: FrameCache[Block], name: str) -> bool:
    before = cache.stats.misses
    cache.get((name, 1, 1), lambda: Block(10))
    return cache.stats.misses > before


def test_something_larger_than_the_frame_cache_is_not_kept():
    cache: FrameCache[Block] = FrameCache(25)
    assert cache.get(A, lambda: Block(30)) == Block(30)
    assert cache.stats.frames == 0


# --- pixels --------------------------------------------------------------------------------------

SETTINGS = {
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.125],
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("preprocessor_config.json", SETTINGS),
        ("processor_config.json", {"image_processor": SETTINGS}),
    ],
)
def test_image_settings_are_read_where_old_and_new_versions_write_them(tmp_path, name, record):
    (tmp_path / name).write_text(json.dumps(record))
    patcher = read_patcher(tmp_path)
    assert (patcher.token_px, patcher.std) == (32, (0.5, 0.25, 0.125))
    assert patcher.max_tokens == 16384


def test_missing_image_settings_are_named(tmp_path):
    with pytest.raises(EngineError, match=r"no preprocessor_config\.json"):
        read_patcher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"patch_size": 16}')
    with pytest.raises(EngineError, match=r"lacks a setting.*image_mean"):
        read_patcher(tmp_path)


def test_patches_are_those_of_the_library_bit_for_bit(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("PIL")
    library = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
    rgb = np.random.default_rng(0).integers(0, 256, (320, 256, 3), dtype=np.uint8)
    patches, grid = read_patcher(tmp_path).cut(rgb)
    theirs = library.Qwen2VLImageProcessorPil(**SETTINGS)(images=[rgb], return_tensors="np")
    assert np.array_equal(patches, theirs["pixel_values"])
    assert list(grid) == theirs["image_grid_thw"][0].tolist()


# --- sizes ---------------------------------------------------------------------------------------


def shown(width: int, height: int, max_tokens: int = 10240, side: int = 32) -> tuple[int, int]:
    frame = Frame("front", 1, "optical", EncodedImage("jpeg", b"", compressed=True))
    return shown_size(SelectedFrame(frame, b"", "image/jpeg", "0", width, height), max_tokens, side)


def test_a_camera_picture_that_is_on_the_grid_is_shown_as_it_is():
    assert shown(640, 480) == (640, 480)


def test_a_picture_of_one_pixel_is_enlarged_to_the_least_that_the_model_reads():
    assert shown(1, 1) == (256, 256)


def test_a_model_with_smaller_visual_tokens_reads_the_same_number_from_fewer_pixels():
    assert shown(128, 128, side=16) == (128, 128)
    assert shown(640, 640, 64, side=16) == (128, 128)


@pytest.mark.parametrize("size", [(20000, 20000), (8000, 20), (0, 5)])
def test_a_picture_that_cannot_be_shown_is_refused_by_its_size(size):
    with pytest.raises(EngineError, match=f"{size[0]}×{size[1]} pixels"):
        shown(*size)
