"""Every row of the trap table (shared/reference/simulation_and_bags.md §B), and then some."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from bag_makers import START_NS, STEP_NS, STRING, make_bag, numbers, storage_file, write_strings
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from rynn_brain_ros.bags import BagReader, BagWriter, message, typestore
from rynn_brain_ros.values import BagError, InputError

PLUGINS = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]
MESSAGE, FILE, STORAGE = CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.STORAGE
TEXT = bytes(typestore().serialize_cdr(message(STRING, {"data": "0 hello"}), STRING))
TEXT_SCHEMA = b"string data"


def read(path: Path, **selection) -> list[int]:
    with BagReader(path) as bag:
        return numbers(bag.decoded(**selection))


def warnings(path: Path) -> str:
    with BagReader(path) as bag:
        list(bag.decoded())
        return "\n".join(bag.warnings)


def edit_metadata(folder: Path, old: str, new: str) -> None:
    file = folder / "metadata.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def make_mcap(path: Path, *, encoding: str = "cdr", times=range(3), **options) -> Path:
    """A file of the mcap package's own writer: no ros2 profile, any options."""
    with path.open("wb") as stream:
        writer = McapWriter(stream, **options)
        writer.start()
        schema = writer.register_schema(STRING, "ros2msg", TEXT_SCHEMA)
        channel = writer.register_channel("/a", encoding, schema)
        for time in times:
            writer.add_message(channel, time, TEXT, time)
        writer.finish()
    return path


# --- metadata.yaml -------------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", PLUGINS)
def test_directory_without_metadata_is_read_from_its_storage(tmp_path, plugin):
    folder = make_bag(tmp_path / "bag", plugin=plugin)
    (folder / "metadata.yaml").unlink()
    assert read(folder) == list(range(30))
    assert "metadata.yaml is missing" in warnings(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "rosbag2_bagfile_information: 3", "\x00", "a: &a"]
)
def test_broken_metadata_is_reported_and_ignored(tmp_path, text):
    folder = make_bag(tmp_path / "bag")
    (folder / "metadata.yaml").write_text(text)
    assert read(folder) == list(range(30))
    assert "metadata.yaml is broken" in warnings(folder)


def test_file_inside_a_directory_can_be_read_alone(tmp_path):
    assert read(storage_file(make_bag(tmp_path / "bag"))) == list(range(30))


def test_wrong_message_count_in_metadata_is_reported(tmp_path):
    folder = make_bag(tmp_path / "bag")
    edit_metadata(folder, "message_count: 30", "message_count: 999")
    with BagReader(folder) as bag:
        info = bag.info()
        assert (info.declared_count, info.message_count) == (999, 30)
        assert "declares 999 messages, the storage has 30" in "\n".join(info.problems)
        assert len(list(bag.messages())) == 30


@pytest.mark.parametrize("plugin", PLUGINS)
def test_quality_of_service_that_differs_between_metadata_and_storage_loses_nothing(
    tmp_path, plugin
):
    folder = make_bag(tmp_path / "bag", plugin=plugin)
    edit_metadata(
        folder,
        "offered_qos_profiles: []",
        "offered_qos_profiles: [{history: keep_last, depth: 1, reliability: reliable, "
        "durability: volatile, deadline: {sec: 0, nsec: 0}, lifespan: {sec: 0, nsec: 0}, "
        "liveliness: automatic, liveliness_lease_duration: {sec: 0, nsec: 0}, "
        "avoid_ros_namespace_conventions: false}]",
    )
    assert read(folder) == list(range(30))
    assert warnings(folder) == ""


def test_missing_storage_file_of_a_split_bag_is_named(tmp_path):
    folder = make_bag(tmp_path / "bag")
    edit_metadata(folder, "- bag.mcap", "- bag.mcap\n  - bag_1.mcap")
    assert read(folder) == list(range(30))
    assert "bag_1.mcap missing" in warnings(folder)


def test_storage_file_that_is_not_listed_is_named_and_not_read(tmp_path):
    folder = make_bag(tmp_path / "bag")
    write_strings(folder / "other.mcap", 2)
    assert read(folder) == list(range(30))
    assert "other.mcap not listed" in warnings(folder)


