"""The family as data, and which profile an unknown checkpoint gets."""

from __future__ import annotations

import pytest

from rynn_brain_ros.language import default_budget
from rynn_brain_ros.models.profiles import PROFILES, fits, profile_for, tells_generation
from rynn_brain_ros.models.roles import Role
from rynn_brain_ros.values import Generation, Task


def test_the_whole_family_is_there():
    assert len({profile.name for profile in PROFILES}) == len(PROFILES) == 11


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_known_name_gets_its_own_profile(profile):
    assert profile_for(profile.name) is profile
    assert profile_for(f"Alibaba-DAMO-Academy/{profile.name.lower()}") is profile


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_fewer_bits_take_less_memory(profile):
    ordered = [profile.weight_bytes.get(word) for word in ("nf4", "int8", "none")]
    sizes = [n_bytes for n_bytes in ordered if n_bytes is not None]
    assert sizes == sorted(set(sizes))
    assert profile.weight_bytes["fp8"] < profile.weight_bytes["none"]
    assert profile.weight_bytes["none"] == pytest.approx(2e9 * profile.size_b, rel=0.02)


@pytest.mark.parametrize(
    ("name", "kind", "size_b", "expected"),
    [
        ("RynnBrain-8B-nf4", "", 0, "RynnBrain-8B"),
        ("rynnbrain_plan_8b_kitchen", "qwen3_vl", 0, "RynnBrain-Plan-8B"),
        ("RynnBrain-Plan-30B", "", 0, "RynnBrain-Plan-30B-A3B"),
        ("RynnBrain1.1-8B-ft", "", 0, "RynnBrain1.1-9B"),
        ("my-model", "qwen3_5", 2.2, "RynnBrain1.1-2B"),
        ("my-model", "qwen3_vl_moe", 31.0, "RynnBrain-30B-A3B"),
        ("my-model", "qwen3_vl", 4.0, "RynnBrain-4B"),
        ("RynnBrain-2B", "", 0, "RynnBrain-2B"),
        ("RynnBrain-CoP-2B", "", 0, "RynnBrain-CoP-8B"),
        ("something", "", 0, "RynnBrain-2B"),
        ("RynnBrain-10.1B", "", 0, "RynnBrain-8B"),
    ],
)
def test_an_unknown_name_gets_the_nearest_right_one(name, kind, size_b, expected):
    assert profile_for(name, kind, size_b).name == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("RynnBrain-8B", True),
        ("RynnBrain-8B-nf4", True),
        ("RynnBrain1.1-9B-kitchen", True),
        ("Qwen3-VL-8B-Instruct", True),
        ("/cache/models--DAMO--RynnBrain1.1-9B/snapshots/1f0c", True),
        ("rynnbrain", False),
        ("RynnBrain-9B", False),
        ("/cache/models--me--brain/snapshots/1f0c", False),
    ],
)
def test_a_name_says_its_generation_or_is_known_not_to(name: str, says: bool):
    assert tells_generation(name) is says


def test_a_place_in_the_hugging_face_cache_is_known_by_its_repository():
    place = "/root/.cache/huggingface/hub/models--DAMO--RynnBrain1.1-9B/snapshots/1f0c"
    assert profile_for(place).name == "RynnBrain1.1-9B"


def test_what_was_measured_outweighs_the_name():
    assert profile_for("RynnBrain1.1-x", "qwen3_vl", 8.8).generation is Generation.V1_0


def test_a_role_that_a_generation_was_not_published_in_is_taken_from_the_name():
    assert profile_for("RynnBrain1.1-Plan-2B").tasks == frozenset({Task.PLAN})


def test_roles_say_which_tasks_a_checkpoint_knows():
    assert Task.PLAN not in profile_for("RynnBrain-8B").tasks
    assert profile_for("RynnBrain-Nav-8B").tasks == frozenset({Task.NAVIGATE})
    assert Task.THINK in profile_for("RynnBrain-CoP-8B").tasks


def test_a_mixture_of_experts_is_not_offered_in_what_bitsandbytes_cannot_do():
    assert set(profile_for("RynnBrain-30B-A3B").weight_bytes) == {"none", "fp8"}
    assert "30B" not in " ".join(fits(50_000_000_000))


def test_tags_follow_from_what_a_checkpoint_was_trained_for():
    assert "counting" in profile_for("RynnBrain-CoP-8B").tags
    assert "counting" not in profile_for("RynnBrain-8B").tags
    assert profile_for("RynnBrain-Nav-8B").tags == frozenset()
    boxes = {profile.name for profile in PROFILES if "3D Grounding" in profile.tags}
    assert boxes == {"RynnBrain1.1-2B", "RynnBrain1.1-9B"}


def test_only_the_second_generation_has_a_thinking_switch():
    for profile in PROFILES:
        second = profile.generation is Generation.V1_1
        assert (profile.enable_thinking is False) == second
        assert profile.hardware


def test_only_the_thinking_model_gets_room_to_think_unasked():
    cop = profile_for("RynnBrain-CoP-8B")
    assert cop.roles == frozenset({Role.THINK})
    assert cop.budget(Task.AFFORDANCE) == default_budget(Task.AFFORDANCE, thinking=True)
    assert profile_for("RynnBrain-8B").budget(Task.AFFORDANCE) == default_budget(Task.AFFORDANCE)


def test_what_fits_is_named_best_first_with_its_quantization():
    assert fits(8_000_000_000)[:2] == (
        "RynnBrain-4B int8 (5.2 GB)",
        "RynnBrain1.1-2B none (4.4 GB)",
    )
    assert fits(10**9) == ()
