"""``rynn-brain serve``: any engine behind the OpenAI protocol.

This module is light; `running.RunningServer` needs the web server's packages.
"""

from __future__ import annotations

import importlib.util

from rynn_brain_ros.extras import pip_install
from rynn_brain_ros.serving.limits import Limits
from rynn_brain_ros.values import InputError

_NEEDED = ("starlette", "uvicorn", "prometheus_client")


def require_packages() -> None:
    """Raises `InputError` that says what this Python lacks for serving."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serving needs {', '.join(missing)}, not installed in this Python: "
            f"{pip_install('serve')}"
        )


__all__ = ["Limits", "require_packages"]
