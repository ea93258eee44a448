"""Writing mcap recordings that lose nothing when the process dies.

An mcap file is fast to search when its messages are in chunks with an index, and safe against a
killed writer when each message is a record of its own. This writer has both. A chunk begins as a
placeholder of exactly a chunk header's size, under an opcode that the format reserves for
applications and readers skip, followed by plain records. When it is full, the 49 bytes are
overwritten with the header of an uncompressed chunk that holds just these records. At any moment
the file is a valid stream of complete records.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from rosbags.typesys.store import Typestore

from rynn_brain_ros.bags.mcap_storage import walk_records
from rynn_brain_ros.bags.storage import MCAP_MAGIC, Channel
from rynn_brain_ros.bags.types import DECODE_ERRORS, message, normalise_type, typestore
from rynn_brain_ros.files import refuse_to_replace
from rynn_brain_ros.values import ConfigError, OutputError

LIBRARY = "rynn_brain_ros"
PROVENANCE = "rynn_brain_ros"
"""Name of the metadata record that tells where a recording comes from."""
ENDING = "rynn_brain_ros.ending"
"""Name of the metadata record written on close: ``ending`` is ``complete`` or ``interrupted``.
A recording without it was cut off."""

_CHUNK_BYTES = 2**20
_CHUNK_HEADER = struct.Struct("<BQQQQIIQ")
_PLACEHOLDER_OPCODE = 0x80
_MESSAGE_HEADER = struct.Struct("<BQHIQQ")
_RECORD_HEADER_BYTES = 9
_FOOTER = struct.Struct("<BQQQ")

# rosbag2 reads the numbers of the QoS text below as names unless the metadata it stores itself
# says version 8 or less; all the rest of this it replaces by the statistics.
_ROSBAG2_METADATA = """\
version: 8
storage_identifier: mcap
duration:
  nanoseconds: 0
starting_time:
  nanoseconds_since_epoch: 0
message_count: 0
topics_with_message_count:
  []
compression_format: ""
compression_mode: ""
relative_file_paths:
  []
files:
  []
