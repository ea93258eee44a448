"""Selected fields against the definition of their message's type, before anything is recorded."""

from __future__ import annotations

from typing import Any

from rosbags.interfaces import Nodetype

from rynn_brain_ros.bags.types import typestore
from rynn_brain_ros.config import unknown
from rynn_brain_ros.data.contract import JOINT_STATE

JOINT_COLUMNS = ("position", "velocity", "effort")


def path_problem(typename: str, path: str) -> str:
    """Why ``path`` selects no number of a message of this type; empty where it does, and where
    the type is not known here (joints by their names, which no definition tells)."""
    if typename == JOINT_STATE:
        return _joint_problem(path)
    fields = typestore().fielddefs
    if typename not in fields:
        return ""
    kind: Nodetype = Nodetype.NAME
    content: Any = typename
    for part in path.split("."):
        if kind == Nodetype.NAME:
            known: dict[str, Any] = dict(fields[content][1])
            if part not in known:
                return unknown(f"field of {content}", part, known)
            kind, content = known[part]
        elif kind == Nodetype.BASE:
            return f"there is nothing in a {content[0]} that could be named {part!r}"
        else:
            inner, size = content
            if not part.isdigit():
                return f"a list's elements are named by their number, not {part!r}"
            if kind == Nodetype.ARRAY and int(part) >= size:
                return f"the list has {size} elements, 0 to {size - 1}"
            kind, content = inner
    if kind == Nodetype.NAME:
        return f"it is a whole {content}: go on to a number in it"
    return "" if kind == Nodetype.BASE else "it is a list: go on to the number of an element"


def _joint_problem(path: str) -> str:
    column, _, joint = path.partition(".")
    if column not in JOINT_COLUMNS:
        return unknown("column of a JointState", column, JOINT_COLUMNS)
    return "" if joint else f"name a joint: {column}.JOINT"
