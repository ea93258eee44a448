"""What brain and act have in common: eyes and engines that come and go with the lifecycle, and what
others see of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import NameValidationException
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from rynn_brain_ros.config import CameraConfig, SeeingConfig
from rynn_brain_ros.messages import MessageDict
from rynn_brain_ros.models import Engines, WorkerEngine, open_engines, runs_here
from rynn_brain_ros.msg import BrainStatus
from rynn_brain_ros.ros.conversion import to_ros
from rynn_brain_ros.ros.eyes import Eyes
from rynn_brain_ros.ros.lifecycle import ManagedNode
from rynn_brain_ros.ros.parameters import declare, read, refuse_unknown
from rynn_brain_ros.ros.vitals import Vitals
from rynn_brain_ros.values import ConfigError, RynnBrainError

_STATUS_PERIOD_S = 1.0
C = TypeVar("C", bound=SeeingConfig)


class SeeingNode(ManagedNode, Generic[C]):
    """Parameters are the fields of ``settings``, and those of `CameraConfig` for each of its
    ``cameras``. ``outputs`` are types of messages by topic.

    Publishers and services live as long as the node. What may fail or takes memory (the engines,
    the eyes' buffer, and what `_prepare` makes of them) comes with `on_configure` and goes with
    `release`.
    """

    def __init__(
        self, name: str, settings: type[C], outputs: Mapping[str, type], **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        declare(self, settings)
        self._settings, self._config = settings, settings()
        self.eyes: Eyes | None = None
        self._engines: Engines | None = None
        self._vitals: Vitals | None = None
        self._types = outputs
        self._outputs = {
            name: self.create_lifecycle_publisher(class_, f"~/{name}", 10)
            for name, class_ in outputs.items()
        }
        self._status = self.create_lifecycle_publisher(BrainStatus, "~/status", 10)
        self._diagnostics = self.create_lifecycle_publisher(DiagnosticArray, "/diagnostics", 10)
        # Status comes while the clock stands still too, or where nobody publishes one.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._status_timer = self.create_timer(_STATUS_PERIOD_S, self._publish_status, clock=steady)

    # --- for each node to say ----------------------------------------------------------------

    def _prepare(self, eyes: Eyes, engines: Engines) -> None:
        """Makes what else `on_configure` has to. Raises `RynnBrainError`."""

    def _rest(self, why: str) -> None:
        """Ends what `on_activate` began, and returns when it has ended. May be called twice."""
        self._vitals = None

    def _completed(self, status: MessageDict) -> MessageDict:
        """A status with what this node has to add."""
        return status

    # --- life --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._config = config = read(self, self._settings)
            cameras = self._cameras(config)
            refuse_unknown(self)
            self.eyes = Eyes(self, config, cameras)
            self._engines = self._open(config)
            self._prepare(self.eyes, self._engines)
        except (RynnBrainError, NameValidationException) as error:
            self.get_logger().error(f"cannot configure: {error}")
            self.release()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def _cameras(self, config: SeeingConfig) -> dict[str, CameraConfig]:
        """By name; empty where there is only the one of the settings themselves."""
        names = [name.strip() for name in config.cameras.split(",") if name.strip()]
        for name in names:
            if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
                raise ConfigError(_not_a_name(name))
            declare(self, CameraConfig, f"{name}.")
        return {name: read(self, CameraConfig, f"{name}.") for name in names}

    def _open(self, config: SeeingConfig) -> Engines:
        def worker(spec: str) -> WorkerEngine:
            return WorkerEngine(config.engine_python, spec, self.get_logger().info)

        if config.engine_python:
            return open_engines(config.engine, worker=worker)
        for engine in runs_here(config.engine):
            raise ConfigError(
                f"engine {engine} does not run in ROS's own Python: set engine_python to the "
                "Python that has torch and rynn_brain_ros[model,serve]"
            )
        return open_engines(config.engine)

    def release(self) -> None:
        """Lets go of everything that `on_configure` took. May be called twice."""
        self._rest("the node was shut down")
        self.eyes = None
        engines, self._engines = self._engines, None
        if engines is not None:
            engines.close()

    # --- what others see ---------------------------------------------------------------------

    def _show(self, name: str, data: MessageDict) -> None:
        if self.context.ok():  # the last words of an answer come when all is ending
            self._outputs[name].publish(to_ros(self._types[name], data))

    def _publish_status(self) -> None:
        vitals = self._vitals
        if vitals is not None:
            status, diagnostics = vitals.look()
            self._status.publish(to_ros(BrainStatus, self._completed(status)))
            self._diagnostics.publish(to_ros(DiagnosticArray, diagnostics))


def _not_a_name(name: str) -> str:
    """What to write instead of a topic's beginning, such as realsense's camera/camera."""
    better = re.sub("[^A-Za-z0-9]+", "_", name).strip("_")
    better = better if better[:1].isalpha() else f"camera_{better}".rstrip("_")
    return (
        f"cameras: {name!r} is no name of a camera: parameters begin with it, so it has letters, "
        f"digits and _ only, and a letter first. Call it {better}, say, and give its topics as "
        f"{better}.color_topic and {better}.depth_topic"
    )
