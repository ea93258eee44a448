"""An episode in lines for people: each turn as it happens, and how it all ended."""

from __future__ import annotations

from rynn_brain_ros.demo.narrator import narrate
from rynn_brain_ros.planning.episode import (
    Answered,
    Confirmation,
    Decided,
    Episode,
    EpisodeEnded,
    EpisodeEvent,
    Looked,
    Move,
    TurnEnded,
    TurnRecord,
)
from rynn_brain_ros.values import (
    Affordance,
    Answer,
    Cause,
    Check,
    Decision,
    EncodedImage,
    FinishReason,
    Frame,
    FrameSet,
    LiftedGrounding,
    LiftedPoint,
    Motion,
    Outcome,
    Query,
    Reading,
    Refusal,
    RefusalCode,
    Response,
    SelectedFrame,
    Skill,
    Status,
    Task,
)

S = 1_000_000_000
FRAME = Frame("/front", 10 * S, "optical", EncodedImage("rgb8; jpeg", b"", compressed=True))
SHOWN = FrameSet((SelectedFrame(FRAME, b"", "image/jpeg", "00", 4, 3),))
TURN = TurnRecord(0, 10 * S, SHOWN)
MOTION = Motion(Skill.HAND_OVER, "base", (0.0, 0.0, 0.0), ())
GRASP = Affordance(0, ((500, 500),), (0, 0), "affordance")
POINT = LiftedPoint((2.0, 1.0), (0.0, 0.0, 1.0), (4e-6, 0, 0, 0, 9e-6, 0, 0, 0, 1e-6))
STALE = Refusal(RefusalCode.STALE, "no new image within 2 s")


def lines(*events: EpisodeEvent) -> list[str]:
    said: list[str] = []
    tell = narrate(said.append)
    for event in events:
        tell(event)
    return said


def answered(text: str, *lifted: LiftedGrounding, task: Task = Task.PLAN) -> Answered:
    answer = Answer("q", text, FinishReason.STOP, "e", "m")
    query = Query("q", task, "do", SHOWN)
    return Answered(0, 10 * S, Response(query, answer, Reading(text, text), lifted))


def decided(refusal: Refusal | None = None) -> Decided:
    checks = (Check("armed", True, "yes"), Check("age", refusal is None, "3 s", "2 s"))
    return Decided(0, None, MOTION, Decision(10 * S, checks, refusal))


def moved(cause: Cause) -> TurnEnded:
    outcome = Outcome(cause, "the fingers closed to 0.3 mm", 10 * S, 15 * S, 3)
    return TurnEnded(
        TurnRecord(0, 10 * S, SHOWN, moves=(Move(MOTION, decided().decision, outcome),))
    )


def test_a_look_is_a_turn_counted_from_one_with_the_age_of_what_is_seen():
    assert lines(Looked(0, 10 * S + 250_000_000, SHOWN)) == [
        "",
        "turn 1",
        "  saw     1 frame of /front, the newest 250 ms old",
    ]


def test_an_answer_is_one_line_however_it_was_written():
    assert lines(answered("Pick  up\nthe cube.")) == ["  said    Pick up the cube."]


def test_a_place_is_told_in_metres_with_its_uncertainty():
    point = LiftedPoint(
        POINT.pixel, POINT.point_camera_m, POINT.covariance_camera_m2, (0.5, -0.25, 0.04)
    )
    lifted = LiftedGrounding(GRASP, SHOWN[0], target=point, fixed_frame_id="panda_link0")
    assert lines(answered("There.", lifted))[1] == (
        "  where   affordance at (0.500, -0.250, 0.040) m in panda_link0, ±3 mm"
    )


def test_a_place_that_could_not_be_measured_says_why():
    refusal = Refusal(RefusalCode.NO_DEPTH, "no depth there")
    lifted = LiftedGrounding(GRASP, SHOWN[0], refusal=refusal)
    assert lines(answered("There.", lifted))[1] == "  where   affordance: no_depth: no depth there"


def test_a_place_known_in_the_camera_only_is_not_told():
    assert len(lines(answered("There.", LiftedGrounding(GRASP, SHOWN[0], target=POINT)))) == 1


def test_a_second_look_is_told_as_one():
    assert lines(answered("There.", task=Task.OBJECT)) == ["  looks   There."]


def test_the_gate_says_what_it_let_pass_and_how_many_checks():
    assert lines(decided()) == ["  gate    ✓ hand over: 2 of 2 checks passed"]


def test_the_gate_says_what_it_refused():
    (line,) = lines(decided(STALE))
    assert line == "  gate    ■ hand over: stale: no new image within 2 s (1 of 2 checks passed)"


def test_what_the_gate_refused_is_not_told_twice():
    move = Move(MOTION, decided(STALE).decision)
    turn = TurnRecord(0, 10 * S, SHOWN, moves=(move,), refusal=STALE)
    assert lines(TurnEnded(turn)) == []


def test_a_refusal_before_the_gate_is_told():
    turn = TurnRecord(0, 10 * S, SHOWN, refusal=STALE)
    assert lines(TurnEnded(turn)) == ["  refused ■ stale: no new image within 2 s"]


def test_a_motion_is_told_with_the_robots_own_time():
    assert lines(moved(Cause.DONE)) == ["  moved   ✓ 3 stages in 5.0 s of the robot's time"]


def test_a_motion_that_failed_says_how():
    assert lines(moved(Cause.NOTHING_GRIPPED)) == [
        "  moved   ✗ nothing gripped after 5.0 s: the fingers closed to 0.3 mm"
    ]


def test_a_confirmation_says_what_was_found():
    turn = TurnRecord(0, 10 * S, SHOWN, confirmation=Confirmation(True, "it lies there"))
    assert lines(TurnEnded(turn)) == ["  checked ✓ it lies there"]


def test_a_claim_that_is_not_believed_is_told_as_a_no():
    refusal = Refusal(RefusalCode.UNCONFIRMED, "it is not there")
    look = Confirmation(False, "it is not there")
    turn = TurnRecord(0, 10 * S, SHOWN, confirmation=look, refusal=refusal)
    assert lines(TurnEnded(turn)) == ["  checked ■ it is not there"]


def test_a_turn_that_only_succeeded_needs_no_line_of_its_own():
    assert lines(TurnEnded(TURN)) == []


def test_the_end_is_a_verdict_in_words():
    episode = Episode("do", "e", (TURN,), Status.REFUSED, "stale", STALE.text, False, 0, S)
    assert lines(EpisodeEnded(episode)) == ["", "■ Refused: no new image within 2 s"]
