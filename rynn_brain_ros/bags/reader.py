"""Reading recordings that other programs wrote, as they are found and not as they should be.

A bag is always read storage file by storage file. rosbag2's metadata.yaml tells which files
belong to it and how many messages there should be, but nothing else is believed: reading through
it loses every message without a word where its QoS text differs from the storage's (rosbag2's
own test bags do). What is lost is counted and named.
"""

from __future__ import annotations

import difflib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

import yaml
import zstandard
from rosbags.typesys.store import Typestore

from rynn_brain_ros.bags.mcap_storage import McapFile
from rynn_brain_ros.bags.sqlite_storage import SqliteFile
from rynn_brain_ros.bags.storage import (
    MCAP_MAGIC,
    SQLITE_MAGIC,
    ZSTD_MAGIC,
    Channel,
    Item,
    Selection,
    StorageFile,
    StorageIndex,
    in_time_order,
    merge_metadata,
)
from rynn_brain_ros.bags.types import DECODE_ERRORS, Definitions, normalise_type, typestore
from rynn_brain_ros.bags.writer import PROVENANCE
from rynn_brain_ros.values import BagError, InputError

_STORAGE_NAMES = ("*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd")
_SPLIT_OVERLAP_NS = 1_000_000_000
"""A recorder that begins a new file may still write so much of the old one's time into it."""


@dataclass(frozen=True)
class Connection:
    """A topic with its type and how its messages are laid out.

    ``problem`` says why messages cannot be decoded; it is empty where they can.
    """

    topic: str
    typename: str
    encoding: str = "cdr"
    schema_encoding: str = ""
    schema: str = field(default="", repr=False)
    offered_qos: str = field(default="", repr=False)
    problem: str = ""
    store: Typestore | None = field(default=None, repr=False, compare=False)

    def decode(self, raw: bytes) -> Any:
        """The rosbags object in ``raw``; its arrays are read-only views of these bytes.

        Raises:
            BagError: the topic's type is not known, or the bytes do not fit it.
        """
        if self.store is None:
            raise BagError(f"{self.topic} cannot be decoded: {self.problem}.")
        try:
            return self.store.deserialize_cdr(raw, self.typename)
        except DECODE_ERRORS as error:
            raise BagError(
                f"A message of {len(raw)} bytes on {self.topic} is no {self.typename}: {error}."
            ) from error


@dataclass(frozen=True)
class BagMessage:
    """One recorded message, not decoded. Times are nanoseconds of the recorder's clock."""

    connection: Connection
    log_time_ns: int
    publish_time_ns: int
    raw: bytes = field(repr=False)

    @property
    def topic(self) -> str:
        return self.connection.topic

    @property
    def typename(self) -> str:
        return self.connection.typename

    def decode(self) -> Any:
        """See `Connection.decode`."""
        return self.connection.decode(self.raw)


@dataclass(frozen=True)
class TopicInfo:
    """``problem`` says why the topic is not ``decodable``."""

    topic: str
    typename: str
    count: int
    decodable: bool = True
    offered_qos: str = field(default="", repr=False)
    problem: str = ""


@dataclass(frozen=True)
class BagInfo:
    """What a recording holds.

    ``message_count`` is what the storage files' indexes say, ``declared_count`` what
    metadata.yaml says (``None`` without one). ``end_ns`` is the time of the last message; an empty
    bag has both times 0. ``metadata`` holds the mcap metadata records by name, ``problems``
    sentences for the user.
    """

    path: Path
    storage: str
    start_ns: int
    end_ns: int
    message_count: int
    declared_count: int | None
    topics: tuple[TopicInfo, ...]
    problems: tuple[str, ...] = ()
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def topic(self, name: str) -> TopicInfo | None:
        """The topic of that name; the fullest one where it was recorded with several types."""
        found = [topic for topic in self.topics if topic.topic == name]
        return max(found, key=lambda topic: topic.count, default=None)