def test_split_bag_is_merged_in_the_order_of_time(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    for part, first in (("x_10", 20), ("x_2", 10), ("x_1", 0)):
        made = make_bag(tmp_path / part, 10, start_ns=START_NS + first * STEP_NS)
        storage_file(made).rename(folder / f"{part}.mcap")
    with BagReader(folder) as bag:
        times = [m.log_time_ns for m in bag.messages()]
    assert times == [START_NS + i * STEP_NS for i in range(30)]


def together(folder: Path, *starts: int) -> Path:
    """A folder without metadata.yaml, of plain recordings of 30 steps that begin at these steps."""
    folder.mkdir()
    for i, first in enumerate(starts):
        made = make_bag(folder.parent / f"made_{i}", start_ns=START_NS + first * STEP_NS)
        storage_file(made).rename(folder / f"{'abc'[i]}.mcap")
    return folder


@pytest.mark.parametrize("starts", [(0, 0), (0, 10), (100, 0, 110)])
def test_recordings_of_the_same_time_in_one_folder_are_not_read_as_one(tmp_path, starts):
    folder = together(tmp_path / "several", *starts)
    names = ", ".join(f"{name}.mcap" for name in "abc"[: len(starts)])
    told = rf"holds several recordings \({names}\): give them one by one, or .*/several/\*\.mcap"
    with pytest.raises(InputError, match=told):
        read(folder)


@pytest.mark.parametrize("starts", [(0, 30), (25, 0), (0, 30, 60)])
def test_parts_of_one_recording_may_overlap_a_little_where_the_file_changed(tmp_path, starts):
    folder = together(tmp_path / "split", *starts)
    assert len(read(folder)) == 30 * len(starts)
    assert "metadata.yaml is missing" in warnings(folder)


def test_our_own_recordings_in_one_folder_are_several_whenever_they_were_made(tmp_path):
    for name, first in (("a", 0), ("b", 1000)):
        with BagWriter(tmp_path / f"{name}.mcap", {"model": "test"}) as bag:
            bag.write("/a", STRING, {"data": "0"}, START_NS + first * STEP_NS)
    with pytest.raises(InputError, match=r"several recordings \(a\.mcap, b\.mcap\)"):
        read(tmp_path)


# --- damage --------------------------------------------------------------------------------------


def test_mcap_that_lost_its_last_100_bytes_is_read_whole(tmp_path):
    file = storage_file(make_bag(tmp_path / "bag", 120))
    file.write_bytes(file.read_bytes()[:-100])
    assert read(file) == list(range(120))
    assert "was cut or never closed" in warnings(file)


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.ZSTD])
def test_mcap_cut_in_half_is_read_up_to_the_cut(tmp_path, compression):
    file = make_mcap(tmp_path / "a.mcap", times=range(60), chunk_size=200, compression=compression)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with BagReader(file) as bag:
        times = [m.log_time_ns for m in bag.messages()]
        assert times == list(range(len(times)))
        assert 10 < len(times) < 60
        assert "bytes from there to the end are lost" in "\n".join(bag.warnings)


def test_damaged_chunk_costs_only_itself_and_is_counted(tmp_path):
    file = make_mcap(tmp_path / "a.mcap", times=range(60), chunk_size=200)
    data = bytearray(file.read_bytes())
    data[len(data) // 4 : len(data) // 4 + 80] = b"\xff" * 80
    file.write_bytes(bytes(data))
    with BagReader(file) as bag:
        read_count = len(list(bag.messages()))
        assert 50 <= read_count < 60
        assert f"/a: {read_count} of 60 messages could be read" in bag.warnings


def test_64_bytes_overwritten_in_our_own_recording_are_noticed(tmp_path):
    file = write_strings(tmp_path / "run.mcap", 30)
    data = bytearray(file.read_bytes())
    place = data.index(b"15 xxx")
    data[place + 10 : place + 74] = bytes(64)
    file.write_bytes(bytes(data))
    assert read(file) == list(range(30))
    assert "checksum is wrong" in warnings(file)
    with pytest.raises(BagError, match="checksum"), BagReader(file, recover=False) as bag:
        list(bag.messages())


@pytest.mark.parametrize("plugin", PLUGINS)
def test_without_recovery_damage_is_an_error(tmp_path, plugin):
    file = storage_file(make_bag(tmp_path / "bag", 600, plugin=plugin))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BagError), BagReader(file, recover=False) as bag:
        list(bag.messages())


