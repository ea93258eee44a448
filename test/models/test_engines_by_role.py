"""Several roles, several engines: how they are spelled, and what is opened how often."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_quantization import LAYER, TEXT, VISION, header_only

from rynn_brain_ros.models import Role, open_engines, parse_roles, runs_here
from rynn_brain_ros.values import EngineError, InputError


def test_one_engine_serves_every_role():
    assert parse_roles("local:DIR#nf4") == dict.fromkeys(Role, "local:DIR#nf4")


def test_roles_are_separated_by_commas_before_their_names_only():
    assert parse_roles("ground=local:a,b,plan=http://host:1/v1?x=2#m") == {
        Role.GROUND: "local:a,b",
        Role.PLAN: "http://host:1/v1?x=2#m",
    }


@pytest.mark.parametrize("spec", ["ground=a,ground=b", "a,ground=b"])
def test_what_cannot_be_meant_is_refused(spec):
    with pytest.raises(InputError, match="give each role once, as in ground=local:DIR"):
        parse_roles(spec)


def test_what_is_named_twice_is_opened_once():
    engines = open_engines("ground=color-baseline,plan=color-baseline")
    assert engines.by_role[Role.GROUND] is engines.by_role[Role.PLAN]
    assert set(engines.by_role) == {Role.GROUND, Role.PLAN}
    engines.close()


def test_models_that_would_be_loaded_here_are_told():
    spec = "ground=nano,plan=local:DIR#nf4,think=local:DIR#nf4,navigate=http://localhost:1/v1"
    assert runs_here(spec) == ("nano", "local:DIR#nf4")
    assert runs_here("nano#int8") == ("nano#int8",)
    assert runs_here("color-baseline") == ()


def test_an_unknown_engine_of_a_role_is_named():
    with pytest.raises(InputError, match="unknown engine 'gpt'"):
        open_engines("ground=color-baseline,plan=gpt")


def test_the_models_of_two_roles_must_fit_together(tmp_path: Path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    for name in ("RynnBrain-8B", "RynnBrain-Plan-8B"):
        folder = tmp_path / name
        folder.mkdir()
        config = {"model_type": "qwen3_vl", "text_config": TEXT, "vision_config": VISION}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text("{}")
        header_only(folder / "model.safetensors", {LAYER: (1024 * 1024, 1024 * 1024)})
    spec = f"ground=local:{tmp_path}/RynnBrain-8B,think=local:{tmp_path}/RynnBrain-8B"
    with pytest.raises(EngineError) as error:
        open_engines(f"{spec},plan=local:{tmp_path}/RynnBrain-Plan-8B")
    said = str(error.value)
    assert said.startswith("the models together need ")
    assert "ground+think: RynnBrain-8B (BF16)" in said
    assert "plan: RynnBrain-Plan-8B (BF16)" in said
