"""What was saved together says so: one identity in policy.json, in each file of the backbone's
weights and in each graph. (The head says the hash of policy.json.)"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

IDENTITY = "policy_identity"
_METADATA = "__metadata__"
_PIECE = 16 << 20


def mark(path: Path, identity: str) -> None:
    """Writes ``identity`` into the header of the safetensors file ``path``. Raises `OSError`.

    Format: huggingface/safetensors, README: the header's length in 8 bytes, little-endian, then the
    header in JSON, then the numbers, whose places are told from there; spaces may end the header.
    """
    marked = path.with_name(f".{path.name}.marked")
    with path.open("rb") as source, marked.open("wb") as target:
        (length,) = struct.unpack("<Q", source.read(8))
        header = json.loads(source.read(length))
        header[_METADATA] = {**header.get(_METADATA, {}), IDENTITY: identity}
        told = json.dumps(header).encode()
        told += b" " * (-len(told) % 8)
        target.write(struct.pack("<Q", len(told)) + told)
        shutil.copyfileobj(source, target, _PIECE)
    marked.replace(path)
