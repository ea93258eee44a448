"""RynnBrain-nano's training: true lessons, the library's own mathematics, and learning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("mujoco")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from rynn_brain_ros.checking.cases import load_cases, save_cases  # noqa: E402
from rynn_brain_ros.language import compose, parse  # noqa: E402
from rynn_brain_ros.models.local.engine import LocalEngine  # noqa: E402
from rynn_brain_ros.models.local.loading import load  # noqa: E402
from rynn_brain_ros.models.local.patches import read_patcher  # noqa: E402
from rynn_brain_ros.models.nano import CHECKPOINT  # noqa: E402
from rynn_brain_ros.sim.objects import PAINT  # noqa: E402
from rynn_brain_ros.sim.table_scene import (  # noqa: E402
    FRONT_EYE_M,
    FRONT_TARGET_M,
    look_at,
)
from rynn_brain_ros.sim.table_tasks import Relation  # noqa: E402
from rynn_brain_ros.sim.tabletop import Thing  # noqa: E402
from rynn_brain_ros.values import (  # noqa: E402
    Affordance,
    Area,
    Box,
    Count,
    FrameSet,
    Message,
    NoGrounding,
    Query,
    Task,
    TextPart,
    Trajectory,
)
from training.nano.cases import true_cases  # noqa: E402
from training.nano.evaluate import held_out, summary  # noqa: E402
from training.nano.evaluate_tasks import KINDS, held_out_tasks, judge_task  # noqa: E402
from training.nano.lessons import (  # noqa: E402
    GENERATION,
    NO_PICTURE,
    POINTING,
    Exchange,
    Lesson,
    Manner,
)
from training.nano.network import Sight, build_network  # noqa: E402
from training.nano.optimizing import Schedule, optimize  # noqa: E402
from training.nano.pictures import TablePicture, table_pictures  # noqa: E402
from training.nano.plans import TAUGHT, Plan, PlanTeacher  # noqa: E402
from training.nano.products import behind_products, keep_states, learn_products  # noqa: E402
from training.nano.report import card, draw_curves  # noqa: E402
from training.nano.rows import (  # noqa: E402
    COLUMNS,
    HOLDERS,
    N_CELLS,
    ROWS,
    Row,
    Scribe,
    assemble,
)
from training.nano.save import load_checkpoint, save_checkpoint  # noqa: E402
from training.nano.see import labels_of  # noqa: E402
from training.nano.speak import Speaker, learn_hints, unevenness  # noqa: E402
from training.nano.spots import free_spot, spots_beside  # noqa: E402
from training.nano.teacher import (  # noqa: E402
    EVERYTHING,
    RISE,
    THOUGHTS,
    Teacher,
    kinds_in,
)
from training.nano.train import Recipe, Run, begin, draw  # noqa: E402
from training.nano.truth import SIDES, Truth, truth_of  # noqa: E402
from training.nano.turns import PLACE, THING, Turn, turn_pictures  # noqa: E402
from training.nano.vocabulary import sentences  # noqa: E402
from training.nano.words import build_tokenizer  # noqa: E402

N_PICTURES = 24
CAMERA = look_at(FRONT_EYE_M, FRONT_TARGET_M)


@pytest.fixture(scope="module")
def pictures() -> list[TablePicture]:
    return list(islice(table_pictures(seed=7), N_PICTURES))


@pytest.fixture(scope="module")
def truths(pictures: list[TablePicture]) -> list[Truth]:
    return [truth_of(picture.numbers(), picture.things) for picture in pictures]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(sentences())


@pytest.fixture(scope="module")
def network(tokenizer):
    return build_network(tokenizer).eval()


# --- pictures and their truth --------------------------------------------------------------------


def test_a_seed_always_draws_the_same_pictures(pictures: list[TablePicture]):
    again = list(islice(table_pictures(seed=7), 3))
    assert [p.map_png for p in again] == [p.map_png for p in pictures[:3]]
    assert [p.things for p in again] == [p.things for p in pictures[:3]]
    other = next(iter(table_pictures(seed=8)))
    assert other.map_png != pictures[0].map_png


def test_a_point_lies_on_its_thing_and_its_box_is_tight(
    pictures: list[TablePicture], truths: list[Truth]
):
    checked = 0
    for picture, truth in zip(pictures, truths, strict=True):
        numbers = picture.numbers()
        for seen in truth.seen:
            assert truth.shows(*seen.point) == seen.thing.number
            x0, y0, x1, y1 = np.multiply(seen.box, (0.32, 0.24, 0.32, 0.24)).round().astype(int)
            inside = numbers[y0:y1, x0:x1] == seen.thing.number
            assert inside.sum() == seen.n_px
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any()
            checked += 1
    assert checked > 50


def test_things_have_the_colour_that_their_names_say(
    pictures: list[TablePicture], truths: list[Truth]
):
    """Across all lamps: the mean colour is nearer to the named paint's hue than to others'."""
    right = total = 0
    paints = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in PAINT.items()}
    for picture, truth in zip(pictures, truths, strict=True):
        image, numbers = picture.pixels().astype(float), picture.numbers()
        for seen in truth.seen:
            mean = image[numbers == seen.thing.number].mean(0)
            best = max(paints, key=lambda name: float(paints[name] @ mean))
            right += best == seen.thing.color
            total += 1
    assert right / total > 0.9


def test_every_thing_that_is_seen_has_a_visual_token(truths: list[Truth]):
    for truth in truths:
        assert {int(n) for n in np.unique(truth.cells)} - {0} <= {
            seen.thing.number for seen in truth.seen
        }
        large = {seen.thing.number for seen in truth.seen if seen.n_px > 200}
        assert large <= {int(n) for n in np.unique(truth.cells)}


# --- lessons --------------------------------------------------------------------------------------


MANNERS = (
    POINTING,
    Manner(Task.COUNT),
    *THOUGHTS,
)


def lessons(
    truths: list[Truth], manner: Manner, n_frames: int, p_absent: float = 0.2
) -> list[tuple[Lesson, list[Truth]]]:
    """Some about every run of pictures, with what these show."""
    teacher, made = Teacher(np.random.default_rng(0), EVERYTHING), []
    for first in range(N_PICTURES - n_frames):
        frames = [(n, n % 2 == 1) for n in range(first, first + n_frames)]
        shown = [truths[n] for n, _ in frames]
        made.append((teacher.lesson(frames, shown, 4, p_absent, manner), shown))
    return made


@pytest.mark.parametrize("n_frames", [1, 3])
def test_answers_read_back_as_what_is_true(truths: list[Truth], n_frames: int):
    kinds = set()
    for lesson, shown in lessons(truths, POINTING, n_frames):
        for exchange in lesson.exchanges:
            (grounding,) = parse(exchange.answer, n_frames, task=exchange.task).groundings
            kinds.add(type(grounding))
            if exchange.place is None:
                assert isinstance(grounding, NoGrounding) and grounding.abstained
                continue
            assert not grounding.flags and grounding.frame == exchange.place[0]
            frame = exchange.place[0]
            _check_points(grounding.points, exchange, shown[frame], lesson.frames[frame][1])
    assert kinds == {Affordance, Box, Area, Trajectory, NoGrounding}


def _check_points(
    points: Sequence[tuple[float, float]], exchange: Exchange, truth: Truth, flipped: bool
) -> None:
    def shows(x: float, y: float) -> int:
        return truth.shows(1000 - x if flipped else x, y)

    numbers = [noun.places[0][1] for noun in exchange.nouns]
    asked, goal = numbers[0], numbers[-1]
    if exchange.task is Task.OBJECT:
        seen = truth.number(asked)
        assert seen is not None
        assert np.allclose(np.ravel(points), seen.mirrored(flipped)[2:], atol=0.51)
    elif exchange.task is Task.AREA:
        on_table = exchange.relation is Relation.NEXT_TO
        assert shows(*points[0]) == (0 if on_table else asked)
    else:
        assert shows(*points[0]) == asked
    if exchange.task is Task.TRAJECTORY:
        (_, y0), above, over, (x1, y1) = points
        assert above == (points[0][0], max(0, y0 - RISE)) and over == (x1, max(0, y1 - RISE))
        assert shows(x1, y1) == (0 if exchange.relation is Relation.NEXT_TO else goal)


@pytest.mark.parametrize("thinking", [False, True])
def test_what_is_counted_is_what_is_seen_of_it(truths: list[Truth], thinking: bool):
    told = set()
    for lesson, shown in lessons(truths, Manner(Task.COUNT, thinking), 2):
        for exchange in lesson.exchanges:
            (noun,) = exchange.nouns
            color, shape = noun.kind
            alike = [
                seen
                for seen in shown[-1].seen
                if color in ("", seen.kind[0]) and shape in ("", seen.kind[1])
            ]
            reading = parse(exchange.answer, 2, task=Task.COUNT, thinking=thinking)
            assert len(noun.places) == len(alike)
            assert exchange.instruction[: noun.end].endswith(f"{shape or 'thing'}s")
            told.add(len(alike))
            if not thinking:
                assert exchange.answer == str(len(alike))
                continue
            (count,) = reading.groundings
            assert isinstance(count, Count) and count.count == len(alike)
            assert len(reading.reasoning) == len(alike)
    assert {0, 1, 2} <= told


@pytest.mark.parametrize("task", EVERYTHING)
def test_a_thought_is_a_look_at_what_the_answer_depends_on(truths: list[Truth], task: Task):
    for lesson, shown in lessons(truths, Manner(task, thinking=True), 2):
        for exchange in lesson.exchanges:
            reading = parse(exchange.answer, 2, task=task, thinking=True)
            (answer,) = reading.groundings
            if exchange.place is None:
                assert isinstance(answer, NoGrounding) and answer.abstained
                continue
            assert answer.frame == exchange.place[0]
            boxes = [thought for thought in reading.reasoning if isinstance(thought, Box)]
            for box, noun in zip(boxes, exchange.nouns, strict=True):
                ((frame, number),) = noun.places
                seen = shown[frame].number(number)
                assert seen is not None
                true = seen.mirrored(lesson.frames[frame][1])[2:]
                assert np.allclose(np.ravel(box.points), true, atol=0.51)


@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize("manner", MANNERS, ids=lambda m: f"{m.task.value}-{m.thinking}")
def test_a_question_is_read_in_the_tokens_that_the_engine_reads(
    tokenizer, truths: list[Truth], manner: Manner, n_frames: int
):
    scribe = Scribe(tokenizer)
    for lesson, _ in lessons(truths, manner, n_frames)[:6]:
        for exchange in lesson.exchanges:
            frames = FrameSet((NO_PICTURE,) * n_frames, 10240)
            query = Query(
                *("q", exchange.task, exchange.instruction, frames),
                thinking=manner.thinking,
                abstain=exchange.abstain,
            )
            answer = Message("assistant", (TextPart(exchange.answer),))
            whole = chat_tokens(tokenizer, (*compose(query, GENERATION), answer))
            row = scribe.lesson(dataclasses.replace(lesson, exchanges=(exchange,)))
            ids = without_surplus(scribe, row.ids)
            assert ids == whole[: len(ids)]
            assert tokenizer.decode(whole[len(ids) :]) == "\n"


@pytest.mark.parametrize("manner", [POINTING, *THOUGHTS[:-1]], ids=lambda m: m.task.value)
def test_an_answer_is_decided_where_it_differs_from_an_abstention(
    tokenizer, truths: list[Truth], manner: Manner
):
    scribe, there, absent = Scribe(tokenizer), set(), set()
    for lesson, _ in lessons(truths, manner, 1, p_absent=0.5):
        row = scribe.lesson(lesson)
        for exchange, said in zip(lesson.exchanges, row.said, strict=True):
            deciding = tuple(row.ids[said.decided[0] : said.decided[0] + 2])
            (absent if exchange.place is None else there).add(deciding)
            assert said.places == (() if exchange.place is None else (exchange.place,))
            if manner.thinking:  # and once more behind the thought
                first = tokenizer.decode(row.ids[said.decided[1] : said.decided[1] + 2])
                assert exchange.answer.split("<answer>")[1].startswith(first)
    assert len(absent) == 1 and there and not there & absent


def test_places_next_to_a_thing_are_told_by_the_side_that_they_are_on(
    tokenizer, truths: list[Truth]
):
    scribe, found = Scribe(tokenizer), set()
    for lesson, shown in lessons(truths, POINTING, 2):
        row = scribe.lesson(lesson)
        batch = assemble(scribe, [row], [shown])
        told = {at: side for _, at, side in batch.sides}
        for exchange, said in zip(lesson.exchanges, row.said, strict=True):
            for at, mark in said.marks.items():
                if exchange.relation is not Relation.NEXT_TO or mark.side is None:
                    assert at - 1 not in told
                    continue
                assert mark.place is not None
                frame, number = mark.place
                seen = shown[frame].number(number)
                assert seen is not None
                flipped = lesson.frames[frame][1]
                (x, _), (x0, _, x1, _) = seen.beside(flipped), seen.mirrored(flipped)[2:]
                side = SIDES[told[at - 1]]
                assert side == ("left" if x < x0 else "right" if x > x1 else SIDES[0])
                found.add(side)
    assert found == set(SIDES)


def test_coordinates_are_told_by_their_thing_and_those_beside_it_too(
    tokenizer, truths: list[Truth]
):
    scribe, beside = Scribe(tokenizer), 0
    for lesson, shown in lessons(truths, POINTING, 2):
        row = scribe.lesson(lesson)
        batch = assemble(scribe, [row], [shown])
        for exchange, said in zip(lesson.exchanges, row.said, strict=True):
            for at, mark in said.marks.items():
                if mark.exact or mark.place is None:
                    continue
                frame, number = mark.place
                (looked,) = (cells(row, where, frame) for _, b, where in batch.looks if b == at - 1)
                flipped = lesson.frames[frame][1]
                shows = shown[frame].cells[:, ::-1] if flipped else shown[frame].cells
                assert (looked == (shows == number)).all()
                beside += exchange.relation is Relation.NEXT_TO
    assert beside > 20


def test_attention_that_counts_is_spread_over_one_token_of_each_thing_and_the_noun(
    tokenizer, truths: list[Truth]
):
    scribe, told = Scribe(tokenizer), set()
    for lesson, shown in lessons(truths, Manner(Task.COUNT), 2):
        row = scribe.lesson(lesson)
        batch = assemble(scribe, [row], [shown])
        assert len(batch.counted) == len(lesson.exchanges)
        for exchange, said, look in zip(lesson.exchanges, row.said, batch.counted, strict=True):
            _, at, where = look
            middles = {
                shown[1].number(number).point  # type: ignore[union-attr]
                for _, number in exchange.nouns[0].places
            }
            n_cells = len({(int(x * COLUMNS / 1000), int(y * ROWS / 1000)) for x, y in middles})
            assert cells(row, where, 1).sum() == n_cells and not cells(row, where, 0).any()
            assert at == said.start - 1 and where.sum() == n_cells + 1
            told.add(n_cells)
    assert {0, 1, 2} <= told


def cells(row: Row, where: NDArray[np.bool_], frame: int) -> NDArray[np.bool_]:
    """Of one frame's visual tokens, [rows, columns]."""
    start = row.shown[frame].start
    return where[start : start + N_CELLS].reshape(ROWS, COLUMNS)


