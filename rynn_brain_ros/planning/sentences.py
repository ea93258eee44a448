"""From an answer's words to one order: a sentence that begins with a verb of the closed skill set.

What stands inside of tags or quotation marks is data and never read as words of a sentence. What
is not plainly one order is refused by name, since the planner can be asked again.

Source: reference rynnbrain.md §5.2.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rynn_brain_ros.values import Reading, Refusal, RefusalCode, Skill

_VERBS = (
    (Skill.LOOK_AT, r"(?:take|have)\s+an?\s+(?:\w+\s+)?look|look"),
    (Skill.HAND_OVER, r"hand|give|pass"),
    (Skill.PICK, r"pick|grasp|grab|grip|take|lift"),
    (Skill.PLACE, r"place|put|drop|insert|stack|set"),
    (
        Skill.MOVE_TO,
        r"(?:move|go|drive|walk)\s+(?:(?:closer|back)\s+)?to(?:wards?)?|navigate|move\s+(?:(?:the|your)\s+)?"
        r"(?:\w+\s+)?(?:arm|gripper|hand|robot|base|effector)\s+to(?:wards?)?",
    ),
    (Skill.PUSH, r"push|slide|move"),
    (Skill.OPEN, r"open|pull"),
    (Skill.CLOSE, r"close|shut"),
    (Skill.POUR, r"pour"),
)
"""Every verb that is understood; the first line that fits counts."""
_ANY_VERB = "|".join(words for _, words in _VERBS)
_VERB = re.compile(rf"(?:{_ANY_VERB})\b", re.IGNORECASE)

_LEAD = re.compile(
    r"[^\w\ufffc]+"
    r"|(?:first|second|third|next|then|now|finally|lastly|afterwards|and|please|to|let'?s)(?:ly)?\b"
    r"|(?:slowly|carefully|gently)\b|after that\b|(?:step )?[0-9]{1,3}\b"
    r"|(?:the )?(?:next )?(?:action|step|plan|answer|sub-?task)(?: is| [0-9]{1,3})?(?= ?:| to\b)"
    r"|(?:the robot|you|i|we) (?:should|must|will|need|needs)\b"
    r"|(?:with|use|using) (?:the|your) (?:left|right) (?:arm|hand|gripper)\b",
    re.IGNORECASE,
)
"""What may stand before the verb."""
_FURTHER = re.compile(
    r"(?:[.,;:!?)\n\ufffc]|(?<=\s)[-–•]|\b(?:and|then|to|before|while)\b)\s{0,9}"
    rf"(?:(?:and|then|also|next|finally|please)[\s,]{{1,9}}){{0,3}}(?P<verb>{_ANY_VERB})\b",
    re.IGNORECASE,
)
"""A verb where a second order would begin."""
_OWN_PART = re.compile(
    r"\s+(?:up\s+)?(?:(?:the|your|its|an?)\s+)?(?:(?:left|right|robot(?:'s)?|robotic|end)[\s-]+)?"
    r"(?:arm|gripper|hand|fingers?|effector|camera|picture|photo|image|step)"
    r"(?=\s+(?:above|over|off|away|of|from|to|up|down|back|out|into|onto|on|in|near|closer|towards?"
    r"|next|beside)\b|\s*[.,;:\ufffc]|\s*$)",
    re.IGNORECASE,
)
"""What a hand cannot take, put or push: the robot's own, and what is no thing."""
_MOVES_A_THING = frozenset({Skill.PICK, Skill.PLACE, Skill.PUSH})
_NOT = re.compile(r"\b(?:not|cannot|never)\b|n['’]t\b", re.IGNORECASE)
_EXCEPT = re.compile(
    r"\b(?:except(?:ing)?|excluding|but|instead\s+of|(?:rather|other)\s+than"
    r"|(?:apart|aside)\s+from|avoid(?:s|ing)?|without\s+\w{1,40}ing)\b",
    re.IGNORECASE,
)
"""Before a tag: what is pointed at may be just what is not meant."""
AWAY = (
    re.compile(r"\b(?:(?:away|far(?:ther)?|further)\s+from|clear\s+of|outside)\b", re.IGNORECASE),
    re.compile(r"\b(?:into|onto|towards?|to)\b", re.IGNORECASE),
)
"""Begins where something is to stay away from, and what after it tells where it goes: no "on", as
in "away from the plate on the table"."""
_MASK = "\ufffc"
_WORD = re.compile(r"\w{1,40}")
_EMPHASIS = re.compile(r"[*_`#>]")
_QUOTED = re.compile(
    r'"[^"\n\ufffc]{0,200}"|“[^”\n\ufffc]{0,200}”|(?<!\w)\'[^\'\n\ufffc]{0,200}\'(?!\w)'
)
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n(?=\s{0,40}(?:[-•0-9]|[A-Z]))")


