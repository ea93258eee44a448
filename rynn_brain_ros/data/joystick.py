"""A joystick's buttons as the operator's marks."""

from __future__ import annotations

from collections.abc import Sequence

from rynn_brain_ros.data.marks import MarkEvent
from rynn_brain_ros.data.record_config import RecordConfig
from rynn_brain_ros.values import ConfigError


class Buttons:
    """Raises `ConfigError` where one button has two meanings."""

    def __init__(self, config: RecordConfig) -> None:
        wanted = {event: int(getattr(config, f"joy_{event.value}")) for event in MarkEvent}
        self._events: dict[int, MarkEvent] = {}
        for event, button in wanted.items():
            if button in self._events:
                other = self._events[button].value
                raise ConfigError(f"joy_{event.value} and joy_{other} are both button {button}")
            if button >= 0:
                self._events[button] = event
        self._before: Sequence[int] | None = None

    def pressed(self, buttons: Sequence[int]) -> MarkEvent | None:
        """What a joystick's state says that its last one did not. A button that was down when the
        first state came has not been pressed, and of two at once the first one counts."""
        before, self._before = self._before, tuple(buttons)
        if before is None:
            return None
        for number, event in sorted(self._events.items()):
            is_down = number < len(buttons) and buttons[number]
            if is_down and not (number < len(before) and before[number]):
                return event
        return None