def test_even_attention_costs_nothing_and_any_other_does():
    where = np.array([[True, True, False, True]])
    lost = [
        float(unevenness(torch.tensor([[shares]]).log(), torch.from_numpy(where)))
        for shares in ([1 / 3, 1 / 3, 1e-9, 1 / 3], [0.25, 0.25, 0.25, 0.25], [0.5, 0.4, 1e-9, 0.1])
    ]
    assert lost[0] == pytest.approx(0, abs=1e-5)
    assert lost[1] > 0.2 and lost[2] > 0.2


def test_what_is_asked_for_in_vain_is_in_no_frame(truths: list[Truth]):
    teacher = Teacher(np.random.default_rng(1))
    words = {
        "violet": "purple",
        "block": "cube",
        "box": "cube",
        "sphere": "ball",
        "can": "cylinder",
    }
    words |= {"dish": "plate", "cup": "mug"}
    for n, truth in enumerate(truths):
        for exchange in teacher.lesson([(n, False)], [truth], 4, p_absent=1.0).exchanges:
            said = [words.get(w, w) for w in exchange.instruction.rstrip(".?").split()]
            assert tuple(said[-2:]) not in kinds_in(truth) or "around" in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_answer_is_judged_right_and_anothers_is_not(kind: str):
    asked = held_out_tasks(kind, seed=5, count=40)
    for each in asked:
        result = judge_task(each, each.exchange.answer)
        assert result.right and result.valid
        assert result.grounded == (kind == "thoughts" and not result.absent)
    others = [*asked[20:], *asked[:20]]
    wrong = [
        not judge_task(each, other.exchange.answer).right
        for each, other in zip(asked, others, strict=True)
        if each.exchange.answer != other.exchange.answer
    ]
    assert sum(wrong) > 0.8 * len(wrong) > 10
    assert not judge_task(asked[0], "I would rather not.").valid


