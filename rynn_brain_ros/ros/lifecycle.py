"""What the life of all our nodes has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lifecycle_msgs.msg import State
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from rynn_brain_ros.config import Setting, checked
from rynn_brain_ros.values import ConfigError

_AUTOSTART = ParameterDescriptor(
    description="configure and activate by itself when it starts", read_only=True
)


class ManagedNode(LifecycleNode):
    """Comes to rest when it is deactivated, lets go of everything when it is cleaned up or shut
    down, and survives being asked for a transition that its state does not have.

    With the parameter ``autostart`` it needs nobody to activate it: on a busy machine a launch
    file's request may get lost while the two are still finding each other.

    ``configurable`` are its parameters that `on_configure` reads, by name, as
    `parameters.declare` puts them there. They can be set while it is unconfigured only: a yes to
    ``ros2 param set act dry_run true`` must not leave the arm going on.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        _refuse_wrong_transitions(self)
        self.configurable: dict[str, Setting] = {}
        self.add_on_set_parameters_callback(self._on_set)
        if self.declare_parameter("autostart", False, _AUTOSTART).value:
            # In the executor's thread as every transition, and whatever the clock says.
            self.create_guard_condition(self._start).trigger()

    def _start(self) -> None:
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _on_set(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Called when a parameter is declared, too, whose value `on_configure` judges."""
        try:
            for parameter in parameters:
                if parameter.name in self.configurable:
                    self._check_set(self.configurable[parameter.name], parameter.value)
        except ConfigError as no:
            return SetParametersResult(successful=False, reason=str(no))
        return SetParametersResult(successful=True)

    def _check_set(self, item: Setting, value: Any) -> None:
        same = checked(item, value) == self.get_parameter(item.name).value
        state, _ = self._state_machine.current_state
        if not same and state != State.PRIMARY_STATE_UNCONFIGURED:
            raise ConfigError(
                f"{item.name} takes effect when the node is configured, and nothing changes now: "
                "deactivate it and clean it up first (ros2 lifecycle set "
                f"{self.get_fully_qualified_name()} deactivate, then cleanup), set this, and "
                "configure and activate it anew"
            )

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
