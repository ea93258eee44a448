"""Servers in a thread of this process, and where they may listen: this machine, or anywhere with
a token."""

from __future__ import annotations

import ipaddress
import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from rynn_brain_ros.values import InputError

_Server = TypeVar("_Server", bound="ThreadServer")


class ThreadServer(ABC):
    """Listens from its making and serves from `_start` until `stop`.

    Raises `InputError` where it may not, or cannot, listen: addresses beyond this machine need a
    ``token``. Port 0 takes any that is free; ``url`` says which.
    """

    def __init__(self, url: str, host: str, port: int, token: str) -> None:
        """``url`` has ``{}`` in the place of host and port."""
        check_reach(host, token)
        self._socket = listen(host, port)
        name = f"[{host}]" if ":" in host else host
        self.url = url.format(f"{name}:{self._socket.getsockname()[1]}")
        self._ready = threading.Event()
        """Set once it serves, or never will."""
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @abstractmethod
    def stop(self) -> bool:
        """False where something would not end."""

    @abstractmethod
    def _serve(self) -> None:
        """Sets ``_ready`` when it serves, and returns after `stop`; in the server's own thread."""

    def _start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise InputError(f"the server did not start: {self._failed}") from self._failed

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._failed = error
            raise
        finally:
            self._ready.set()
            self._socket.close()

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()


def check_reach(host: str, token: str) -> None:
    """Raises `InputError` where other machines would be let in without a ``token``."""
    if not token and not _is_loopback(host):
        raise InputError(
            f"{host} can be reached from other machines: give a token, or listen on 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free. Raises `InputError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen on {host}, port {port}: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
