"""The kept answers of a reviewed curation as training conversations, one JSON object a line::

    {"id": "1-q0001-…", "conversation": [
       {"role": "user", "content": [{"type": "text", "text": "<frame 0>: "},
          {"type": "image", "image": "/…/set.frames/9f….jpg", "width": 640, "height": 480},
          {"type": "text", "text": "Pick up the red cube\\n…"}]},
       {"role": "assistant", "content": [{"type": "text", "text": "The … <affordance> …"}]}],
     "provenance": {"run": "…", "curation": "…", "reviewer": "Ada", "reviewed": "…",
       "frames": [{"camera": "…", "stamp_ns": …, "sha256": "9f…"}], "answers": [{…}]}}

The layout is RynnScale's (``projects/rynn_brain/README.md`` and ``vlm_datasets.py``): each picture
after its ``<frame i>: ``, numbers from 0 in every turn, integers in 0…1000. A plan of several
turns is one conversation, all of whose answers were kept. ``frames`` are in the order of the
pictures, ``answers`` in that of the assistant's turns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rynn_brain_ros.data.curation import Curation, Proposal, ProposedAnswer, read
from rynn_brain_ros.data.curation_review import Decision, Review, Verdict, check_review
from rynn_brain_ros.files import write_whole
from rynn_brain_ros.language import format_grounding
from rynn_brain_ros.values import (
    AnyGrounding,
    Box,
    ContactPoint,
    InputError,
    Query,
    Reading,
    SelectedFrame,
)

_FRAME = re.compile(r"<frame \d+>: ")


@dataclass(frozen=True)
class Kept:
    """An answer whose every proposal was accepted or corrected, and its text with these."""

    answer: ProposedAnswer
    text: str


@dataclass(frozen=True)
class Export:
    """Conversations written, the answers in them, and how many answers were left out for what."""

    conversations: int
    answers: int
    corrected: int
    left_out: Mapping[str, int]


def export(curation: Curation, review: Review, out: Path) -> Export:
    """Writes the pictures to ``OUT.frames/`` beside ``out``, then ``out``, each whole.

    Raises `InputError` where the review is of another curation, a correction is no answer in the
    model's grammar, or nothing is left; `OutputError`.
    """
    check_review(review, curation)
    kept, left_out = _kept(curation, review)
    whole = [found for one in kept if (found := _conversation(one, kept)) is not None]
    if len(whole) < len(kept):
        left_out["follow an answer that was not kept"] = len(kept) - len(whole)
    longest = [turns for turns in whole if not any(_begins(turns, other) for other in whole)]
    if not longest:
        raise InputError(
            f"{review.path} keeps no answer: accept or correct all proposals of at least one"
        )
    pictures = out.resolve().with_name(f"{out.stem}.frames")
    lines = [_line(turns, curation, review, pictures) for turns in longest]
    for frame in {f.sha256: f for turns in longest for f in _shown(turns[-1].answer)}.values():
        write_whole(_file(frame, pictures), frame.image)
    write_whole(out, "".join(lines).encode())
    told = {answer.answer.case.name + answer.answer.run: answer for t in longest for answer in t}
    corrected = sum(_is_corrected(one.answer, review) for one in told.values())
    return Export(len(longest), len(told), corrected, left_out)


def _is_corrected(answer: ProposedAnswer, review: Review) -> bool:
    verdicts = (review.decisions[item.name].verdict for item in answer.proposals)
    return Verdict.CORRECTED in verdicts


# --- answers --------------------------------------------------------------------------------------


def _kept(curation: Curation, review: Review) -> tuple[list[Kept], dict[str, int]]:
    kept: list[Kept] = []
    left_out: dict[str, int] = {}
    for answer in curation.answers:
        found = [review.decisions.get(item.name) for item in answer.proposals]
        decided = [decision for decision in found if decision is not None]
        if any(decision.verdict is Verdict.REJECTED for decision in decided):
            left_out["rejected"] = left_out.get("rejected", 0) + 1
        elif len(decided) < len(found):
            left_out["not decided"] = left_out.get("not decided", 0) + 1
        else:
            where = f"{review.path}, proposals of {answer.case.name}"
            kept.append(Kept(answer, curated_text(answer, decided, where)))
    return kept, left_out


def curated_text(answer: ProposedAnswer, decisions: Sequence[Decision], where: str) -> str:
    """The answer with each grounding as it was decided, all in one spelling.

    Raises `InputError` where the text would not be read back as these groundings.
    """
    case, named = answer.case, _names_frames(answer)
    decided = [
        (item.grounding, _decided(item.grounding, decision))
        for item, decision in zip(answer.proposals, decisions, strict=True)
        if item.grounding is not None
    ]
    text = case.expected.text
    if any(text[old.span[0]] == "{" for old, _ in decided):  # JSON, where tags were asked for
        text = " ".join(format_grounding(new, with_frame=named) for _, new in decided)
    else:
        for old, new in reversed(decided):
            start, end = old.span
            text = text[:start] + format_grounding(new, with_frame=named) + text[end:]
    again = read(case, text)
    if _meanings(again) != [_meaning(new) for _, new in decided]:
        why = again.rejected[0].detail if again.rejected else f"it would be read as {text!r}"
        raise InputError(f"{where}: {why} Correct it on the page and save again")
    return text


def _decided(item: AnyGrounding, decision: Decision) -> AnyGrounding:
    points = decision.points or tuple((round(x), round(y)) for x, y in item.points)
    if isinstance(item, Box) and len(points) == 2:
        (xa, ya), (xb, yb) = points
        points = ((min(xa, xb), min(ya, yb)), (max(xa, xb), max(ya, yb)))
    return replace(item, points=points, flags=frozenset())


def _meanings(reading: Reading) -> list[tuple[Any, ...]]:
    items = (item for item in (*reading.reasoning, *reading.groundings) if item.points)
    return [_meaning(item) for item in sorted(items, key=lambda item: item.span)]


def _meaning(item: AnyGrounding) -> tuple[Any, ...]:
    angle = item.angle_deg if isinstance(item, ContactPoint) else None
    return item.kind, item.frame, item.points, angle


def _names_frames(answer: ProposedAnswer) -> bool:
    content = answer.case.expected.messages[-1]["content"]
    return any(isinstance(part, str) and _FRAME.fullmatch(part) for part in content)


# --- conversations --------------------------------------------------------------------------------

Turns = tuple[Kept, ...]
"""The kept answers of one conversation, the last one's question holding all before it."""