class BagReader:
    """A recording: a bag's directory, or a single .mcap or .db3 file.

    Use as a context manager. Messages come lazily, in the order of log time over all files, in
    memory that does not grow with the bag; several iterations may run at once. FILE-compressed
    bags are unpacked into a temporary directory first.

    ``recover`` false makes damage an error; otherwise what is undamaged is delivered, and
    ``warnings`` grows by a sentence for everything that is not. Entering it raises `BagError` where
    there is nothing to read, `InputError` for a folder of several recordings.
    """

    def __init__(
        self, path: Path | str, *, store: Typestore | None = None, recover: bool = True
    ) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self._store = store
        self._recover = recover
        self._files: list[StorageFile] = []
        self._connections: dict[Channel, Connection] = {}
        self._info: BagInfo | None = None
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> BagReader:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was unpacked. May be called twice."""
        self._files = []
        if self._unpacked is not None:
            self._unpacked.cleanup()
            self._unpacked = None

    def info(self) -> BagInfo:
        """What the bag holds; payloads are read only where a file has no index."""
        if self._info is None:
            raise BagError(f"{self.path} is not open: use `with BagReader(path) as bag:`.")
        return self._info

    # --- opening -----------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            declared, paths = self._find_files()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BagError(f"There is no recording at {self.path}: check the path.") from error
        except (OSError, ValueError) as error:  # a name too long, a folder that may not be read
            raise BagError(f"{self.path} cannot be read: {error}.") from error
        self._open_files(paths)
        if declared.count is None:
            _check_one_recording(self.path, paths, self._files)
        self._connect()
        self._info = self._describe(declared)

    def _find_files(self) -> tuple[Declared, list[Path]]:
        self.path.stat()  # unlike exists(), it tells what is missing from what is forbidden
        if not self.path.is_dir():
            return Declared(), [self.path]
        declared = _read_declared(self.path)
        paths, problems = _storage_paths(self.path, declared)
        self.warnings += problems
        return declared, paths

    def _open_files(self, paths: list[Path]) -> None:
        failures: list[BagError] = []
        for path in paths:
            try:
                file = self._open_file(path)
            except BagError as error:
                failures.append(error)
                continue
            for problem in file.index.problems:
                self._report(problem)
            self.warnings += file.index.remarks
            self._files.append(file)
        if failures and (not self._files or not self._recover):
            raise failures[0]
        self.warnings += [str(error) for error in failures]

    def _open_file(self, path: Path) -> StorageFile:
        try:
            magic = _magic(path)
            if magic.startswith(ZSTD_MAGIC):
                path = self._unpack(path)
                magic = _magic(path)
            if magic.startswith(MCAP_MAGIC):
                return McapFile(path)
            if magic.startswith(SQLITE_MAGIC):
                return SqliteFile(path)
        except (OSError, ValueError, zstandard.ZstdError) as error:
            raise BagError(f"{path} cannot be read: {error}.") from error
        raise BagError(f"{path} is not a rosbag2 recording: {_guess(path, magic)}")

    def _unpack(self, path: Path) -> Path:
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryDirectory(prefix="rynn_brain_bag_")
        target = Path(self._unpacked.name, path.name.removesuffix(".zstd"))
        with path.open("rb") as source, target.open("wb") as sink:
            try:
                shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(source), sink, 2**20)
            except zstandard.ZstdError as error:
                self._report(f"{path.name} is damaged ({error}); what comes before was unpacked")
        return target

    def _connect(self) -> None:
        definitions = Definitions(self._store if self._store is not None else typestore())
        for file in self._files:
            for channel in file.index.channels.values():
                self._connections[channel] = _connection(channel, definitions)

    def _describe(self, declared: Declared) -> BagInfo:
        counts: Counter[tuple[str, str]] = Counter()
        first: dict[tuple[str, str], Connection] = {}
        metadata: dict[str, dict[str, str]] = {}
        for file in self._files:
            for key, channel in file.index.channels.items():
                connection = self._connections[channel]
                first.setdefault((connection.topic, connection.typename), connection)
                counts[connection.topic, connection.typename] += file.index.counts.get(key, 0)
            for name, record in file.index.metadata.items():
                merge_metadata(metadata, name, record)
        topics = tuple(
            TopicInfo(c.topic, c.typename, counts[key], not c.problem, c.offered_qos, c.problem)
            for key, c in sorted(first.items())
        )
        filled = [file.index for file in self._files if file.index.message_count]
        self.warnings += _differences(declared, topics)
        self.warnings += [
            f"{t.topic} is skipped: {t.problem}" for t in topics if t.problem and t.count
        ]
        if not filled:
            self.warnings.append("the recording holds no messages")
        return BagInfo(
            path=self.path,
            storage="+".join(sorted({file.kind for file in self._files})),
            start_ns=min((index.start_ns for index in filled), default=0),
            end_ns=max((index.end_ns for index in filled), default=0),
            message_count=sum(counts.values()),
            declared_count=declared.count,
            topics=topics,
            problems=tuple(self.warnings),
            metadata=metadata,
        )

    def _report(self, sentence: str) -> None:
        if not self._recover:
            raise BagError(f"{self.path}: {sentence}. Open it with recover=True to read the rest.")
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    # --- messages ----------------------------------------------------------------------------

    def messages(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[BagMessage]:
        """Messages with ``start_ns <= log time < stop_ns``, decodable or not.

        Raises:
            BagError: the bag holds no messages at all, or has no such topic.
        """
        info = self.info()
        if info.message_count == 0:
            reasons = "; ".join(info.problems)
            raise BagError(f"{self.path} holds no messages: there is nothing to read ({reasons}).")
        known = {topic.topic for topic in info.topics}
        for topic in topics or ():
            if topic not in known:
                raise BagError(_unknown_topic(self.path, topic, known))
        return self._messages(topics, start_ns, stop_ns)

    def decoded(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[tuple[BagMessage, Any]]:
        """As `messages`, with the decoded object; what cannot be decoded is skipped and counted."""
        broken: Counter[str] = Counter()
        for message in self.messages(topics, start_ns, stop_ns):
            if message.connection.store is None:
                continue
            try:
                value = message.decode()
            except BagError:
                broken[message.topic] += 1
                continue
            yield message, value
        for topic, count in sorted(broken.items()):
            self._report(f"{topic}: {count} messages are damaged and were skipped")

    def first_encoding(self, topic: str) -> str | None:
        """The encoding or format that the first readable image of a topic names."""
        for _, value in self.decoded([topic]):
            return str(getattr(value, "encoding", None) or getattr(value, "format", ""))
        return None

    def _messages(
        self, topics: Collection[str] | None, start_ns: int | None, stop_ns: int | None
    ) -> Iterator[BagMessage]:
        delivered: Counter[str] = Counter()
        connections: list[Connection] = []

        def opener(file: StorageFile) -> Callable[[], Iterator[Item]]:
            # Channels are numbered per file; from here on by their connection's place in a list.
            wanted: dict[int, int] = {}
            for key, channel in file.index.channels.items():
                if topics is None or channel.topic in topics:
                    wanted[key] = len(connections)
                    connections.append(self._connections[channel])

            def load() -> Iterator[Item]:
                selection = Selection(wanted.keys(), start_ns, stop_ns)
                try:
                    for item in file.messages(selection, self._report):
                        yield (item[0], item[1], wanted[item[2]], item[3])
                except OSError as error:
                    self._report(f"{file.path.name} cannot be read any further ({error})")

            return load

        sources = [(f.index.start_ns, opener(f)) for f in self._files if f.index.message_count]
        for log_ns, publish_ns, place, payload in in_time_order(sources):
            connection = connections[place]
            raw = self._plain(connection, payload)
            if raw is not None:
                delivered[connection.topic] += 1
                yield BagMessage(connection, log_ns, publish_ns, raw)
        if start_ns is None and stop_ns is None:
            self._compare(topics, delivered)

    def _plain(self, connection: Connection, payload: bytes) -> bytes | None:
        """The payload without rosbag2's MESSAGE compression; plain CDR never starts like zstd."""
        if not payload.startswith(ZSTD_MAGIC) or connection.encoding != "cdr":
            return payload
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(payload)
        except (zstandard.ZstdError, MemoryError) as error:
            self._report(f"{connection.topic}: a compressed message is damaged ({error})")
            return None

    def _compare(self, topics: Collection[str] | None, delivered: Counter[str]) -> None:
        expected: Counter[str] = Counter()
        for topic in self.info().topics:
            if topics is None or topic.topic in topics:
                expected[topic.topic] += topic.count
        for name, count in sorted(expected.items()):
            if delivered[name] < count:
                self._report(f"{name}: {delivered[name]} of {count} messages could be read")