def test_sqlite_cut_in_half_gives_what_is_left_or_says_why_not(tmp_path):
    file = storage_file(make_bag(tmp_path / "bag", 600, plugin=StoragePlugin.SQLITE3))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with BagReader(file) as bag:
        found = numbers(bag.decoded())
        assert found == sorted(found)
        assert len(found) > 100
        assert "malformed" in "\n".join(bag.warnings)


def test_sqlite_with_a_damaged_page_gives_the_messages_around_it(tmp_path):
    file = storage_file(make_bag(tmp_path / "bag", 600, plugin=StoragePlugin.SQLITE3))
    data = bytearray(file.read_bytes())
    page = data.index(b"300 xxx") // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    file.write_bytes(bytes(data))
    found = read(file)
    assert 500 < len(found) < 600
    assert {0, 599} <= set(found)


def test_sqlite_without_its_last_100_bytes_is_read(tmp_path):
    file = storage_file(make_bag(tmp_path / "bag", 120, plugin=StoragePlugin.SQLITE3))
    file.write_bytes(file.read_bytes()[:-100])
    with BagReader(file) as bag:
        assert len(list(bag.messages())) == 120 or bag.warnings


def test_sqlite_messages_in_a_write_ahead_log_are_read(tmp_path):
    file = storage_file(make_bag(tmp_path / "bag", 10, plugin=StoragePlugin.SQLITE3))
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=wal")
        database.execute(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)",
            (START_NS + 10 * STEP_NS, TEXT),
        )
        assert len(read(file)) == 11


def make_bag_and_die(folder: Path, plugin: str) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import bag_makers as m\n"
        "from pathlib import Path\n"
        "m.Writer.__exit__ = lambda self, *_: os._exit(9)\n"
        f"m.make_bag(Path(sys.argv[2]), 100, plugin=m.StoragePlugin.{plugin}, text_bytes=100_000)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", script, here, str(folder)], check=False)
    assert done.returncode == 9


def test_mcap_of_a_killed_writer_is_read_up_to_its_last_whole_chunk(tmp_path):
    make_bag_and_die(tmp_path / "bag", "MCAP")
    found = read(tmp_path / "bag")
    # rosbags keeps the last chunk of up to a megabyte in its own memory.
    assert found == list(range(len(found)))
    assert len(found) >= 88


def test_sqlite_of_a_killed_writer_says_that_it_holds_nothing(tmp_path):
    """One open transaction: nothing was ever in the file. So we record in mcap only."""
    make_bag_and_die(tmp_path / "bag", "SQLITE3")
    with pytest.raises(BagError, match=r"bag.* (holds no messages|cannot be read)"):
        read(tmp_path / "bag")


@pytest.mark.parametrize("suffix", [".mcap", ".db3", ".txt", ""])
@pytest.mark.parametrize("content", [b"", b"0123456789", b"just some text\n" * 20])
def test_file_that_is_no_recording_is_refused_in_one_sentence(tmp_path, suffix, content):
    file = tmp_path / f"thing{suffix}"
    file.write_bytes(content)
    with pytest.raises(BagError, match="thing") as caught, BagReader(file):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("magic", [b"\x89MCAP0\r\n", b"SQLite format 3\0", b"\x28\xb5\x2f\xfd"])
def test_file_of_little_more_than_a_magic_number_explains_itself(tmp_path, magic):
    file = tmp_path / "thing.mcap"
    file.write_bytes(magic + b"ab")
    with pytest.raises(BagError), BagReader(file) as bag:
        list(bag.messages())


@pytest.mark.parametrize(
    ("name", "match"),
    [("nowhere", "no recording"), ("empty", "holds no .mcap"), ("gone", "metadata.yaml names")],
)
def test_path_without_a_recording_is_refused(tmp_path, name, match):
    (tmp_path / "empty").mkdir()
    storage_file(make_bag(tmp_path / "gone")).unlink()
    with pytest.raises(BagError, match=match), BagReader(tmp_path / name):
        pass


def test_ros1_bag_is_told_how_to_convert(tmp_path):
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    with pytest.raises(BagError, match="rosbags-convert"), BagReader(tmp_path / "old.bag"):
        pass


