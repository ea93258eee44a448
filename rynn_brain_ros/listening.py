"""Where a server of ours may listen: this machine, or anywhere with a token."""

from __future__ import annotations

import ipaddress
import socket

from rynn_brain_ros.values import InputError


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