def test_true_answers_are_cases_that_check_engine_reads(tmp_path: Path):
    cases = list(true_cases(seed=5, count=2, taught=True))
    assert len({case.name for case in cases}) == len(cases) == 2 * (len(KINDS) + 4)
    assert [case.name for case in true_cases(seed=5, count=2)] == [c.name for c in cases[:8]]
    save_cases(tmp_path / "cases.jsonl", cases)
    read = load_cases(tmp_path / "cases.jsonl")
    assert not read.problems
    assert [case.expected.text for case in read.cases] == [case.expected.text for case in cases]


def test_questions_are_worded_as_for_any_model(truths: list[Truth]):
    asked = held_out("film", seed=3, count=6)
    teacher = Teacher(np.random.default_rng((3, 1)))
    assert len(asked) == 6
    for each in asked:
        *_, last = compose(each.query, GENERATION)[0].parts
        assert isinstance(last, TextPart) and last.text.startswith(each.query.instruction)
    lesson = teacher.lesson([(0, False)], [truths[0]], 1)
    assert lesson.exchanges[0].rest.startswith("\n")


# --- the network ----------------------------------------------------------------------------------


def test_the_shipped_nano_learns_on_and_new_words_begin_as_what_they_are_made_of(tokenizer):
    knew = type(tokenizer).from_pretrained(CHECKPOINT)
    tokenizer = build_tokenizer(sentences())
    tokenizer.add_tokens(["the cube and the ball"])
    network = build_network(tokenizer)
    _, new = load_checkpoint(network, tokenizer, CHECKPOINT)
    assert [tokenizer.decode(token) for token in new][-1] == "the cube and the ball"
    assert min(new) == len(knew)
    words = network.get_input_embeddings().weight
    pieces = words[knew("the cube and the ball")["input_ids"]]
    torch.testing.assert_close(words[new[-1]], pieces.mean(0))


