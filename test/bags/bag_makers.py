"""Small recordings made by rosbags, to be broken by tests."""

from __future__ import annotations

from pathlib import Path

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from rynn_brain_ros.bags import BagWriter, message, typestore

STRING = "std_msgs/msg/String"
STEP_NS = 10_000_000
START_NS = 1_700_000_000_000_000_000


def make_bag(
    folder: Path,
    count: int = 30,
    *,
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    start_ns: int = START_NS,
    text_bytes: int = 100,
) -> Path:
    """``count`` strings on /a and /b in turn; number i says ``i`` first. Returns the folder."""
    store = typestore()
    writer = Writer(folder, version=9, storage_plugin=plugin)
    if compression is not CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        topics = [writer.add_connection(name, STRING, typestore=store) for name in ("/a", "/b")]
        for i in range(count):
            text = message(STRING, {"data": f"{i} ".ljust(text_bytes, "x")})
            raw = store.serialize_cdr(text, STRING)
            writer.write(topics[i % 2], start_ns + i * STEP_NS, raw)
    return folder


def storage_file(folder: Path) -> Path:
    (file,) = [path for path in folder.iterdir() if path.suffix in (".mcap", ".db3", ".zstd")]
    return file


def write_strings(path: Path, count: int, text_bytes: int = 100) -> Path:
    with BagWriter(path, {"model": "test"}) as bag:
        for i in range(count):
            text = f"{i} ".ljust(text_bytes, "x")
            bag.write("/a" if i % 2 == 0 else "/b", STRING, {"data": text}, START_NS + i * STEP_NS)
    return path


def numbers(decoded) -> list[int]:
    """The numbers that the strings begin with."""
    return [int(value.data.split()[0]) for _, value in decoded]
