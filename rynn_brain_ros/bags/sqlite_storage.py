"""Reading sqlite3 (.db3) files of every layout since 2019, whole or damaged."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rynn_brain_ros.bags.storage import (
    MAX_BACK_NS,
    Channel,
    Item,
    Report,
    Selection,
    StorageIndex,
    back_remark,
)

DAMAGE = (sqlite3.Error, ValueError, TypeError, OverflowError, MemoryError)
"""What damaged pages were seen to raise below."""

_OPTIONAL_TOPIC_COLUMNS = ("serialization_format", "offered_qos_profiles")


class SqliteFile:
    """One .db3 file.

    Messages are found by an index of (time, row) and fetched row by row: sorting never holds a
    payload, and a damaged page costs the messages on it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged so that not even the list of its topics can be read.
    """

    kind = "sqlite3"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index = StorageIndex()
        self._damaged = False
        with path.open("rb"):
            pass  # so that a missing right is told as such, not as "unable to open database file"
        try:
            self._read_index()
        except DAMAGE as error:
            self._damaged = True
            try:
                self._rescue_index(error)
            except DAMAGE:
                raise ValueError(f"the database cannot be read ({error})") from error

    def _connect(self) -> sqlite3.Connection:
        # A recorder that was killed may have left messages in the write-ahead log; without one
        # nothing may be written beside the file, it could lie on a read-only disk.
        log = self.path.with_name(self.path.name + "-wal")
        options = "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"
        uri = f"file:{quote(str(self.path.resolve()))}?{options}"
        database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        # Names in a damaged file may be no text at all.
        database.text_factory = lambda raw: raw.decode("utf-8", "replace")
        if self._damaged:
            # Without this, sqlite refuses every page of a file that is shorter than it was.
            database.execute("PRAGMA writable_schema=ON")
        return database

    def _read_index(self) -> None:
        with closing(self._connect()) as database:
            self.index.channels = _channels(database)
            rows = database.execute(
                "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp), MAX(newest - timestamp)"
                " FROM (SELECT topic_id, timestamp, MAX(timestamp) OVER "
                "(PARTITION BY topic_id ORDER BY id) AS newest FROM messages) GROUP BY topic_id"
            ).fetchall()
            self._fill({int(row[0]): int(row[1]) for row in rows})
            if rows:
                self.index.start_ns = min(int(row[2]) for row in rows)
                self.index.end_ns = max(int(row[3]) for row in rows)
            if any(int(row[4]) > MAX_BACK_NS for row in rows):
                self.index.remarks.append(back_remark(self.path.name))

    def _rescue_index(self, error: Exception) -> None:
        with closing(self._connect()) as database:
            self.index.channels = _channels(database)
            found = sorted(_rescue_rows(database))
        self._fill(Counter(topic for _, _, topic in found))
        if found:
            self.index.start_ns, self.index.end_ns = found[0][0], found[-1][0]
        self.index.problems.append(
            f"{self.path.name} is damaged ({error}); {len(found)} messages can be found"
        )

    def _fill(self, counts: Mapping[int, int]) -> None:
        self.index.counts = {key: counts.get(key, 0) for key in self.index.channels}

    def messages(self, selection: Selection, report: Report) -> Iterator[Item]:
        with closing(self._connect()) as database:
            for time_ns, row, channel in self._rows(database, report):
                if not selection.holds(time_ns, channel):
                    continue
                try:
                    yield time_ns, time_ns, channel, _payload(database, row)
                except DAMAGE as error:
                    report(f"{self.path.name}: message {row} is lost ({error})")

    def _rows(self, database: sqlite3.Connection, report: Report) -> Iterator[tuple[int, int, int]]:
        """(time, row, topic) in the order of time."""
        if self._damaged:
            yield from sorted(_rescue_rows(database))
            return
        try:
            yield from _checked(
                database.execute("SELECT timestamp, id, topic_id FROM messages ORDER BY 1, 2")
            )
        except DAMAGE as error:
            report(f"{self.path.name} is damaged ({error}); messages after that point are lost")


def _channels(database: sqlite3.Connection) -> dict[int, Channel]:
    tables = {str(name) for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if not {"topics", "messages"} <= tables:
        raise ValueError("it has no tables of topics and messages")
    present = {str(row[1]) for row in database.execute("PRAGMA table_info(topics)")}
    definitions: dict[str, tuple[str, str]] = {}
    if "message_definitions" in tables:
        rows = database.execute(
            "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        )
        definitions = {str(name): (str(encoding), str(text)) for name, encoding, text in rows}
    columns = ", ".join(name if name in present else "''" for name in _OPTIONAL_TOPIC_COLUMNS)
    channels = {}
    for key, topic, typename, encoding, qos in database.execute(
        f"SELECT id, name, type, {columns} FROM topics"
    ):
        schema_encoding, schema = definitions.get(str(typename), ("", ""))
        channels[int(key)] = Channel(
            str(topic), str(typename), str(encoding) or "cdr", schema_encoding, schema, str(qos)
        )
    return channels


def _payload(database: sqlite3.Connection, row: int) -> bytes:
    found = database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
    if found is None or not isinstance(found[0], bytes):
        raise ValueError("its payload is not there")
    return found[0]


def _checked(rows: Any) -> Iterator[tuple[int, int, int]]:
    for time_ns, row, topic in rows:
        yield int(time_ns), int(row), int(topic)


def _rescue_rows(database: sqlite3.Connection) -> Iterator[tuple[int, int, int]]:
    """Rows before the first and after the last damaged page of the table."""
    seen: set[int] = set()
    for direction in ("ASC", "DESC"):
        try:
            rows = database.execute(
                f"SELECT timestamp, id, topic_id FROM messages NOT INDEXED ORDER BY id {direction}"
            )
            for entry in _checked(rows):
                if entry[1] in seen:
                    break
                seen.add(entry[1])
                yield entry
        except DAMAGE:
            continue