def test_what_is_read_in_other_words_does_not_learn_on():
    tokenizer = build_tokenizer(["quite other words"])
    with pytest.raises(SystemExit, match="was made of other words"):
        load_checkpoint(build_network(tokenizer), tokenizer, CHECKPOINT)


def test_a_thought_takes_few_tokens(tokenizer):
    """An answer in many pieces is wrong in one of them too often."""
    thought = (
        "<think>I see <object> <frame 0>: (1, 2), (3, 4) </object>.</think>"
        "#### <answer><area> <frame 0>: (5, 6) </area></answer>"
    )
    tags = "<object> <frame 0>: (1, 2), (3, 4) </object>.<area> <frame 0>: (5, 6) </area>"
    ids = [tokenizer(text)["input_ids"] for text in (thought, tags)]
    assert len(ids[0]) <= len(ids[1]) + 5
    assert tokenizer.decode(ids[0]) == thought


def test_a_coordinate_is_one_token(tokenizer):
    for n in (0, 7, 10, 304, 1000):
        assert len(tokenizer(f"({n}, 5)", add_special_tokens=False)["input_ids"]) == len(
            tokenizer("(512, 5)", add_special_tokens=False)["input_ids"]
        )
    text = "<affordance> <frame 3>: (512, 30) </affordance>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_the_batched_tower_is_the_librarys(network, tokenizer, tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    save_checkpoint(network, tokenizer, tmp_path / "nano", {})
    patches, grid = read_patcher(tmp_path / "nano").cut(image)
    with torch.inference_mode():
        tokens = Sight(network)(torch.from_numpy(image[None]))
        stock = network.model.visual(torch.from_numpy(patches), grid_thw=torch.tensor([grid]))
    torch.testing.assert_close(tokens[0], stock.pooler_output, rtol=1e-4, atol=1e-4)