@pytest.mark.parametrize("plugin", PLUGINS)
def test_empty_bag_has_zero_duration_and_nothing_to_read(tmp_path, plugin):
    with BagReader(make_bag(tmp_path / "bag", 0, plugin=plugin)) as bag:
        info = bag.info()
        assert (info.message_count, info.start_ns, info.end_ns, info.duration_s) == (0, 0, 0, 0.0)
        assert "the recording holds no messages" in info.problems
        with pytest.raises(BagError, match="holds no messages"):
            bag.messages()


# --- encodings and types -------------------------------------------------------------------------


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("compression", [MESSAGE, FILE, STORAGE])
def test_compressed_bag_is_read(tmp_path, plugin, compression):
    if plugin is StoragePlugin.SQLITE3 and compression is STORAGE:
        pytest.skip("rosbags does not write it")
    folder = make_bag(tmp_path / "bag", plugin=plugin, compression=compression)
    assert read(folder) == list(range(30))
    assert read(storage_file(folder)) == list(range(30))


def test_unpacked_files_are_removed_on_close(tmp_path):
    with BagReader(make_bag(tmp_path / "bag", compression=FILE)) as bag:
        unpacked = Path(bag._unpacked.name)
        assert unpacked.is_dir()
    assert not unpacked.exists()


@pytest.mark.parametrize("encoding", ["json", "protobuf", "ros1"])
def test_topic_that_is_not_cdr_is_skipped_and_named(tmp_path, encoding):
    file = make_mcap(tmp_path / "a.mcap", encoding=encoding)
    with BagReader(file) as bag:
        (topic,) = bag.info().topics
        assert not topic.decodable
        assert encoding in topic.problem
        assert list(bag.decoded()) == []
        assert len(list(bag.messages())) == 3


def test_sqlite_topic_that_is_not_cdr_is_skipped_and_named(tmp_path):
    folder = make_bag(tmp_path / "bag", plugin=StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(storage_file(folder), isolation_level=None)) as database:
        database.execute("UPDATE topics SET serialization_format = 'rmw_odd' WHERE name = '/a'")
    assert read(folder) == list(range(1, 30, 2))
    assert "/a is skipped: it is encoded as 'rmw_odd'" in warnings(folder)


def test_unknown_type_is_skipped_and_named_but_still_delivered_raw(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_raw("/odd", "strange_msgs/msg/Odd", b"\x00\x01\x00\x00abcd", 5)
        bag.write("/a", STRING, {"data": "0"}, 6)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert [m.topic for m in bag.messages()] == ["/odd", "/a"]
        assert [m.topic for m, _ in bag.decoded()] == ["/a"]
        assert "strange_msgs/msg/Odd is not known" in "\n".join(bag.warnings)
        with pytest.raises(BagError, match="cannot be decoded"):
            next(bag.messages(["/odd"])).decode()


def test_service_event_topic_does_not_stop_the_bag(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        schema = "int32 a\n---\nint32 b"
        bag.write_raw("/s/_service_event", "x_msgs/srv/Add_Event", b"\x00\x01\x00\x00", 1, schema)
        bag.write("/a", STRING, {"data": "0"}, 2)
    assert read(tmp_path / "a.mcap") == [0]
    assert "records service calls" in warnings(tmp_path / "a.mcap")


@pytest.mark.parametrize(
    "schema", ["string data\x00", "((((", "Foo foo", "int32 class\nint32 class"]
)
def test_broken_embedded_definition_costs_one_topic(tmp_path, schema):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_raw("/odd", "strange_msgs/msg/Odd", b"\x00\x01\x00\x00abcd", 1, schema)
        bag.write("/a", STRING, {"data": "0"}, 2)
    assert 0 in read(tmp_path / "a.mcap", topics=["/a"])


def test_embedded_definition_wins_over_ours(tmp_path):
    """A distribution's type may have changed: the bytes follow the one in the bag."""
    with BagWriter(tmp_path / "a.mcap") as bag:
        schema = "int32 number\nint32 second"
        bag.write_raw("/a", STRING, b"\x00\x01\x00\x00\x07\x00\x00\x00\x08\x00\x00\x00", 1, schema)
        bag.write_raw("/b", STRING, TEXT, 2)
    with BagReader(tmp_path / "a.mcap") as bag:
        (_, first), (_, second) = bag.decoded()
    assert (first.number, first.second) == (7, 8)
    assert second.data == "0 hello"


def test_old_type_name_gets_its_middle_part(tmp_path):
    folder = make_bag(tmp_path / "bag", plugin=StoragePlugin.SQLITE3)
    with closing(sqlite3.connect(storage_file(folder), isolation_level=None)) as database:
        database.execute("UPDATE topics SET type = 'std_msgs/String'")
    assert read(folder) == list(range(30))


def test_oldest_sqlite_layout_is_read(tmp_path):
    file = tmp_path / "old.db3"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, "
            "serialization_format TEXT NOT NULL)"
        )
        database.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, "
            "timestamp INTEGER NOT NULL, data BLOB NOT NULL)"
        )
        database.execute("INSERT INTO topics VALUES (1, '/a', 'std_msgs/String', 'cdr')")
        database.execute("INSERT INTO messages VALUES (1, 1, 2623, ?)", (TEXT,))
    assert read(file) == [0]


