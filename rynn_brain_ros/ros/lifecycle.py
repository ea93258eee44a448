"""A lifecycle node that survives being asked for a transition that its state does not have."""

from __future__ import annotations

from typing import Any

from rclpy.lifecycle import LifecycleNode


def refuse_wrong_transitions(node: LifecycleNode) -> None:
    """Jazzy's rclpy raises there, into the executor, and the process ends: two managers that shut
    a node down one after the other would kill it. The service answers "no success" instead."""
    service = node._service_change_state
    change = service.callback

    def checked(request: Any, response: Any) -> Any:
        wanted = request.transition
        known = node._state_machine.available_transitions
        if not any(
            wanted.label == label if wanted.label else wanted.id == number
            for number, label, *_ in known
        ):
            response.success = False
            return response
        return change(request, response)

    service.callback = checked