def test_questions_read_together_are_read_as_if_alone(network, tokenizer, truths: list[Truth]):
    scribe, text = Scribe(tokenizer), network.model.language_model
    speaker = Speaker(network, scribe.numbers)
    lesson = Teacher(np.random.default_rng(0)).lesson([(0, False), (1, False)], truths[:2], 3)
    torch.manual_seed(1)
    tokens = torch.randn(2, N_CELLS, 160)
    with torch.inference_mode():
        together = assemble(scribe, [scribe.lesson(lesson)], [truths[:2]])
        states = speaker.read(together, tokens, {})[0]
        n_opening = scribe.lesson(lesson).branch.count(0)
        start = n_opening
        for exchange in lesson.exchanges:
            row = scribe.lesson(dataclasses.replace(lesson, exchanges=(exchange,)))
            batch, length = assemble(scribe, [row], [truths[:2]]), len(row.ids)
            visual = batch.visual[:, :length]
            x = text.embed_tokens(batch.ids[:, :length])
            alone = text(
                inputs_embeds=x.masked_scatter(visual[..., None], tokens.reshape(-1, 160)),
                position_ids=batch.positions[:, :, :length],
                use_cache=False,
            ).last_hidden_state[0, n_opening:]
            end = start + len(alone)
            torch.testing.assert_close(states[start:end], alone, rtol=1e-3, atol=1e-3)
            start = end


def test_a_stage_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path):
    def learn(stop_at: int, kept: Path | None) -> torch.Tensor:
        torch.manual_seed(0)
        network = torch.nn.Linear(4, 1)

        def lesson(step: int) -> tuple[torch.Tensor, dict[str, float]]:
            if step == stop_at:
                raise KeyboardInterrupt
            x = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 4))).float()
            return (network(x) - x.sum(1, keepdim=True)).square().mean(), {}

        schedule = Schedule(9, 1e-2)
        optimize(network.parameters(), schedule, lesson, print, kept=kept, keep_every_s=0)
        return network.weight.detach()

    with pytest.raises(KeyboardInterrupt):
        learn(5, tmp_path / "kept.pt")
    torch.testing.assert_close(learn(-1, tmp_path / "kept.pt"), learn(-1, None), rtol=0, atol=0)


def test_hints_are_learned_beside_a_language_model_that_stays(
    network, tokenizer, truths: list[Truth]
):
    scribe = Scribe(tokenizer)
    speaker = Speaker(network, scribe.numbers)
    lesson = Teacher(np.random.default_rng(0)).lesson([(0, False)], truths[:1], 3)
    batch = assemble(scribe, [scribe.lesson(lesson)], [truths[:1]])
    before = [weight.clone() for weight in speaker.text.parameters()]
    words, new = speaker.text.embed_tokens.weight, tokenizer("<think>red")["input_ids"]
    known = [token for token in range(len(words)) if token not in new]
    told: list[float] = []
    tokens = torch.randn(1, N_CELLS, 160)
    schedule = Schedule(8, 1e-2)
    tell = lambda score: told.append(score["held"])  # noqa: E731
    learn_hints(speaker, lambda _: (batch, tokens), schedule, tell, new)
    for now, then in zip(speaker.text.parameters(), before, strict=True):
        assert now.requires_grad
        if now is words:
            assert torch.equal(now[known], then[known]) and not torch.equal(now[new], then[new])
        else:
            assert torch.equal(now, then)
    held = speaker.loss(batch, tokens)[1]["held"]
    assert held > told[0]


def test_a_step_whose_questions_name_nothing_learns_all_else(
    network, tokenizer, truths: list[Truth]
):
    scribe = Scribe(tokenizer)
    lesson = Teacher(np.random.default_rng(0)).lesson([(0, False)], truths[:1], 3)
    batch = assemble(scribe, [scribe.lesson(lesson)], [truths[:1]])
    batch = dataclasses.replace(batch, kinds=[])
    loss, score = Speaker(network, scribe.numbers).loss(batch, torch.randn(1, N_CELLS, 160))
    loss.backward()
    assert "understood" not in score and score["decided"] >= 0


@pytest.fixture
def places_beside(tokenizer, truths: list[Truth]):
    """A fresh language model, and questions about free places next to things."""
    torch.manual_seed(0)
    scribe, shown = Scribe(tokenizer), truths[:4]
    teacher = Teacher(np.random.default_rng(0), {Task.AREA: 1.0})
    asked = [teacher.lesson([(n, False)], [truth], 4) for n, truth in enumerate(shown)]
    batch = assemble(scribe, [scribe.lesson(each) for each in asked], [[t] for t in shown])
    assert len(batch.sides) > 8
    lesson = batch, torch.randn(len(shown), N_CELLS, 160)
    return Speaker(build_network(tokenizer), scribe.numbers), lesson


def test_what_follows_from_kept_states_is_what_the_language_model_computes(places_beside):
    speaker, (batch, tokens) = places_beside
    kept = keep_states(speaker, lambda _: (batch, tokens), 2)
    n = len(kept.states) // 2
    with torch.no_grad():
        whole = speaker.read(batch, tokens, {})
        again = behind_products(speaker, kept.states)
    told = [(b, at) for targets in batch.targets.values() for b, at, _ in targets]
    told += [(b, at) for b, at, _ in batch.coordinates]
    b, at = torch.tensor(told).T
    torch.testing.assert_close(again[:n], whole[b, at])
    torch.testing.assert_close(again[n:], whole[b, at])
    beside = {(b, at) for b, at, _ in batch.sides}
    assert kept.is_beside[:n].tolist() == [place in beside for place in told]
    values = [value for _, _, value in batch.coordinates]
    assert kept.values[kept.words < 0][: len(values)].tolist() == pytest.approx(values)