def test_damaged_payload_is_skipped_and_counted(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write_raw("/a", STRING, b"\x00\x01\x00\x00\xff\xff\xff\x7f", 1)
        bag.write_raw("/a", STRING, b"", 2)
        bag.write("/a", STRING, {"data": "3"}, 3)
    assert read(tmp_path / "a.mcap") == [3]
    assert "/a: 2 messages are damaged" in warnings(tmp_path / "a.mcap")


# --- clocks that were set back -------------------------------------------------------------------


def recorded(file: Path, times_s: list[float], text_bytes: int = 100) -> Path:
    """Strings on /a and /b at these times, in this order, as mcap or sqlite3."""
    store = typestore()
    text = message(STRING, {"data": "0 ".ljust(text_bytes, "x")})
    raw = bytes(store.serialize_cdr(text, STRING))
    if file.suffix == ".mcap":
        with BagWriter(file) as bag:
            for at_s in times_s:
                for topic in ("/a", "/b"):
                    bag.write_raw(topic, STRING, raw, START_NS + round(at_s * 1e9))
        return file
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name, type)")
        database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)")
        database.executemany(
            "INSERT INTO topics VALUES(?, ?, ?)", [(1, "/a", STRING), (2, "/b", STRING)]
        )
        rows = [(topic, START_NS + round(at_s * 1e9), raw) for at_s in times_s for topic in (1, 2)]
        database.executemany(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)", rows
        )
        database.commit()
    return file


STEADY = [i / 4 for i in range(40)]
SET_BACK = [*STEADY[:20], *(at_s - 2.1 for at_s in STEADY[20:])]


@pytest.mark.parametrize("text_bytes", [100, 100_000, 1_100_000])
@pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
def test_a_recorders_clock_that_was_set_back_is_told_once(tmp_path, name, text_bytes):
    file = recorded(tmp_path / name, SET_BACK, text_bytes)
    with BagReader(file) as bag:
        (problem,) = bag.info().problems
        assert len(list(bag.messages())) == 80
        assert bag.warnings == [problem]
    assert f"{name}: the time goes back by more than 1 s" in problem


def test_a_clock_that_was_set_back_in_a_recording_without_an_index_is_told(tmp_path):
    file = recorded(tmp_path / "a.mcap", SET_BACK)
    file.write_bytes(file.read_bytes()[:-100])
    assert "the time goes back by more than 1 s" in warnings(file)
    plain = make_mcap(tmp_path / "b.mcap", times=[5 * 10**9, 3 * 10**9], use_chunking=False)
    assert "the time goes back by more than 1 s" in warnings(plain)


@pytest.mark.parametrize("name", ["a.mcap", "a.db3"])
def test_messages_that_waited_for_each_other_are_no_clock_that_was_set_back(tmp_path, name):
    swapped = [at_s + (0.9 if i % 3 == 0 else 0.0) for i, at_s in enumerate(STEADY)]
    assert warnings(recorded(tmp_path / name, swapped, 100_000)) == ""


@pytest.mark.parametrize("text_bytes", [100, 100_000])
def test_topics_that_were_written_one_after_the_other_are_no_clock_that_was_set_back(
    tmp_path, text_bytes
):
    with BagWriter(tmp_path / "a.mcap") as bag:
        for topic in ("/a", "/b"):
            for at_s in STEADY:
                text = {"data": "0 ".ljust(text_bytes, "x")}
                bag.write(topic, STRING, text, START_NS + round(at_s * 1e9))
    assert warnings(tmp_path / "a.mcap") == ""


