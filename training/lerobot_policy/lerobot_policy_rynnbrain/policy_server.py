"""LeRobot's asynchronous policy server, which loads no plug-ins and asks a fixed list of types.

    python -m lerobot_policy_rynnbrain.policy_server --host=127.0.0.1 --port=8080

takes what ``python -m lerobot.async_inference.policy_server`` takes. It unpickles what clients
send: only on a network where everyone may run code on this machine.
"""

from __future__ import annotations

from lerobot.async_inference import policy_server
from lerobot.async_inference.constants import SUPPORTED_POLICIES

from lerobot_policy_rynnbrain.modeling_rynnbrain import RynnBrainPolicy


def allow() -> None:
    """Puts the type on the list that the server asks."""
    if RynnBrainPolicy.name not in SUPPORTED_POLICIES:
        SUPPORTED_POLICIES.append(RynnBrainPolicy.name)


def main() -> None:
    allow()
    policy_server.serve()


if __name__ == "__main__":
    main()
