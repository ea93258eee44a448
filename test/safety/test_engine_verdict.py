"""Outside of the simulator only an engine moves anything that has passed its check, as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safety_examples import LIMITS, PROPOSAL, SITUATION

from rynn_brain_ros.safety import (
    EngineIdentity,
    EngineVerdict,
    Gate,
    SafetyLimits,
    read_verdicts,
    tightened,
)
from rynn_brain_ros.values import ConfigError, Decision, RefusalCode, Skill, Step

REQUIRED = replace(LIMITS, engine_verdict="required")
NF4 = EngineIdentity("local", "RynnBrain-8B", "abc", "nf4")
PASSED = EngineVerdict(NF4, True, "", "2026-02-01T10:00:00+00:00", 20, ("object", "plan"))
FAILED = replace(PASSED, passed=False, reason="3 of 20 cases failed")


def judge(
    *verdicts: EngineVerdict, engine: EngineIdentity | None = NF4, limits: SafetyLimits = REQUIRED
) -> Decision:
    return Gate(limits, verdicts=verdicts).judge(replace(PROPOSAL, engine=engine), SITUATION)


def refusal_text(decision: Decision) -> str:
    assert decision.refusal is not None
    assert decision.refusal.code is RefusalCode.ENGINE_UNCHECKED
    return decision.refusal.text


def test_an_engine_that_passed_moves():
    decision = judge(PASSED)
    assert decision.approved
    (check,) = [check for check in decision.checks if check.name == "engine"]
    assert "passed 20 cases on 2026-02-01" in check.found


def test_without_a_verdict_nothing_moves_and_the_command_is_told():
    assert "rynn-brain check-engine ENGINE --cases FILE" in refusal_text(judge())


def test_a_failed_verdict_says_why():
    assert "3 of 20 cases failed" in refusal_text(judge(FAILED))


@pytest.mark.parametrize(
    "change",
    [{"quantization": "none"}, {"model": "RynnBrain-2B"}, {"engine": "http"}, {"revision": "abd"}],
    ids=lambda change: next(iter(change)),
)
def test_a_verdict_of_another_engine_does_not_count_and_both_are_named(change: dict[str, str]):
    answered = replace(NF4, **change)
    text = refusal_text(judge(PASSED, engine=answered))
    assert str(answered) in text
    assert str(NF4) in text


def test_of_several_verdicts_the_engines_own_counts():
    other = replace(FAILED, identity=replace(NF4, quantization="int8"))
    assert judge(other, PASSED).approved


def test_where_one_engine_passed_and_failed_it_failed():
    assert "failed" in refusal_text(judge(PASSED, FAILED))


def test_a_plan_moves_nothing_where_plans_were_not_among_the_cases():
    gate = Gate(REQUIRED, verdicts=(replace(PASSED, tasks=("affordance", "object")),))
    way = replace(PROPOSAL, engine=NF4)
    assert gate.judge(way, SITUATION).approved
    step = Step(Skill.PICK, "Pick it up.", grasp=PROPOSAL.targets[0])
    text = refusal_text(gate.judge(replace(way, step=step), SITUATION))
    assert "asked for affordance, object and no plan" in text
    assert "with plans among the cases" in text
    assert Gate(REQUIRED, verdicts=(PASSED,)).judge(replace(way, step=step), SITUATION).approved


def test_an_answer_of_nobody_known_moves_nothing():
    assert "nobody knows" in refusal_text(judge(PASSED, engine=None))


def test_a_simulator_needs_no_verdict_and_a_dry_run_neither():
    assert judge(limits=LIMITS).approved
    dry = judge(limits=replace(REQUIRED, dry_run=True))
    assert dry.refusal is not None
    assert dry.refusal.code is RefusalCode.DRY_RUN


def test_a_robots_limits_require_it_and_a_running_one_cannot_drop_it():
    assert SafetyLimits().engine_verdict == "required"
    assert tightened(LIMITS, engine_verdict="required").engine_verdict == "required"
    with pytest.raises(ConfigError, match="engine_verdict"):
        tightened(REQUIRED, engine_verdict="not_required")


# --- the file -------------------------------------------------------------------------------------


def record(**changes: Any) -> dict[str, Any]:
    entry = {
        "engine": "local",
        "model": "RynnBrain-8B",
        "revision": "abc",
        "quantization": "nf4",
        "passed": False,
        "reasons": ["3 of 20 cases failed"],
        "numbers": {"cases": 20},
        "cases": [
            {"task": "plan", "skipped": False},
            {"task": "object", "skipped": False},
            {"task": "count", "skipped": True},
        ],
    }
    return {
        "format": "rynn_brain_ros.engine_verdict/1",
        "when": PASSED.when,
        "engines": [{**entry, **changes}],
    }


def test_a_file_is_read_back(tmp_path: Path):
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(record()))
    assert read_verdicts(path) == (FAILED,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        json.dumps({**record(), "format": "something"}),
        json.dumps(record(passed="yes")),
        json.dumps(record(numbers={})),
        json.dumps({**record(), "engines": 3}),
    ],
    ids=["empty", "a list", "null", "format", "passed", "numbers", "engines"],
)
def test_what_is_no_verdict_is_refused_with_the_command_to_make_one(tmp_path: Path, text: str):
    path = tmp_path / "verdict.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"verdict\.json is no engine's verdict.*check-engine"):
        read_verdicts(path)


def test_a_missing_file_is_refused_by_its_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        read_verdicts(tmp_path / "nowhere.json")
