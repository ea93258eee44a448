"""The words that the ``color-baseline`` engine understands: a closed list, and nothing near it.

`nouns` finds the things that any sentence names. `read_orders` reads a whole instruction by a
closed grammar, and says which word it does not know instead of guessing around it; what is asked
and no order `color_questions` reads as strictly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

CHROMATIC = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
ACHROMATIC = ("white", "gray", "black")
COLORS = (*CHROMATIC, *ACHROMATIC)
SHAPES = ("cube", "ball", "cylinder", "bowl", "plate", "mug")

_COLOR_SYNONYMS = {"grey": "gray", "violet": "purple", "magenta": "pink", "turquoise": "cyan"}
_SHAPE_SYNONYMS = {
    "block": "cube",
    "box": "cube",
    "sphere": "ball",
    "can": "cylinder",
    "dish": "plate",
    "cup": "mug",
}
FURNITURE = ("door", "cabinet", "sofa", "couch", "table", "chair", "shelf", "bed", "lamp")
"""What stands in rooms: a picture cannot tell them apart, so only their colour counts."""
_ANY_SHAPE = ("object", "thing", "item", "one", *FURNITURE)

_COLOR_OF = {**{word: word for word in COLORS}, **_COLOR_SYNONYMS}
_SHAPE_OF: dict[str, str | None] = {
    **{word: word for word in SHAPES},
    **_SHAPE_SYNONYMS,
    **dict.fromkeys(_ANY_SHAPE),
}
_SINGULAR = {**{f"{word}s": word for word in _SHAPE_OF}, "boxes": "box", "dishes": "dish"}


@dataclass(frozen=True)
class Noun:
    """A thing that an instruction names: a colour, a shape or both; ``None`` means any."""

    color: str | None
    shape: str | None
    start: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.color or 'coloured'} {self.shape or 'thing'}"


def with_article(noun: Noun) -> str:
    words = str(noun)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


_WORDS = re.compile(
    r"\b(?:(?P<color>{c})\s+)?(?P<shape>{s})\b|\b(?P<lone>{c})\b".format(
        c="|".join(_COLOR_OF), s="|".join((*_SHAPE_OF, *_SINGULAR))
    ),
    re.IGNORECASE,
)


def nouns(instruction: str) -> tuple[Noun, ...]:
    """The coloured things that an instruction names, in its order."""
    found = []
    for match in _WORDS.finditer(instruction):
        color = (match["color"] or match["lone"] or "").lower()
        shape = (match["shape"] or "").lower()
        shape = _SINGULAR.get(shape, shape)
        noun = Noun(_COLOR_OF.get(color), _SHAPE_OF.get(shape), match.start(), match[0])
        if noun.color or noun.shape:
            found.append(noun)
    return tuple(found)


def noun_at(words: Sequence[str], at: int) -> tuple[Noun | None, int]:
    """The thing whose words begin there, and where they end."""
    color = _COLOR_OF.get(words[at]) if at < len(words) else None
    end = at + (color is not None)
    word = words[end] if end < len(words) else ""
    singular = _SINGULAR.get(word, word)
    if singular not in _SHAPE_OF and color is None:
        return None, at
    return Noun(color, _SHAPE_OF.get(singular)), end + (singular in _SHAPE_OF)


# --- orders ---------------------------------------------------------------------------------------


class Relation(str, Enum):
    """What is to be true of a thing in the end."""

    HELD = "held"
    IN = "in"
    ON = "on"
    BESIDE = "beside"
    PUSHED = "pushed"
    POURED = "poured"
    GIVEN = "given"


@dataclass(frozen=True)
class Phrase:
    """What is meant: ``many`` are all that fit, ``count`` of them where a number was said;
    ``either`` is one of them, whichever."""

    noun: Noun
    many: bool = False
    count: int | None = None
    either: bool = False

    def __str__(self) -> str:
        return str(self.noun)


@dataclass(frozen=True)
class Order:
    """Bring ``things`` into a relation; ``preposition`` as it was said (into, onto, next to), and
    no ``reference`` where there is none. A push has a direction (left, right, away) or goes
    ``towards`` its reference."""

    things: tuple[Phrase, ...]
    relation: Relation
    reference: Phrase | None = None
    preposition: str = ""


@dataclass(frozen=True)
class NotUnderstood:
    """Why an instruction is outside of the grammar, as a sentence."""

    text: str


_POLITE = re.compile(
    r"\b(?:please|kindly|thanks|thank you|for me|(?:hey |hello )?robot|let's"
    r"|(?:can|could|would|will) you|i(?: would|'d)? (?:want|like|need) you to|you should)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[^\W_]+(?:'[a-z]+)?|[^\w\s]")
_CONNECTING = frozenset(
    {"and", "then", "first", "firstly", "next", "finally", "lastly", "afterwards", "after", "that"}
    | {"now", "also", ",", ".", ";", "!", "?"}
)
TAKE = ("pick", "take", "grab", "grasp", "lift")
PUT = ("put", "place", "move", "drop", "stack", "set", "lay", "bring")
PUSH = ("push", "slide", "shove")
GIVE = ("hand", "give", "pass")
_DIRECTIONS = ("left", "right", "away")
_TOWARDS = ("towards", "toward", "to")
_FULL = (Relation.HELD, Relation.POURED)
"""After these there is something in the hand."""
_PREPOSITIONS: dict[tuple[str, ...], Relation] = {
    ("into",): Relation.IN,
    ("inside",): Relation.IN,
    ("in",): Relation.IN,
    ("onto",): Relation.ON,
    ("on", "top", "of"): Relation.ON,
    ("on",): Relation.ON,
    ("next", "to"): Relation.BESIDE,
    ("beside",): Relation.BESIDE,
}
_ALL = {"all": None, "every": None, "each": None, "both": 2, "two": 2, "three": 3, "four": 4}
_OFF_THE_TABLE = (("from", "the", "table"), ("off", "the", "table"))
"""Leaves nothing out where a thing is taken. Pushed off it a thing falls."""
EITHER = ("either", "any")
ARTICLES = frozenset({"the", "a", "an", "this", "these", "those", "my", "your", "of"})
_IT = ("it", "them")


def words_of(instruction: str) -> tuple[str, ...]:
    """Its words and signs, in small letters and without what is only polite."""
    return tuple(_TOKEN.findall(_POLITE.sub(" ", instruction).lower()))


def read_orders(instruction: str) -> tuple[Order, ...] | NotUnderstood:
    """What is to be done, in its order; never raises.

    A taking that is only the beginning of a putting ("take X and put it into Y") is left out.
    """
    orders = _Reader(words_of(instruction)).read()
    return orders if isinstance(orders, NotUnderstood) else _without_takes(orders)


def _without_takes(orders: Sequence[Order]) -> tuple[Order, ...] | NotUnderstood:
    kept = [
        order
        for order, after in zip(orders, (*orders[1:], None), strict=True)
        if order.relation is not Relation.HELD or after is None or after.things != order.things
    ]
    held = [order for order in kept if order.relation in _FULL]
    things = [thing for order in held for thing in order.things]
    if len(things) > 1 or (things and (things[0].many or kept[-1] is not held[0])):
        return NotUnderstood("I can hold one thing at a time, and nothing else while I hold it.")
    return tuple(kept)


class _Reader:
    """A recursive descent over the tokens of one instruction."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens, self._at = tuple(tokens), 0
        self._last: tuple[Phrase, ...] = ()
        self._last_place: Phrase | None = None

    def read(self) -> tuple[Order, ...] | NotUnderstood:
        orders: list[Order] = []
        self._skip(_CONNECTING)
        while self._at < len(self._tokens):
            order = self._order(first=not orders)
            if order is None:
                return self._stuck()
            orders.append(order)
            self._last, self._last_place = order.things, order.reference
            if self._at < len(self._tokens) and self._peek() not in _CONNECTING:
                return self._stuck()
            self._skip(_CONNECTING)
        return tuple(orders) if orders else NotUnderstood(f"I was told nothing to do. {_KNOWN}")

    def _order(self, first: bool) -> Order | None:
        if self._take(*TAKE):
            self._take("up")
            things = self._things()
            self._take("up")
            if self._tokens[self._at : self._at + 3] in _OFF_THE_TABLE:
                self._at += 3
            return Order(things, Relation.HELD) if things else None
        if self._take(*PUSH):
            return self._push()
        if self._take("pour"):
            order = self._put()
            poured = order is not None and order.relation is Relation.IN
            return replace(order, relation=Relation.POURED) if order and poured else None
        if self._take(*GIVE):
            return self._give()
        if not self._take(*PUT) and first:
            return None
        return self._put()

    def _push(self) -> Order | None:
        things, before = self._things(), self._at
        self._take("to")
        self._take("the")
        if self._peek() in _DIRECTIONS and things:
            return Order(things, Relation.PUSHED, None, self._next())
        self._at = before
        reference = self._phrase() if things and self._take(*_TOWARDS) else None
        if reference is None or reference.many:
            return None
        return Order(things, Relation.PUSHED, reference, "towards")

    def _give(self) -> Order | None:
        """ "hand me X", "hand X over", "give X to me"."""
        for word in ("me", "over"):
            self._take(word)
        things = self._things()
        for word in ("over", "to", "me"):
            self._take(word)
        return Order(things, Relation.GIVEN) if things else None

    def _put(self) -> Order | None:
        """After the verb, which may be left out the second time."""
        things = self._things()
        relation = self._relation() if things else None
        reference = self._phrase() if relation else None
        if relation is None or reference is None or reference.many:
            return None
        return Order(things, relation[0], reference, relation[1])

    def _relation(self) -> tuple[Relation, str] | None:
        for words, relation in _PREPOSITIONS.items():
            if self._tokens[self._at : self._at + len(words)] == words:
                self._at += len(words)
                return relation, " ".join(words)
        return None

    def _things(self) -> tuple[Phrase, ...]:
        if self._take(*_IT):
            return self._last
        found: list[Phrase] = []
        while True:
            before = self._at
            is_next = not found or self._skip({"and", ","})
            phrase = self._phrase() if is_next else None
            if phrase is None:
                self._at = before if found else self._at
                return _share_shapes(found)
            found.append(phrase)

    def _phrase(self) -> Phrase | None:
        if self._take(*_IT):  # of a thing and its place either may be meant
            is_plain = len(self._last) == 1 and self._last_place is None
            return self._last[0] if is_plain else None
        before, many, count, either = self._at, False, None, False
        while self._peek() in (*ARTICLES, *_ALL, *EITHER):
            word = self._next()
            either = either or word in EITHER
            if word in _ALL:
                many, count = True, _ALL[word] or count
        if self._take("everything"):
            color = _COLOR_OF.get(self._peek())
            self._at += color is not None
            return Phrase(Noun(color, None), many=True)
        noun, end = noun_at(self._tokens, self._at)
        if noun is None:
            self._at = before if self._peek() else self._at
            return None
        self._at = end
        if either:
            return Phrase(noun, either=True)
        return Phrase(noun, many or self._tokens[end - 1] in _SINGULAR, count)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *words: str) -> bool:
        taken = self._peek() in words
        self._at += taken
        return taken

    def _skip(self, words: frozenset[str] | set[str]) -> bool:
        """Whether there was any."""
        before = self._at
        while self._peek() in words and not self._at_preposition():
            self._at += 1
        return self._at > before

    def _at_preposition(self) -> bool:
        """ "next" of "next to" is no connecting word."""
        return self._tokens[self._at : self._at + 2] == ("next", "to")

    def _stuck(self) -> NotUnderstood:
        known = {*_COLOR_OF, *_SHAPE_OF, *_SINGULAR, *_CONNECTING, *_IT}
        known |= {*ARTICLES, *_ALL, *EITHER}
        known |= {*PUSH, *GIVE, *_DIRECTIONS, *_TOWARDS, "pour", "me", "over"}
        known |= {*TAKE, *PUT, "up", "everything", *(w for words in _PREPOSITIONS for w in words)}
        strange = [token for token in self._tokens if token not in known]
        if strange:
            return NotUnderstood(f"I do not know {strange[0]!r}. {_KNOWN}")
        if self._at and self._tokens[self._at - 1] in _IT:
            return NotUnderstood(f"I cannot tell what {self._tokens[self._at - 1]!r} means here.")
        return NotUnderstood(f"I cannot make orders of these words. {_KNOWN}")


_KNOWN = (
    f"I know colours ({', '.join(COLORS)}), shapes ({', '.join(SHAPES)}), and these orders: "
    "pick up something; put something into, onto or next to something; push something left, right, "
    "away or towards something; pour something into something; hand me something."
)


def _share_shapes(phrases: Sequence[Phrase]) -> tuple[Phrase, ...]:
    """ "the red and the blue cube": a colour alone has the shape of what follows."""
    shared: list[Phrase] = []
    for phrase in reversed(phrases):
        noun = phrase.noun
        if noun.shape is None and noun.color is not None and not phrase.many and shared:
            noun = replace(noun, shape=shared[0].noun.shape)
        shared.insert(0, replace(phrase, noun=noun))
    return tuple(shared)