@dataclass(frozen=True)
class Order:
    """What one sentence asks for: ``verb`` as it is written, ``text`` the sentence verbatim."""

    skill: Skill
    verb: str
    text: str
    _prose: str
    _verb_end: int
    _end: int
    _spans: tuple[tuple[int, int], ...]

    @property
    def words_after_verb(self) -> str:
        """The sentence's own words behind its verb, without tags and quotations."""
        return self._prose[self._verb_end : self._end]

    def words_before(self, start: int) -> str:
        """The words between the tag that begins at ``start`` of the answer's text and whatever
        stands before it: another tag, or the verb."""
        before = max((end for _, end in self._spans if end <= start), default=self._verb_end)
        return self._prose[before:start]


def read_order(reading: Reading) -> Order | Refusal:
    """The one order of an answer. Refusals: UNKNOWN_SKILL (no known verb where the verb belongs),
    INCOMPLETE_STEP (more than one order)."""
    sentence = _only_sentence(reading)
    if isinstance(sentence, Refusal):
        return sentence
    verb = _head_verb(sentence)
    if verb is None:
        word = _WORD.match(sentence.prose, _after_leads(sentence), sentence.end)
        return _unknown(reading, "" if word is None else word[0])
    order = Order(
        _skill(verb[0]),
        verb[0],
        sentence.text,
        sentence.prose,
        verb.end(),
        sentence.end,
        sentence.spans,
    )
    return _about_no_thing(sentence, order) or _second_order(sentence, order) or order


def _about_no_thing(sentence: _Sentence, order: Order) -> Refusal | None:
    """ "Take your hand off …" is no pick, "place it not in …" and "anywhere but …" say where it
    does not go."""
    own = _OWN_PART.match(sentence.prose, order._verb_end, sentence.end)
    if own is not None and order.skill in _MOVES_A_THING:
        what = f"{order.verb}{own[0]}"
        text = f"{quoted(what)} is no {order.skill.value} of a thing: {quoted(sentence.text)}"
        return Refusal(RefusalCode.UNKNOWN_SKILL, text)
    last = sentence.spans[-1][0] if sentence.spans else 0
    negated = _NOT.search(sentence.prose, order._verb_end, sentence.end)
    negated = negated or _EXCEPT.search(sentence.prose, order._verb_end, last)
    return None if negated is None else said_against(negated[0], sentence.text)


def denied(reading: Reading) -> Refusal | None:
    """Of an answer that points without an order: "not there but here", "stay away from …"."""
    spans = sorted(part.span for part in (*reading.groundings, *reading.rejected))
    prose, last = _prose(reading, spans), max((start for start, _ in spans), default=0)
    negated = _NOT.search(prose) or _EXCEPT.search(prose, 0, last)
    words = left_open(prose[:last], *AWAY) if negated is None else negated[0]
    return said_against(words, reading.answer_text) if words else None


def left_open(words: str, begins: re.Pattern[str], goes_on: re.Pattern[str]) -> str:
    """The last that ``begins`` and that nothing ``goes_on`` after."""
    *_, last = (None, *begins.finditer(words))
    return "" if last is None or goes_on.search(words, last.end()) else last[0]


def said_against(words: str, sentence: str) -> Refusal:
    """Of a sentence that has ``words`` for what it does not want."""
    text = f"{' '.join(words.split())!r} says what is not to be done: {quoted(sentence)}"
    return Refusal(RefusalCode.UNKNOWN_SKILL, text)


def quoted(words: str) -> str:
    """One line, at most 80 characters."""
    line = " ".join(words.split())
    return repr(line if len(line) <= 80 else line[:79] + "…")


def unreadable(reading: Reading) -> str:
    """What to add to a refusal where a part of the answer could not be read."""
    return "".join(f"; {part.detail}" for part in reading.rejected[:1])