def test_only_the_last_layers_products_learn_from_kept_states(places_beside):
    speaker, lesson = places_beside
    kept = keep_states(speaker, lambda _: lesson, 1)
    before = {name: weight.clone() for name, weight in speaker.text.named_parameters()}
    told: list[float] = []
    tell = lambda score: told.append(score["near beside"])  # noqa: E731
    learn_products(speaker, kept, Schedule(40, 3e-3), tell)
    assert told[-1] > max(0.5, 2 * told[0])
    for name, now in speaker.text.named_parameters():
        assert now.requires_grad
        is_taught = name.startswith("layers.4.") and ("mlp" in name or "post_attention" in name)
        assert torch.equal(now, before[name]) != is_taught, name


# --- plans ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def turns() -> list[Truth]:
    """Four of each of 10 tables."""
    drawn = islice(turn_pictures(seed=3), 40)
    return [truth_of(picture.numbers(), picture.things) for picture in drawn]


@pytest.fixture(scope="module")
def plans(turns: list[Truth]) -> list[Plan]:
    teacher, made = PlanTeacher(np.random.default_rng(0)), []
    for first in range(0, len(turns), len(Turn)):
        table = turns[first : first + len(Turn)]
        made += [teacher.plan(first, mirrored, table) for mirrored in (False, True, False)]
    return [plan for plan in made if plan is not None]


def test_turns_show_the_thing_in_the_hand_and_in_its_place(turns: list[Truth]):
    beside = 0
    for first in range(0, len(turns), len(Turn)):
        before, held, placed, _ = turns[first : first + len(Turn)]
        assert before.known(THING).holder == 0 and held.known(THING).holder == -1
        in_place = placed.known(THING).holder == PLACE
        beside += not in_place
        if not in_place:
            assert placed.known(THING).holder == 0
    assert 0 < beside < len(turns) / len(Turn)


def test_a_plan_says_what_is_true_of_its_newest_picture(turns: list[Truth], plans: list[Plan]):
    verbs = set()
    for plan in plans:
        for turn in plan.turns:
            reading = parse(turn.answer, len(turn.frames), task=Task.PLAN)
            verbs.add(turn.answer.split()[0])
            if turn.answer.startswith(("I ", "Done")):
                continue
            assert not any(grounding.flags for grounding in reading.groundings)
            assert turn.place is not None and turn.place[1] == THING
            if turn.answer.startswith("Place"):
                assert turn.beside == (turn.place[0], PLACE)
            picture, mirrored = turn.frames[-1]
            for grounding in reading.groundings:
                assert grounding.frame == len(turn.frames) - 1
                if isinstance(grounding, Affordance):
                    ((x, y),) = grounding.points
                    assert turns[picture].shows(1000 - x if mirrored else x, y) == THING
    assert verbs == {"Pick", "Place", "Done.", "I"}


def test_what_came_into_the_bowl_that_it_was_to_go_next_to_is_picked_up_again(turns: list[Truth]):
    teacher, contrary = PlanTeacher(np.random.default_rng(2)), 0
    for first in range(0, len(turns), len(Turn)):
        table = turns[first : first + len(Turn)]
        for _ in range(12):
            plan = teacher.plan(first, False, table)
            if plan is None or plan.relation in (None, Relation.HELD):
                continue
            came_into = table[Turn.PLACED].known(THING).holder == PLACE
            right = came_into == (plan.relation is not Relation.NEXT_TO)
            contrary += not right
            for turn in plan.turns:
                shows_placed = turn.frames[-1][0] == first + Turn.PLACED
                assert (turn.answer == "Done.") == (shows_placed and right)
    assert contrary > 5


def test_next_to_is_towards_the_camera_where_there_is_room():
    cup, block = thing("mug", (0.5, 0.1)), thing("cube", (0.4, -0.2))
    ahead, left, right = spots = spots_beside(cup, block, (), CAMERA)
    assert free_spot(spots) is ahead
    to_eye, to_spot = (np.subtract(end[:2], cup.xy_m) for end in (FRONT_EYE_M, ahead.xy_m))
    assert to_eye @ to_spot == pytest.approx(np.linalg.norm(to_eye) * np.linalg.norm(to_spot))
    assert left.seen[0] < ahead.seen[0] < right.seen[0]


def test_next_to_is_at_the_side_of_the_middle_where_something_is_in_front():
    cup, block = thing("mug", (0.5, 0.1)), thing("cube", (0.4, -0.2))
    ahead, *_ = spots_beside(cup, block, (), CAMERA)
    others = [thing("ball", ahead.xy_m)]
    for side in (0, 1):  # the inner, then the outer
        spots = spots_beside(cup, block, others, CAMERA)
        found = free_spot(spots)
        inner, outer = sorted(spots[1:], key=lambda spot: abs(spot.seen[0] - 500))
        assert found is not None and found is (inner, outer)[side]
        others.append(thing("cube", found.xy_m))
    assert free_spot(spots_beside(cup, block, others, CAMERA)) is None


def test_nothing_is_put_down_where_the_picture_ends():
    cup, block = thing("mug", (0.66, -0.3)), thing("cube", (0.4, 0.2))
    ahead, *sides = spots_beside(cup, block, (), CAMERA)
    assert ahead.seen[1] > 950 and not ahead.is_free
    assert free_spot((ahead, *sides)) in sides


