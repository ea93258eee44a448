"""Which engine answers what: roles.

RynnBrain's Base, Plan, CoP and Nav are different checkpoints. Configuration maps roles to
engines; one engine may serve several roles, and a missing role is a named refusal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from rynn_brain_ros.values import (
    Engine,
    EngineError,
    InputError,
    Query,
    Task,
    UnsupportedTaskError,
)


class Role(str, Enum):
    GROUND = "ground"
    PLAN = "plan"
    THINK = "think"
    NAVIGATE = "navigate"


_TASK_ROLES = {Task.PLAN: Role.PLAN, Task.NAVIGATE: Role.NAVIGATE, Task.THINK: Role.THINK}


def role_of(task: Task, thinking: bool = False) -> Role:
    """The role that a question needs; Chain-of-Point questions go to `Role.THINK`."""
    return _TASK_ROLES.get(task, Role.THINK if thinking else Role.GROUND)


def parse_roles(spec: str) -> dict[Role, str]:
    """``ROLE=ENGINE,ROLE=ENGINE``: the spelling of each role's engine; a single ENGINE serves all.

    Raises `InputError` for a role that is given twice and for words before the first one.
    """
    names = "|".join(role.value for role in Role)
    before, *pairs = re.split(rf"(?:^|,)({names})=", spec)
    if not pairs:
        return dict.fromkeys(Role, spec)
    roles = [Role(name) for name in pairs[::2]]
    if before or len(set(roles)) < len(roles):
        raise InputError(
            f"cannot read the engines {spec!r}: give each role once, as in "
            "ground=local:DIR,plan=local:DIR"
        )
    return dict(zip(roles, pairs[1::2], strict=True))


@dataclass(frozen=True)
class Engines:
    """The configured engines by role."""

    by_role: Mapping[Role, Engine]

    @classmethod
    def one(cls, engine: Engine) -> Engines:
        """One engine for every role that it can serve."""
        return cls(dict.fromkeys(Role, engine))

    def select(self, query: Query) -> Engine:
        """The engine to ask. Raises as `for_task`."""
        return self.for_task(query.task, query.thinking)

    def for_task(self, task: Task, thinking: bool = False) -> Engine:
        """Raises `EngineError` for a missing role, `UnsupportedTaskError` for a task that the
        role's engine does not know."""
        role = role_of(task, thinking)
        engine = self.by_role.get(role)
        if engine is None:
            configured = ", ".join(sorted(r.value for r in self.by_role)) or "none"
            raise EngineError(
                f"task {task.value} needs an engine in the role {role.value!r}, and none is "
                f"configured (configured roles: {configured})"
            )
        if task not in engine.info.tasks:
            known = ", ".join(sorted(known.value for known in engine.info.tasks))
            raise UnsupportedTaskError(
                f"engine {engine.info.title} cannot answer task {task.value}; it knows: {known}"
            )
        return engine

    @property
    def model(self) -> str:
        """The models behind the roles, each once."""
        return ", ".join(dict.fromkeys(engine.info.model for engine in self.by_role.values()))

    def close(self) -> None:
        for engine in {id(e): e for e in self.by_role.values()}.values():
            engine.close()