@dataclass(frozen=True)
class _Sentence:
    """``start:end`` of ``prose``, where all that is no prose is masked at the same length;
    ``spans`` are the sentence's tags, ``text`` its words as they were written."""

    start: int
    end: int
    prose: str
    text: str
    spans: tuple[tuple[int, int], ...]


def _only_sentence(reading: Reading) -> _Sentence | Refusal:
    """The one sentence that points at something, or else the first that begins with a verb."""
    sentences = list(_sentences(reading))
    pointing = [s for s in sentences if s.spans]
    if len(pointing) > 1:
        return Refusal(
            RefusalCode.INCOMPLETE_STEP,
            f"{len(pointing)} sentences point at something, one step at a time is taken: "
            f"{quoted(reading.answer_text)}",
        )
    orders = (s for s in sentences if _head_verb(s) is not None)
    chosen = pointing[0] if pointing else next(orders, None)
    return chosen or _unknown(reading)


def _sentences(reading: Reading) -> Iterator[_Sentence]:
    spans = sorted(part.span for part in (*reading.groundings, *reading.rejected))
    start = reading.answer_start
    prose = _prose(reading, spans)
    end = len(prose)
    marks = (found.end() for found in _SENTENCE_END.finditer(prose, start, end))
    for stop in (*marks, end):
        own = tuple(spans[bisect_left(spans, (start, 0)) : bisect_left(spans, (stop, 0))])
        if prose[start:stop].strip():
            yield _Sentence(start, stop, prose, reading.text[start:stop].strip(), own)
        start = stop


def _prose(reading: Reading, spans: Sequence[tuple[int, int]]) -> str:
    """The words of the answer proper, at their places in the whole text."""
    start = reading.answer_start
    return " " * start + _masked(reading.text, spans, start, start + len(reading.answer_text))


def _masked(text: str, spans: Sequence[tuple[int, int]], cursor: int, end: int) -> str:
    """``text[cursor:end]`` at its own length, with tags, quotations and emphasis taken out."""
    pieces = []
    for start, stop in (*spans, (end, end)):
        words = text[cursor : min(start, end)].replace(_MASK, " ")
        pieces.append(_EMPHASIS.sub(" ", words))
        cursor = max(cursor, start)
        pieces.append(_MASK * (min(stop, end) - cursor))
        cursor = max(cursor, stop)
    return _QUOTED.sub(lambda found: " " * len(found[0]), "".join(pieces))


def _head_verb(sentence: _Sentence) -> re.Match[str] | None:
    return _VERB.match(sentence.prose, _after_leads(sentence), sentence.end)


def _after_leads(sentence: _Sentence) -> int:
    """Where the verb belongs."""
    position = sentence.start
    while _VERB.match(sentence.prose, position, sentence.end) is None:
        lead = _LEAD.match(sentence.prose, position, sentence.end)
        if lead is None:
            break
        position = lead.end()
    return position


def _skill(verb: str) -> Skill:
    """Of what `_VERB` found."""
    fits = (skill for skill, words in _VERBS if re.fullmatch(words, verb, re.IGNORECASE))
    return next(fits)


def _second_order(sentence: _Sentence, order: Order) -> Refusal | None:
    """A sentence that asks for two things; the purpose of the first ("pull … to open …") and the
    same again without pointing ("pick … and lift it") are no second thing."""
    last = sentence.spans[-1][0] if sentence.spans else -1
    for further in _FURTHER.finditer(sentence.prose, order._verb_end, sentence.end):
        purpose = further[0].lower().startswith("to")
        points = last > further.start("verb")
        if _skill(further["verb"]) is order.skill and (purpose or not points):
            continue
        return Refusal(
            RefusalCode.INCOMPLETE_STEP,
            f"the sentence asks for two things, {order.verb!r} and {further['verb']!r}; one step "
            f"at a time is taken: {quoted(sentence.text)}",
        )
    return None


def _unknown(reading: Reading, verb: str = "") -> Refusal:
    what = f"{verb!r} is no known skill" if verb else "no sentence begins with a known skill"
    known = ", ".join(skill.value for skill in Skill)
    said = quoted(reading.answer_text) if reading.answer_text else "the answer is empty"
    text = f"{what} (known are {known}): {said}{unreadable(reading)}"
    return Refusal(RefusalCode.UNKNOWN_SKILL, text)
