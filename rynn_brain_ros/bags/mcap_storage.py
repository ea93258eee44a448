"""Reading mcap files, whole or damaged.

The mcap package's readers refuse a file that was cut, its StreamReader reads every payload to
find one, and rosbags' reader wants an index; this one walks the records itself (they are a byte
of opcode and eight of length), so it knows for each what was lost. The format:
https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import IO

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode

from rynn_brain_ros.bags.storage import (
    MAX_BACK_NS,
    MCAP_MAGIC,
    OUT_OF_ORDER,
    Channel,
    Item,
    Report,
    Selection,
    StorageIndex,
    back_remark,
    goes_back,
    in_time_order,
    merge_metadata,
)

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_INDEX = struct.Struct("<HI")
_INDEX_ENTRY = struct.Struct("<QQ")
_FOOTER_LENGTH = _RECORD.size + 20

DAMAGE = (
    McapError,
    struct.error,
    zstandard.ZstdError,
    ValueError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
)
"""What damaged bytes were seen to raise below."""


@dataclass(frozen=True)
class _Chunk:
    offset: int
    start_ns: int
    end_ns: int
    channels: frozenset[int]
    """Empty: not known."""
    index_offset: int = 0
    index_length: int = 0
    """Where the file tells the times in it; 0: nowhere."""

    @property
    def spans_ns(self) -> int:
        return self.end_ns - self.start_ns


class McapFile:
    """One mcap file: its index is read (or rebuilt, where it is missing) when this is made.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not an mcap file at all.
    """

    kind = "mcap"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = StorageIndex()
        self._schemas: dict[int, records.Schema] = {}
        self._channels: dict[int, records.Channel] = {}
        self._chunks: list[_Chunk] = []
        # Messages outside chunks: times, offsets and channels, packed since there may be millions.
        self._loose = (array("Q"), array("Q"), array("H"))
        self._back_in_chunk = False
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            if stream.read(len(MCAP_MAGIC)) != MCAP_MAGIC:
                raise ValueError("it does not start like an mcap file")
            try:
                indexed = self._read_summary(stream, size)
            except DAMAGE as error:
                self.index.problems.append(f"{path.name}: the index is damaged ({error!r})")
                indexed = False
            if not indexed:
                self._scan(stream, size)
            self._check_order(stream)
        self._fill_channels()

    # --- the index ---------------------------------------------------------------------------

    def _read_summary(self, stream: IO[bytes], size: int) -> bool:
        """Whether the summary at the end of the file tells where every message is."""
        footer_at = size - _FOOTER_LENGTH - len(MCAP_MAGIC)
        stream.seek(max(footer_at, 0))
        tail = stream.read()
        if footer_at < len(MCAP_MAGIC) or not tail.endswith(MCAP_MAGIC):
            self.index.problems.append(
                f"{self.path.name} was cut or never closed: it has no end mark; "
                "the messages that are there were read"
            )
            return False
        footer = records.Footer.read(_stream(tail[_RECORD.size : _FOOTER_LENGTH]))
        if footer.summary_start == 0:
            return False
        if not len(MCAP_MAGIC) <= footer.summary_start <= footer_at:
            raise ValueError(f"it claims to be at byte {footer.summary_start} of {size}")
        stream.seek(footer.summary_start)
        summary = stream.read(footer_at - footer.summary_start)
        covered = summary + tail[: _FOOTER_LENGTH - 4]
        if footer.summary_crc and zlib.crc32(covered) != footer.summary_crc:
            raise ValueError("its checksum is wrong")
        return self._parse_summary(stream, summary, size)

    def _parse_summary(self, stream: IO[bytes], summary: bytes, size: int) -> bool:
        statistics: records.Statistics | None = None
        chunks: list[_Chunk] = []
        metadata_at: list[int] = []
        for opcode, content in walk_records(summary):
            if opcode == Opcode.STATISTICS:
                statistics = records.Statistics.read(_stream(content))
            elif opcode == Opcode.CHUNK_INDEX:
                entry = records.ChunkIndex.read(_stream(content))
                chunks.append(_chunk_of(entry))
            elif opcode == Opcode.METADATA_INDEX:
                metadata_at.append(records.MetadataIndex.read(_stream(content)).offset)
            else:
                self._describe(opcode, content)
        if statistics is None or len(chunks) != statistics.chunk_count:
            return False
        if statistics.message_count and not (chunks and self._channels):
            return False
        if sum(statistics.channel_message_counts.values()) != statistics.message_count:
            return False  # empty counts are allowed, and mean that nobody counted
        if any(c.schema_id and c.schema_id not in self._schemas for c in self._channels.values()):
            return False
        for offset in metadata_at:
            self._describe(*_record_at(stream, offset, size))
        self._chunks = chunks
        self.index.counts = dict(statistics.channel_message_counts)
        if statistics.message_count:
            self.index.start_ns = statistics.message_start_time
            self.index.end_ns = statistics.message_end_time
        return True

    def _scan(self, stream: IO[bytes], size: int) -> None:
        """Rebuild the index record by record; chunks are unpacked to know what they hold."""
        counts: Counter[int] = Counter()
        offset = len(MCAP_MAGIC)
        while size - offset >= _RECORD.size:
            stream.seek(offset)
            opcode, length = _RECORD.unpack(stream.read(_RECORD.size))
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                break
            if opcode == 0 or length > size - offset - _RECORD.size:
                self.index.problems.append(
                    f"{self.path.name}: no whole record at byte {offset}; "
                    f"the {size - offset} bytes from there to the end are lost"
                )
                break
            try:
                counts += self._scan_record(stream, opcode, offset, length)
            except DAMAGE as error:
                self.index.problems.append(
                    f"{self.path.name}: the record at byte {offset} ({length} bytes) is damaged "
                    f"and was skipped ({error!r})"
                )
            offset += _RECORD.size + length
        self.index.counts = dict(counts)
        if counts:
            times = self._loose[0]
            first = [chunk.start_ns for chunk in self._chunks] + ([min(times)] if times else [])
            last = [chunk.end_ns for chunk in self._chunks] + ([max(times)] if times else [])
            self.index.start_ns, self.index.end_ns = min(first), max(last)

    def _scan_record(
        self, stream: IO[bytes], opcode: int, offset: int, length: int
    ) -> Counter[int]:
        """Take note of one record; how many messages of which channel it holds."""
        if opcode == Opcode.CHUNK:
            return self._scan_chunk(offset, stream.read(length))
        if opcode == Opcode.MESSAGE:
            channel, _, log_time, _ = _MESSAGE.unpack(stream.read(_MESSAGE.size))
            for column, value in zip(self._loose, (log_time, offset, channel), strict=True):
                column.append(value)
            return Counter({channel: 1})
        if opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA):
            self._describe(opcode, stream.read(length))
        return Counter()

    def _scan_chunk(self, offset: int, content: bytes) -> Counter[int]:
        held: Counter[int] = Counter()
        times: list[int] = []
        parts: list[tuple[int, int, int]] = []
        try:
            for opcode, data in _walk_chunk(content):
                if opcode == Opcode.MESSAGE:
                    channel, _, log_time, _ = _MESSAGE.unpack_from(data)
                    held[channel] += 1
                    times.append(log_time)
                    parts.append((channel, log_time, log_time))
                else:
                    self._describe(opcode, data)
        except DAMAGE as error:
            self.index.problems.append(
                f"{self.path.name}: the chunk at byte {offset} is damaged ({error!r}); "
                f"{len(times)} messages were found in it"
            )
        if times:
            self._chunks.append(_Chunk(offset, min(times), max(times), frozenset(held)))
            self._back_in_chunk |= goes_back(parts)
        return held

    def _describe(self, opcode: int, content: bytes | memoryview) -> None:
        """Take note of a record that describes others."""
        if opcode == Opcode.SCHEMA:
            schema = records.Schema.read(_stream(content))
            self._schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = records.Channel.read(_stream(content))
            self._channels[channel.id] = channel
        elif opcode == Opcode.METADATA:
            metadata = records.Metadata.read(_stream(content))
            merge_metadata(self.index.metadata, metadata.name, metadata.metadata)

    def _check_order(self, stream: IO[bytes]) -> None:
        """Take note of a clock that was set back. A chunk that it fell into spans more time, so
        the times in the others need not be read."""
        if OUT_OF_ORDER in self.index.metadata:
            return
        chunks = sorted(self._chunks, key=lambda chunk: chunk.offset)
        times, _, owners = self._loose
        if (
            self._back_in_chunk
            or goes_back((key, c.start_ns, c.end_ns) for c in chunks for key in c.channels)
            or goes_back(zip(owners, times, times, strict=True))
            or any(goes_back(_times_of(stream, c)) for c in chunks if c.spans_ns > MAX_BACK_NS)
        ):
            self.index.remarks.append(back_remark(self.path.name))

    def _fill_channels(self) -> None:
        for key, channel in self._channels.items():
            schema = self._schemas.get(channel.schema_id)
            self.index.channels[key] = Channel(
                topic=channel.topic,
                typename=schema.name if schema else "",
                encoding=channel.message_encoding,
                schema_encoding=schema.encoding if schema else "",
                schema=schema.data.decode("utf-8", "replace") if schema else "",
                offered_qos=channel.metadata.get("offered_qos_profiles", ""),
            )
        homeless = {k: n for k, n in self.index.counts.items() if k not in self._channels and n}
        if homeless:
            self.index.problems.append(
                f"{self.path.name}: {sum(homeless.values())} messages belong to channels whose "
                "description is lost"
            )
        self.index.counts = {k: self.index.counts.get(k, 0) for k in self._channels}

    # --- the messages ------------------------------------------------------------------------

    def messages(self, selection: Selection, report: Report) -> Iterator[Item]:
        with self.path.open("rb") as stream:
            size = stream.seek(0, 2)
            sources = [
                (chunk.start_ns, partial(self._load_chunk, stream, size, chunk, selection, report))
                for chunk in self._chunks
                if selection.meets(chunk.start_ns, chunk.end_ns)
                and (not chunk.channels or not chunk.channels.isdisjoint(selection.channels))
            ]
            loose = self._select_loose(selection)
            if loose:
                sources.append(
                    (loose[0][0], partial(self._load_loose, stream, size, loose, report))
                )
            yield from in_time_order(sources)

    def _load_chunk(
        self, stream: IO[bytes], size: int, chunk: _Chunk, selection: Selection, report: Report
    ) -> Iterator[Item]:
        chosen: list[Item] = []
        try:
            for item in _chunk_messages(stream, chunk.offset, size):
                if selection.holds(item[0], item[2]):
                    chosen.append(item)
        except DAMAGE as error:
            report(
                f"{self.path.name}: the chunk at byte {chunk.offset} ({chunk.start_ns} to "
                f"{chunk.end_ns} ns) is damaged ({error!r}); {len(chosen)} messages of it were read"
            )
        return iter(sorted(chosen, key=lambda item: item[0]))

    def _select_loose(self, selection: Selection) -> list[tuple[int, int]]:
        """(time, offset) of the wanted messages outside chunks, in the order of time."""
        columns = zip(*self._loose, strict=True)
        return sorted((time, at) for time, at, owner in columns if selection.holds(time, owner))

    def _load_loose(
        self, stream: IO[bytes], size: int, loose: list[tuple[int, int]], report: Report
    ) -> Iterator[Item]:
        for _, offset in loose:
            try:
                yield _message(_record_at(stream, offset, size)[1])
            except DAMAGE as error:
                report(f"{self.path.name}: the message at byte {offset} is lost ({error!r})")


def _chunk_of(entry: records.ChunkIndex) -> _Chunk:
    return _Chunk(
        entry.chunk_start_offset,
        entry.message_start_time,
        entry.message_end_time,
        frozenset(entry.message_index_offsets),
        min(entry.message_index_offsets.values(), default=0),
        entry.message_index_length,
    )


def _times_of(stream: IO[bytes], chunk: _Chunk) -> Iterator[tuple[int, int, int]]:
    """(channel, time, time) of the messages in the chunk, channel by channel in their order there,
    as far as its index tells."""
    try:
        stream.seek(chunk.index_offset)
        for opcode, content in walk_records(stream.read(chunk.index_length)):
            if opcode == Opcode.MESSAGE_INDEX:
                channel, _ = _INDEX.unpack_from(content)
                entries = _INDEX_ENTRY.iter_unpack(content[_INDEX.size :])
                yield from ((channel, at, at) for at, _ in sorted(entries, key=itemgetter(1)))
    except DAMAGE:
        return  # it serves this look alone: no message is lost


def _chunk_messages(stream: IO[bytes], offset: int, size: int) -> Iterator[Item]:
    opcode, content = _record_at(stream, offset, size)
    if opcode != Opcode.CHUNK:
        raise ValueError(f"a record of kind {opcode} is there instead")
    for inner, data in _walk_chunk(content):
        if inner == Opcode.MESSAGE:
            yield _message(data)


def _message(content: bytes | memoryview) -> Item:
    channel, _, log_time, publish_time = _MESSAGE.unpack_from(content)
    # A copy, so that a message kept in memory does not keep its whole chunk there.
    return log_time, publish_time, channel, bytes(content[_MESSAGE.size :])


def _walk_chunk(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """The records of a chunk; a wrong checksum is raised after the last of them.

    So a flipped bit costs a warning and not a megabyte of messages.
    """
    chunk = records.Chunk.read(_stream(content))
    data = _unpack(chunk)
    yield from walk_records(data)
    if chunk.uncompressed_crc and zlib.crc32(data) != chunk.uncompressed_crc:
        raise ValueError("its checksum is wrong: values in it may be false")


def _unpack(chunk: records.Chunk) -> bytes:
    data: bytes
    if chunk.compression == "":
        data = chunk.data
    elif chunk.compression == "zstd":
        # The declared size bounds what damaged bytes may ask for.
        declared = zstandard.frame_content_size(chunk.data)
        if declared not in (-1, chunk.uncompressed_size):
            raise ValueError(f"unpacks to {declared} bytes, not {chunk.uncompressed_size}")
        data = zstandard.ZstdDecompressor().decompress(chunk.data, chunk.uncompressed_size)
    elif chunk.compression == "lz4":
        data = lz4.frame.decompress(chunk.data)
    else:
        raise ValueError(f"compressed with {chunk.compression!r}, which is not known")
    if len(data) != chunk.uncompressed_size:
        raise ValueError(f"unpacks to {len(data)} bytes, not {chunk.uncompressed_size}")
    return data


def _record_at(stream: IO[bytes], offset: int, size: int) -> tuple[int, bytes]:
    if offset > size - _RECORD.size:
        raise ValueError("the record starts beyond the end of the file")
    stream.seek(offset)
    opcode, length = _RECORD.unpack(stream.read(_RECORD.size))
    if length > size - offset - _RECORD.size:
        raise ValueError("the record reaches beyond the end of the file")
    return opcode, stream.read(length)


def walk_records(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """(opcode, content) of each record in ``data``."""
    view = memoryview(data)
    offset = 0
    while offset < len(view):
        opcode, length = _RECORD.unpack_from(view, offset)
        offset += _RECORD.size
        if length > len(view) - offset:
            raise ValueError(f"the record at byte {offset} of it is cut")
        yield opcode, view[offset : offset + length]
        offset += length


def _stream(content: bytes | memoryview) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))