# --- mcap layouts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"use_chunking": False},
        {"use_statistics": False},
        {"use_summary_offsets": False},
        {"repeat_channels": False, "repeat_schemas": False},
        {"compression": CompressionType.LZ4},
        {"compression": CompressionType.ZSTD, "chunk_size": 10},
        {"enable_crcs": False},
    ],
    ids=str,
)
def test_mcap_of_any_layout_is_read_in_order(tmp_path, options):
    file = make_mcap(tmp_path / "a.mcap", times=[5, 3, 9, 3, 0], **options)
    with BagReader(file) as bag:
        assert [m.log_time_ns for m in bag.messages()] == [0, 3, 3, 5, 9]
        assert bag.info().message_count == 5
        assert bag.warnings == []


def test_an_mcap_whose_writer_did_not_count_by_channel_is_read(tmp_path, monkeypatch):
    finish = McapWriter.finish

    def uncounted(writer: McapWriter) -> None:
        writer._Writer__statistics.channel_message_counts.clear()  # the format allows it
        finish(writer)

    monkeypatch.setattr(McapWriter, "finish", uncounted)
    file = make_mcap(tmp_path / "a.mcap", times=[5, 3, 9])
    with BagReader(file) as bag:
        assert [m.log_time_ns for m in bag.messages()] == [3, 5, 9]
        assert bag.info().message_count == 3


def test_times_need_not_be_epochs_and_topics_need_no_slash(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("AAA", STRING, {"data": "1"}, 2623)
        bag.write("AAA", STRING, {"data": "0"}, 0)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert [m.log_time_ns for m in bag.messages(["AAA"])] == [0, 2623]


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (5, 9, [5, 6, 7, 8]),
        (None, 2, [0, 1]),
        (28, None, [28, 29]),
        (9, 5, []),
        (-(10**15), 1, [0]),
    ],
)
def test_time_range_includes_its_start_and_not_its_stop(tmp_path, plugin, start, stop, expected):
    folder = make_bag(tmp_path / "bag", plugin=plugin)
    bounds = [None if i is None else START_NS + i * STEP_NS for i in (start, stop)]
    assert read(folder, start_ns=bounds[0], stop_ns=bounds[1]) == expected


@pytest.mark.parametrize("plugin", PLUGINS)
def test_topics_are_filtered_and_a_wrong_one_is_corrected(tmp_path, plugin):
    folder = make_bag(tmp_path / "bag", plugin=plugin)
    assert read(folder, topics=["/b"]) == list(range(1, 30, 2))
    with pytest.raises(BagError, match="did you mean"):
        read(folder, topics=["/bb"])


def test_bag_can_be_read_twice_and_by_two_iterators_at_once(tmp_path):
    with BagReader(make_bag(tmp_path / "bag")) as bag:
        pairs = zip(bag.messages(), bag.messages(), strict=True)
        assert sum(a == b for a, b in pairs) == 30


def test_info_of_an_indexed_file_reads_no_payload(tmp_path, monkeypatch):
    file = write_strings(tmp_path / "run.mcap", 50, text_bytes=100_000)
    taken: list[int] = []

    class Counting(BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            taken.append(len(data))
            return data

    content = file.read_bytes()
    real_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a: Counting(content) if self == file else real_open(self, *a)
    )
    with BagReader(file) as bag:
        assert bag.info().message_count == 50
    assert sum(taken) < 20_000


def test_decoded_arrays_are_read_only_views(tmp_path):
    image = {"height": 2, "width": 3, "encoding": "mono8", "step": 3, "data": bytes(range(6))}
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/image", "sensor_msgs/msg/Image", image, 1)
    with BagReader(tmp_path / "a.mcap") as bag:
        ((_, value),) = bag.decoded()
    assert value.data.tolist() == list(range(6))
    assert not value.data.flags.writeable


def test_reader_that_is_not_open_says_so(tmp_path):
    with pytest.raises(BagError, match="not open"):
        BagReader(make_bag(tmp_path / "bag")).info()


def test_a_path_that_is_too_long_is_a_bag_error(tmp_path):
    with pytest.raises(BagError, match="too long"), BagReader(tmp_path / ("x" * 300)):
        pass


def test_a_path_through_a_file_is_a_bag_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BagError, match="no recording at"), BagReader(tmp_path / "file" / "bag"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_bag_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(BagError, match="cannot be read"), BagReader(tmp_path / "closed" / "bag"):
        pass