# --- metadata.yaml -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declared:
    """What metadata.yaml claims; ``problem`` says why it could not be read."""

    files: tuple[str, ...] = ()
    count: int | None = None
    topics: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


def _read_declared(folder: Path) -> Declared:
    path = folder / "metadata.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        bag = content["rosbag2_bagfile_information"]
        topics = {
            str(entry["topic_metadata"]["name"]): int(entry["message_count"])
            for entry in bag.get("topics_with_message_count") or ()
        }
        files = tuple(PurePath(str(name)).name for name in bag["relative_file_paths"] or ())
        return Declared(files, int(bag["message_count"]), topics)
    except FileNotFoundError:
        return Declared(problem="metadata.yaml is missing; all storage files were read")
    except OSError as error:
        return Declared(problem=f"metadata.yaml cannot be read ({error.strerror})")
    except (yaml.YAMLError, *DECODE_ERRORS) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        return Declared(problem=f"metadata.yaml is broken ({reason}); all storage files were read")


def _storage_paths(folder: Path, declared: Declared) -> tuple[list[Path], list[str]]:
    problems = [declared.problem] if declared.problem else []
    present = {path.name: path for pattern in _STORAGE_NAMES for path in folder.glob(pattern)}
    if not present:
        raise BagError(
            f"{folder} is not a rosbag2 recording: it holds no .mcap or .db3 file"
            + (f", but metadata.yaml names {', '.join(declared.files)}" if declared.files else "")
            + ". Give the folder that `ros2 bag record` made."
        )
    # Older metadata names a compressed file without its last suffix.
    names = {name: name if name in present else f"{name}.zstd" for name in declared.files}
    missing = [name for name, found in names.items() if found not in present]
    listed = [present[found] for found in names.values() if found in present]
    if missing:
        problems.append(f"{', '.join(missing)} missing: the messages in there are lost")
    if not listed:
        return [present[name] for name in sorted(present, key=_natural)], problems
    if others := sorted(present.keys() - set(names.values())):
        problems.append(f"{', '.join(others)} not listed in metadata.yaml and not read")
    return listed, problems


