"""What the life of all our nodes has in common."""

from __future__ import annotations

from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

_AUTOSTART = ParameterDescriptor(
    description="configure and activate by itself when it starts", read_only=True
)


class ManagedNode(LifecycleNode):
    """Comes to rest when it is deactivated, lets go of everything when it is cleaned up or shut
    down, and survives being asked for a transition that its state does not have.

    With the parameter ``autostart`` it needs nobody to activate it: on a busy machine a launch
    file's request may get lost while the two are still finding each other.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        _refuse_wrong_transitions(self)
        if self.declare_parameter("autostart", False, _AUTOSTART).value:
            # In the executor's thread as every transition, and whatever the clock says.
            self.create_guard_condition(self._start).trigger()

    def _start(self) -> None:
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._rest("the node was deactivated")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.release()
        return super().on_shutdown(state)

    def _rest(self, why: str) -> None:
        """Ends what `on_activate` began, and returns when it has ended. May be called twice."""

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""


def _refuse_wrong_transitions(node: LifecycleNode) -> None:
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