@pytest.mark.parametrize("seed", range(8))
def test_next_to_is_the_same_place_in_a_mirrored_picture(seed: int):
    rng = np.random.default_rng(seed)
    spots = rng.uniform((0.35, -0.33), (0.65, 0.33), (6, 2))
    here, mirrored = (
        spots_beside(*things[:2], things[2:], camera)
        for side in (1, -1)
        for things in [[thing("cube", (x, side * y)) for x, y in spots]]
        for camera in [look_at(*((x, side * y, z) for x, y, z in (FRONT_EYE_M, FRONT_TARGET_M)))]
    )
    ahead, left, right = here
    for spot, other in zip((ahead, right, left), mirrored, strict=True):
        assert other.xy_m == pytest.approx((spot.xy_m[0], -spot.xy_m[1]))
        assert other.seen == pytest.approx((1000 - spot.seen[0], spot.seen[1]))
        assert other.is_free == spot.is_free


def test_the_middle_of_a_thing_is_in_a_token_that_shows_it(truths: list[Truth]):
    for truth in truths:
        for seen in truth.seen:
            row, column = truth.middle(seen.thing.number)
            assert truth.middle(seen.thing.number, True) == (row, COLUMNS - 1 - column)
            if (truth.cells == seen.thing.number).any():
                assert truth.cells[row, column] == seen.thing.number


@pytest.mark.parametrize("flipped", [False, True])
def test_visual_tokens_are_told_their_thing_its_middle_and_the_spot_beside_it(
    truths: list[Truth], flipped: bool
):
    beside = 0
    for truth in truths:
        table = labels_of(truth, flipped).reshape(*truth.cells.shape, -1)
        assert not table[(truth.cells == 0)[:, :: -1 if flipped else 1], 0].any()
        part = labels_of(truth, flipped, (3, 5), (8, 10))
        assert np.array_equal(part, table[3:11, 5:15].reshape(len(part), -1))
        for seen in truth.seen:
            _, _, side, is_middle, *numbers = table[truth.middle(seen.thing.number, flipped)]
            assert is_middle
            if not (truth.cells == seen.thing.number).any():
                continue
            assert numbers[:6] == pytest.approx(seen.mirrored(flipped), abs=1e-3)
            if seen.thing.beside is None:
                assert side == 0
                continue
            assert numbers[6:] == pytest.approx(seen.beside(flipped), abs=1e-3)
            assert side == seen.side(flipped) + 1
            beside += 1
        assert table[..., 3].sum() <= len(truth.seen)
    assert beside > 20


def thing(shape: str, xy_m: Sequence[float]) -> Thing:
    x, y = xy_m
    return Thing(shape, "red", shape, (x, y), (0.04, 0.04, 0.04))


def test_where_a_plan_answers_it_must_know_what_is_wanted_and_what_is_missing(
    tokenizer, turns: list[Truth]
):
    teacher, scribe, told = PlanTeacher(np.random.default_rng(1)), Scribe(tokenizer), set()
    for _ in range(60):
        plan = teacher.plan(0, False, turns[: len(Turn)])
        assert plan is not None
        row = scribe.talk(plan)
        batch = assemble(scribe, [row], [[turns[picture] for picture, _ in row.frames]])
        for (_, at, wanted), said in zip(batch.wanted, row.said, strict=True):
            words = plan.instruction.lower().split()
            told.add(wanted)
            assert at == said.start - 1
            taught = words[0] in {"grasp", "lift", "take"} or words[:2] == ["pick", "up"]
            assert (wanted == TAUGHT.index(Relation.HELD)) == taught
            if said.missing is not None:
                (noun,) = {int(np.flatnonzero(where)[0]) for _, _, where in batch.asks}
                shape = plan.nouns[said.missing][1][1]
                assert tokenizer.decode([row.ids[noun]]).strip() == shape
                told.add("missing")
    assert told > {"missing", len(TAUGHT), TAUGHT.index(Relation.HELD)}


def test_a_plan_is_read_in_the_tokens_that_the_engine_reads(tokenizer, plans: list[Plan]):
    scribe = Scribe(tokenizer)
    for plan in plans:
        whole = chat_tokens(tokenizer, plan.messages())
        assert without_surplus(scribe, scribe.talk(plan).ids) == whole