def _conversation(last: Kept, kept: Sequence[Kept]) -> Turns | None:
    """``last`` after the kept answers that its question repeats; ``None`` where one was not."""
    messages = last.answer.case.expected.messages
    turns = []
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            found = _said(last.answer.run, messages[i - 1], "".join(message["content"]), kept)
            if found is None:
                return None
            turns.append(found)
    return (*turns, last)


def _said(run: str, asked: Mapping[str, Any], text: str, kept: Sequence[Kept]) -> Kept | None:
    """The kept answer ``text`` to these pictures. A question that lost its oldest turns begins
    with other words, and is about the same pictures."""
    for one in kept:
        case = one.answer.case
        same = one.answer.run == run and case.expected.text == text
        if same and _digests(case.expected.messages[-1]) == _digests(asked):
            return one
    return None


def _digests(message: Mapping[str, Any]) -> list[str]:
    return [part["image"] for part in message["content"] if isinstance(part, dict)]


def _begins(turns: Turns, other: Turns) -> bool:
    return len(turns) < len(other) and other[: len(turns)] == turns


def _line(turns: Turns, curation: Curation, review: Review, pictures: Path) -> str:
    last = turns[-1].answer
    texts = iter([one.text for one in turns])
    shown = iter(_shown(last))
    conversation = [
        {"role": message["role"], "content": list(_content(message, texts, shown, pictures))}
        for message in last.case.expected.messages
    ]
    conversation.append(
        {"role": "assistant", "content": [{"type": "text", "text": turns[-1].text}]}
    )
    number = last.proposals[0].name.partition(".")[0]
    record = {
        "id": f"{number}-{last.case.name}",
        "conversation": conversation,
        "provenance": {
            "run": last.run,
            "curation": curation.sha256,
            "reviewer": review.reviewer,
            "reviewed": review.saved,
            "frames": [_frame_record(frame) for frame in _shown(last)],
            "answers": [_answer_record(one, review) for one in turns],
        },
    }
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _content(
    message: Mapping[str, Any],
    texts: Iterator[str],
    shown: Iterator[SelectedFrame],
    pictures: Path,
) -> Iterator[dict[str, Any]]:
    if message["role"] == "assistant":
        yield {"type": "text", "text": next(texts)}
        return
    for part in message["content"]:
        if isinstance(part, str):
            yield {"type": "text", "text": part}
        else:
            frame = next(shown)
            path = str(_file(frame, pictures))
            size = {"width": frame.width, "height": frame.height}
            yield {"type": "image", "image": path, **size}


def _shown(answer: ProposedAnswer) -> list[SelectedFrame]:
    """The pictures of all turns, in the order of the conversation."""
    by_digest: dict[str, list[SelectedFrame]] = {}
    for frame in _frames(answer.case.query):
        by_digest.setdefault(f"sha256:{frame.sha256}", []).append(frame)
    found = []
    for digest in (d for message in answer.case.expected.messages for d in _digests(message)):
        same = by_digest[digest]  # several where nothing moved in between: each is shown in turn
        found.append(same.pop(0) if len(same) > 1 else same[0])
    return found


def _frames(query: Query) -> Iterator[SelectedFrame]:
    for turn in query.history:
        yield from turn.frames
    yield from query.frames


def _file(frame: SelectedFrame, pictures: Path) -> Path:
    return pictures / f"{frame.sha256}.{'jpg' if frame.mime == 'image/jpeg' else 'png'}"


def _frame_record(frame: SelectedFrame) -> dict[str, Any]:
    return {
        "camera": frame.frame.camera,
        "stamp_ns": frame.frame.stamp_ns,
        "sha256": frame.sha256,
    }


def _answer_record(kept: Kept, review: Review) -> dict[str, Any]:
    answer, expected = kept.answer, kept.answer.case.expected
    return {
        "query": answer.case.name,
        "engine": answer.engine,
        "model": expected.model,
        "revision": expected.revision,
        "quantization": expected.quantization,
        "said": expected.text,
        "proposals": [
            _proposal_record(answer, item, review.decisions[item.name]) for item in answer.proposals
        ],
    }


def _proposal_record(
    answer: ProposedAnswer, proposal: Proposal, decision: Decision
) -> dict[str, Any]:
    item, frames = proposal.grounding, answer.case.query.frames
    in_frame = None if item is None or item.frame is None else frames[item.frame]
    return {
        **proposal.record,
        "verdict": decision.verdict.value,
        "corrected": [list(point) for point in decision.points],
        "picture": None if in_frame is None else _frame_record(in_frame),
    }