custom_data: ~
ros_distro: ""
"""

# As rosbag2 writes it: history keep_last, reliable; durability 1 is transient_local, 2 volatile.
_QOS = """\
- history: 1
  depth: {depth}
  reliability: 1
  durability: {durability}
  deadline:
    sec: 9223372036
    nsec: 854775807
  lifespan:
    sec: 9223372036
    nsec: 854775807
  liveliness: 1
  liveliness_lease_duration:
    sec: 9223372036
    nsec: 854775807
  avoid_ros_namespace_conventions: false"""

_LATCHED_TOPICS = ("/tf_static",)


def qos_text(latched: bool) -> str:
    """``offered_qos_profiles`` of a reliable publisher, transient_local where ``latched``."""
    return _QOS.format(depth=1 if latched else 10, durability=1 if latched else 2)


@dataclass
class _OpenChunk:
    """The chunk being written: where its placeholder is, and what its header will say.

    ``entries`` are (log time, place in the chunk) of the messages, by channel.
    """

    offset: int
    crc: int = 0
    size: int = 0
    start_ns: int = 2**64 - 1
    end_ns: int = 0
    entries: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def records_offset(self) -> int:
        return self.offset + _CHUNK_HEADER.size

    def note(self, key: int, log_time_ns: int, place: int) -> None:
        self.entries[key].append((log_time_ns, place))
        self.start_ns = min(self.start_ns, log_time_ns)
        self.end_ns = max(self.end_ns, log_time_ns)


@dataclass(frozen=True)
class _SealedChunk:
    """What the summary needs to know of a finished chunk."""

    offset: int
    start_ns: int
    end_ns: int
    counts: dict[int, int]
    index: bytes


class BagWriter:
    """Writes one .mcap file; use as a context manager.

    While it is written the file is called ``NAME.partial.mcap``; every message is handed to the
    operating system before ``write`` returns. A clean end renames it to its final name, and so
    does an exception, after noting in the file that it was interrupted. The same calls give the
    same bytes.

    ``provenance`` (prompt, model, revision, configuration …) goes into the metadata record
    "rynn_brain_ros"; anything that is not text is written as JSON.

    Raises:
        OutputError: the file exists already, or cannot be written (then what was written stays
            under its partial name).
    """

    def __init__(
        self,
        path: Path,
        provenance: Mapping[str, Any] | None = None,
        *,
        store: Typestore | None = None,
    ) -> None:
        self.path = Path(path)
        self.partial_path = self.path.with_name(f"{self.path.stem}.partial.mcap")
        self._store = store if store is not None else typestore()
        self._schemas: dict[tuple[str, str, str], int] = {}
        self._channels: dict[str, tuple[int, str]] = {}
        self._described: list[bytes] = []
        self._sequence: dict[int, int] = {}
        self._chunk: _OpenChunk | None = None
        self._sealed: list[_SealedChunk] = []
        self._metadata_indexes: list[records.MetadataIndex] = []
        self._offset = 0
        self._fd = self._create()
        self._append(MCAP_MAGIC + _bytes_of(records.Header("ros2", LIBRARY)))
        self.add_metadata("rosbag2", {"serialized_metadata": _ROSBAG2_METADATA})
        self.add_metadata(PROVENANCE, provenance or {})

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(complete=kind is None)

    # --- what callers write ------------------------------------------------------------------

    def write(
        self,
        topic: str,
        typename: str,
        data: Any,
        log_time_ns: int,
        publish_time_ns: int | None = None,
        *,
        latched: bool = False,
    ) -> None:
        """Write a message given as a nested dict or as a rosbags object.

        Raises:
            ConfigError: the data does not fit the type, or the topic has another type.
        """
        typename = normalise_type(typename)
        value = message(typename, data, self._store) if isinstance(data, Mapping) else data
        try:
            raw = self._store.serialize_cdr(value, typename)
        except DECODE_ERRORS as error:
            raise ConfigError(f"{topic}: this is no {typename}: {error!r}.") from error
        qos = qos_text(latched or topic in _LATCHED_TOPICS)
        key = self._channel(Channel(topic, typename, offered_qos=qos))
        self._write_message(key, raw, log_time_ns, publish_time_ns)

    def write_raw(
        self,
        topic: str,
        typename: str,
        raw: bytes | memoryview,
        log_time_ns: int,
        schema: str = "",
        *,
        schema_encoding: str = "ros2msg",
        offered_qos: str = "",
        publish_time_ns: int | None = None,
    ) -> None:
        """Copy a message as it was recorded; ``schema`` is its definition where one is known."""
        typename = normalise_type(typename)
        key = self._channel(Channel(topic, typename, "cdr", schema_encoding, schema, offered_qos))
        self._write_message(key, raw, log_time_ns, publish_time_ns)

    def add_metadata(self, name: str, record: Mapping[str, Any]) -> None:
        """Add an mcap metadata record; values that are not text are written as JSON."""
        self._seal()
        texts = {str(key): _text(value) for key, value in record.items()}
        data = _bytes_of(records.Metadata(name=name, metadata=texts))
        self._metadata_indexes.append(
            records.MetadataIndex(offset=self._offset, length=len(data), name=name)
        )
        self._append(data)

    def close(self, complete: bool = True) -> None:
        """Write the index and give the file its final name. May be called twice."""
        if self._fd < 0:
            return
        try:
            self._settle()
            self.add_metadata(ENDING, {"ending": "complete" if complete else "interrupted"})
            self._append(_bytes_of(records.DataEnd(0)) + self._summary() + MCAP_MAGIC)
            os.fsync(self._fd)
        except OSError as error:
            self._fail(error)
        finally:
            self._release()
        self._rename()

    def _settle(self) -> None:
        """Make the books agree with the file: Ctrl-C may come between any two steps of a write.

        ``_offset`` only ever moves past whole records, and a chunk's entry in ``_sealed`` is the
        last step of sealing it; the open chunk is read back.
        """
        chunk, self._chunk = self._chunk, None
        if chunk is not None and not (self._sealed and self._sealed[-1].offset == chunk.offset):
            self._chunk = self._read_back(chunk)
        os.ftruncate(self._fd, self._offset)
        os.lseek(self._fd, self._offset, os.SEEK_SET)

    def _read_back(self, chunk: _OpenChunk) -> _OpenChunk:
        start, found = chunk.records_offset, _OpenChunk(chunk.offset)
        data = os.pread(self._fd, self._offset - start, start)
        for opcode, content in walk_records(data):
            if opcode == Opcode.MESSAGE:
                key, _, log_time_ns, _ = struct.unpack_from("<HIQQ", content)
                found.note(key, log_time_ns, found.size)
            elif opcode not in (Opcode.SCHEMA, Opcode.CHANNEL):
                break  # sealing had begun; it is done again
            found.size += _RECORD_HEADER_BYTES + len(content)
        found.crc = zlib.crc32(data[: found.size])
        self._offset = start + found.size
        return found

    # --- channels ----------------------------------------------------------------------------

    def _channel(self, channel: Channel) -> int:
        """The number of the channel, which is described in the file when it is first used."""
        topic, typename = channel.topic, channel.typename
        if topic not in self._channels:
            return self._describe(channel)
        key, known = self._channels[topic]
        if known != typename:
            raise ConfigError(
                f"{topic} is recorded as {known} in {self.path}; {typename} needs another topic."
            )
        return key

    def _describe(self, channel: Channel) -> int:
        typename, schema, encoding = channel.typename, channel.schema, channel.schema_encoding
        metadata = {"offered_qos_profiles": channel.offered_qos}
        if not schema and typename in self._store.fielddefs:
            schema, _ = self._store.generate_msgdef(typename, ros_version=2)
            encoding = "ros2msg"
            metadata["topic_type_hash"] = self._store.hash_rihs01(typename)
        builder = RecordBuilder()
        schema_id = self._schema(builder, typename, encoding, schema)
        key = len(self._channels) + 1
        records.Channel(key, channel.topic, "cdr", metadata, schema_id).write(builder)
        data = _taken(builder)
        self._described.append(data)
        self._sequence[key] = 0
        self._append_to_chunk(data)
        self._channels[channel.topic] = (key, typename)
        return key

    def _schema(self, builder: RecordBuilder, typename: str, encoding: str, schema: str) -> int:
        known = (typename, encoding, schema)
        if known not in self._schemas:
            self._schemas[known] = len(self._schemas) + 1
            records.Schema(
                id=self._schemas[known], name=typename, encoding=encoding, data=schema.encode()
            ).write(builder)
        return self._schemas[known]

    # --- records and chunks ------------------------------------------------------------------

    def _write_message(
        self, key: int, raw: bytes | memoryview, log_time_ns: int, publish_time_ns: int | None
    ) -> None:
        publish_ns = log_time_ns if publish_time_ns is None else publish_time_ns
        sequence = self._sequence[key] % 2**32
        try:
            header = _MESSAGE_HEADER.pack(
                Opcode.MESSAGE, 22 + len(raw), key, sequence, log_time_ns, publish_ns
            )
        except struct.error as error:
            raise ConfigError(
                f"{log_time_ns} is no time in nanoseconds: 0 … 2^64 − 1 can be recorded."
            ) from error
        chunk, place = self._append_to_chunk(header + raw)
        chunk.note(key, log_time_ns, place)
        self._sequence[key] += 1
        if chunk.size >= _CHUNK_BYTES:
            self._seal()

    def _append_to_chunk(self, data: bytes) -> tuple[_OpenChunk, int]:
        """Write records into the open chunk; returns it and their place inside it."""
        if self._chunk is None:
            place = self._offset
            empty = bytes(_CHUNK_HEADER.size - _RECORD_HEADER_BYTES)
            self._append(struct.pack("<BQ", _PLACEHOLDER_OPCODE, len(empty)) + empty)
            self._chunk = _OpenChunk(place)
        chunk, place = self._chunk, self._chunk.size
        self._append(data)
        chunk.crc = zlib.crc32(data, chunk.crc)
        chunk.size += len(data)
        return chunk, place

    def _seal(self) -> None:
        """Turn placeholder and records into a chunk, and write its message indexes."""
        chunk = self._chunk
        if chunk is None or not chunk.entries:
            self._chunk = None  # schemas and channels alone may stay outside chunks
            return
        header = _CHUNK_HEADER.pack(
            Opcode.CHUNK,
            _CHUNK_HEADER.size - _RECORD_HEADER_BYTES + chunk.size,
            chunk.start_ns,
            chunk.end_ns,
            chunk.size,
            chunk.crc,
            0,  # length of the compression's name: none
            chunk.size,
        )
        try:
            os.pwrite(self._fd, header, chunk.offset)
        except OSError as error:
            self._fail(error)
        index = self._write_indexes(chunk)
        counts = {key: len(entries) for key, entries in chunk.entries.items()}
        self._sealed.append(_SealedChunk(chunk.offset, chunk.start_ns, chunk.end_ns, counts, index))
        self._chunk = None

    def _write_indexes(self, chunk: _OpenChunk) -> bytes:
        """Write the chunk's message indexes; returns its own index record."""
        builder = RecordBuilder()
        offsets: dict[int, int] = {}
        for key, entries in sorted(chunk.entries.items()):
            offsets[key] = self._offset + builder.count
            entries.sort(key=lambda entry: entry[0])
            records.MessageIndex(channel_id=key, records=entries).write(builder)
        data = _taken(builder)
        index = records.ChunkIndex(
            chunk_start_offset=chunk.offset,
            chunk_length=_CHUNK_HEADER.size + chunk.size,
            compression="",
            compressed_size=chunk.size,
            message_end_time=chunk.end_ns,
            message_index_length=len(data),
            message_index_offsets=offsets,
            message_start_time=chunk.start_ns,
            uncompressed_size=chunk.size,
        )
        self._append(data)
        return _bytes_of(index)

    def _summary(self) -> bytes:
        """Summary section and footer, without the closing magic."""
        start = self._offset + len(_bytes_of(records.DataEnd(0)))
        counts = Counter(dict.fromkeys(self._sequence, 0))
        for chunk in self._sealed:
            counts.update(chunk.counts)
        statistics = records.Statistics(
            attachment_count=0,
            channel_count=len(counts),
            channel_message_counts=dict(sorted(counts.items())),
            chunk_count=len(self._sealed),
            message_count=sum(counts.values()),
            message_end_time=max((chunk.end_ns for chunk in self._sealed), default=0),
            message_start_time=min((chunk.start_ns for chunk in self._sealed), default=0),
            metadata_count=len(self._metadata_indexes),
            schema_count=len(self._schemas),
        )
        parts = [*self._described, _bytes_of(statistics), *(c.index for c in self._sealed)]
        parts += [_bytes_of(index) for index in self._metadata_indexes]
        summary = b"".join(parts)
        footer = _FOOTER.pack(Opcode.FOOTER, 20, start, 0)
        return summary + footer + struct.pack("<I", zlib.crc32(summary + footer))

    # --- the file ----------------------------------------------------------------------------

    def _create(self) -> int:
        for path in (self.path, self.partial_path):
            refuse_to_replace(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.partial_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise OutputError(
                f"{self.partial_path} cannot be created: {error.strerror}. "
                "Choose a folder that you may write to."
            ) from error

    def _append(self, data: bytes) -> None:
        if self._fd < 0:
            raise OutputError(f"{self.path} is closed: nothing more can be recorded in it.")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._fail(error)
        self._offset += len(data)

    def _fail(self, error: OSError) -> None:
        """Give up: leave the complete records under the partial name."""
        with suppress(OSError):  # the reader copes with half a record at the end
            os.ftruncate(self._fd, self._offset)
        self._release()
        raise OutputError(
            f"{self.partial_path} cannot be written: {error.strerror}. What was recorded before "
            "is in there and can be read; free some space or choose another disk."
        ) from error

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _rename(self) -> None:
        try:
            self.partial_path.replace(self.path)
        except OSError as error:
            raise OutputError(
                f"{self.partial_path} is complete but cannot be renamed to {self.path.name}: "
                f"{error.strerror}."
            ) from error


def _bytes_of(record: records.McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return _taken(builder)


def _taken(builder: RecordBuilder) -> bytes:
    data: bytes = builder.end()  # type: ignore[no-untyped-call]
    return data


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{value!r} cannot be written as metadata: {error}.") from error