def chat_tokens(tokenizer, messages: Sequence[Message]) -> list[int]:
    """One token for each picture."""
    chat = []
    for message in messages:
        parts = [
            {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
            for part in message.parts
        ]
        chat.append({"role": message.role, "content": parts})
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def without_surplus(scribe: Scribe, ids: list[int]) -> list[int]:
    """The same of a row."""
    pictures = [n for n, token in enumerate(ids) if token == scribe.image]
    surplus = set(pictures) - set(pictures[::N_CELLS])
    return [token for n, token in enumerate(ids) if n not in surplus]


def test_visual_tokens_are_told_what_holds_their_thing(
    tokenizer, turns: list[Truth], plans: list[Plan]
):
    scribe, found = Scribe(tokenizer), set()
    for plan in plans:
        row = scribe.talk(plan)
        shown = [turns[picture] for picture, _ in row.frames]
        batch = assemble(scribe, [row], [shown])
        for b, at, holder in batch.held:
            assert batch.visual[b, at]
            frame = max(n for n, each in enumerate(row.shown) if each.start <= at)
            cell = at - row.shown[frame].start
            cells = shown[frame].cells
            cells = cells[:, ::-1] if row.frames[frame][1] else cells
            (seen,) = (s for s in shown[frame].seen if s.thing.number == cells.flat[cell])
            assert (HOLDERS[holder] == "hand") == (seen.thing.holder == -1)
            found.add(HOLDERS[holder])
    assert found == set(HOLDERS)


# --- the whole ------------------------------------------------------------------------------------


SMALL = Recipe(
    shards=1,
    shard=200,
    see_parts=Schedule(70, 2.5e-3),
    see_whole=Schedule(4, 1e-3),
    speak=Schedule(12, 3e-3),
    everything=Schedule(8, 1e-3),
    heads=Schedule(2, 3e-3),
    see_more_parts=Schedule(2, 1e-3),
    see_more_whole=Schedule(1, 1e-3),
    hints=Schedule(2, 3e-3),
    products=Schedule(4, 1e-3),
    kept_lessons=4,
    lessons=4,
    plans=2,
    routes=2,
    plan_share=0.4,
    room_share=0.3,
    route_share=0.3,
    film_shards=1,
    turn_shards=1,
    room_shards=1,
    scene_shard=40,
    known_pictures=16,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few minutes of training in a small world."""
    out = tmp_path_factory.mktemp("nano")
    draw(out / "pool", SMALL, workers=1)
    Run(out, out / "pool", SMALL).train()
    return out


@pytest.mark.slow
def test_it_visibly_learns(trained: Path):
    lines = [json.loads(line) for line in (trained / "curve.jsonl").read_text().splitlines()]
    first, *_, last = [line for line in lines if line["stage"] == "see parts"]
    assert last["color"] > 0.7 > first["color"]
    assert last["point"] < 60 < first["point"]
    first, *_, last = [line for line in lines if line["stage"] == "speak"]
    assert last["decided"] > first["decided"]  # at first no word is right


def test_a_folder_of_another_run_is_refused_by_name(tmp_path: Path):
    begin(tmp_path, SMALL, None)
    begin(tmp_path, SMALL, None)
    with pytest.raises(SystemExit, match="was begun with other from: choose another"):
        begin(tmp_path, SMALL, CHECKPOINT)
    with pytest.raises(SystemExit, match="was begun with other seed, plans: choose another"):
        begin(tmp_path, dataclasses.replace(SMALL, seed=9, plans=9), None)


@pytest.mark.slow
def test_a_nano_learns_on_and_says_what_it_began_with(trained: Path, tmp_path: Path):
    recipe = dataclasses.replace(SMALL, everything=Schedule(2, 1e-3))
    earlier = trained / "RynnBrain-nano"
    Run(tmp_path, trained / "pool", recipe).train_further(earlier)
    later = tmp_path / "RynnBrain-nano"
    one, other = (load_file(path / "model.safetensors") for path in (earlier, later))
    changed = {name.split(".")[1] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"visual", "language_model"}
    told = json.loads((later / "provenance.json").read_text())
    assert told["began with"] == json.loads((earlier / "provenance.json").read_text())


def test_the_model_card_tells_what_was_measured_and_every_recipe(tmp_path: Path):
    measured = json.loads((CHECKPOINT / "evaluation.json").read_text())
    told = {"minutes": 2, "machine": "a", "torch": "3", "recipe": {"seed": 5}}
    earlier = {**told, "code": "b1", "recipe": {"seed": 1}}
    text = card(measured, {**told, "code": "c2", "began with": earlier})
    assert text.index("Code c2") < text.index('{"seed": 5}') < text.index("code b1")
    assert text.index("code b1") < text.index('{"seed": 1}')
    assert f"{100 * measured['film']['point_inside']:.1f} %" in text
    ways = {"ways": 3, "all_right": 0.25, "stop_wrong": 0.125}
    with_rooms = card(
        {**measured, "room": measured["episode"], "routes": ways}, {**told, "code": "c"}
    )
    assert "3 answers on the way to it" in with_rooms and "| 25.0 % |" in with_rooms
    curve = [{"stage": "everything", "step": n, "near": n / 9} for n in range(9)]
    draw_curves(curve, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 2000
    stopped = [{**line, "near": 0.0} for line in curve[4:8]]
    draw_curves([*curve[:4], *stopped, *curve[4:]], tmp_path / "stopped.png")
    assert (tmp_path / "stopped.png").read_bytes() == (tmp_path / "curve.png").read_bytes()


@pytest.mark.slow
def test_what_was_trained_is_an_ordinary_checkpoint(trained: Path):
    path = trained / "RynnBrain-nano"
    assert sum(file.stat().st_size for file in path.iterdir()) < 8e6
    told = json.loads((path / "provenance.json").read_text())
    assert told["recipe"]["seed"] == 1 and told["code"]
    engine = LocalEngine(load(path, dtype="F32"))
    try:
        asked = held_out("episode", seed=5, count=4)
        answers = [engine.ask(each.query) for each in asked]
    finally:
        engine.close()
    assert all(answer.text for answer in answers)
    assert summary([])["questions"] == 0


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(trained: Path, monkeypatch: pytest.MonkeyPatch):
    curve = (trained / "curve.jsonl").read_text()
    run = Run(trained, trained / "pool", Recipe(shards=1, shard=200))
    run.train()
    assert (trained / "curve.jsonl").read_text() == curve