def _check_one_recording(folder: Path, paths: Sequence[Path], files: Sequence[StorageFile]) -> None:
    """What no metadata.yaml holds together has to be the parts of one recording, one after the
    other. Raises `InputError`."""
    filled = sorted((f for f in files if f.index.message_count), key=lambda f: f.index.start_ns)
    whole = [file for file in files if PROVENANCE in file.index.metadata]  # ours are never split
    if len(whole) > 1 or any(_overlap(a.index, b.index) for a, b in pairwise(filled)):
        names = ", ".join(path.name for path in paths)
        raise InputError(
            f"{folder} holds several recordings ({names}): give them one by one, "
            f"or {folder}/*{paths[0].suffix}"
        )


def _overlap(first: StorageIndex, second: StorageIndex) -> bool:
    shorter_ns = min(index.end_ns - index.start_ns for index in (first, second))
    common_ns = min(first.end_ns, second.end_ns) - second.start_ns
    return common_ns > min(_SPLIT_OVERLAP_NS, shorter_ns // 2)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts bag_2 before bag_10."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", name)]


def _differences(declared: Declared, topics: tuple[TopicInfo, ...]) -> list[str]:
    found: Counter[str] = Counter()
    for topic in topics:
        found[topic.topic] += topic.count
    if declared.count is None:
        return []
    parts = [
        f"{name}: {found[name]} of {count}"
        for name, count in sorted(declared.topics.items())
        if found[name] != count
    ]
    total = sum(found.values())
    if not parts and total == declared.count:
        return []
    details = f" ({', '.join(parts)})" if parts else ""
    return [f"metadata.yaml declares {declared.count} messages, the storage has {total}{details}"]


# --- small helpers -------------------------------------------------------------------------------


def _connection(channel: Channel, definitions: Definitions) -> Connection:
    typename = normalise_type(channel.typename)
    if channel.encoding != "cdr":
        store, problem = None, f"it is encoded as {channel.encoding!r}, not as cdr"
    else:
        store, problem = definitions.find(typename, channel.schema_encoding, channel.schema)
    return Connection(
        channel.topic,
        typename,
        channel.encoding,
        channel.schema_encoding,
        channel.schema,
        channel.offered_qos,
        problem,
        store,
    )


def _magic(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(SQLITE_MAGIC))


def _guess(path: Path, magic: bytes) -> str:
    if not magic:
        return "it is empty (0 bytes). Was the recorder stopped before it wrote anything?"
    if magic.startswith(b"#ROSBAG"):
        return "it is a ROS 1 bag. Convert it with `rosbags-convert --src FILE --dst FOLDER`."
    if path.name == "metadata.yaml":
        return f"give its folder {path.parent} instead."
    size = path.stat().st_size
    return f"its {size} bytes start with {magic!r}. Give a bag folder, an .mcap or a .db3 file."


def _unknown_topic(path: Path, topic: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(topic, sorted(known), n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(known))}."
    return f"{path} has no topic {topic}; {hint}"
