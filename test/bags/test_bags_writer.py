from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bag_makers import START_NS, STRING, numbers, write_strings
from mcap.reader import make_reader
from mcap.records import Message
from mcap.stream_reader import StreamReader
from rosbags.rosbag2 import Reader

from rynn_brain_ros.bags import ENDING, PROVENANCE, BagReader, BagWriter
from rynn_brain_ros.values import ConfigError, OutputError

REPOSITORY = Path(__file__).resolve().parents[2]


def run_script(script: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    head = "import os, sys, resource, signal\nfrom pathlib import Path\n"
    head += "from rynn_brain_ros.bags import BagWriter\n"
    return subprocess.run(
        [sys.executable, "-c", head + script, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )


def test_recording_opens_in_three_readers(tmp_path):
    file = write_strings(tmp_path / "run.mcap", 40, text_bytes=60_000)
    with BagReader(file) as ours:
        assert numbers(ours.decoded()) == list(range(40))
        assert ours.warnings == []
    with Reader(file) as rosbags:
        assert rosbags.message_count == 40
        assert len(list(rosbags.messages())) == 40
    with file.open("rb") as stream:
        found = list(make_reader(stream, validate_crcs=True).iter_messages())
        assert len(found) == 40
        stream.seek(0)
        summary = make_reader(stream).get_summary()
    # Chunked and indexed, so that other tools can seek in it.
    assert len(summary.chunk_indexes) > 1
    assert all(index.message_index_length for index in summary.chunk_indexes)
    with file.open("rb") as stream:
        records = StreamReader(stream, validate_crcs=True).records
        assert sum(isinstance(record, Message) for record in records) == 40


def test_times_may_go_backwards(tmp_path):
    times = [50, 10, 30, 30, 20, 0]
    with BagWriter(tmp_path / "run.mcap") as bag:
        for time in times:
            bag.write("/a", STRING, {"data": "x" * 400_000}, time)
    for reader in (BagReader, Reader):
        with reader(tmp_path / "run.mcap") as bag:
            read = [m.log_time_ns if hasattr(m, "log_time_ns") else m[1] for m in bag.messages()]
        assert read == sorted(times)


def test_recording_without_messages_is_valid(tmp_path):
    write_strings(tmp_path / "run.mcap", 0)
    with Reader(tmp_path / "run.mcap") as rosbags:
        assert rosbags.message_count == 0
    with BagReader(tmp_path / "run.mcap") as ours:
        assert ours.info().metadata[ENDING] == {"ending": "complete"}


def test_same_input_gives_the_same_bytes(tmp_path):
    first, second = (write_strings(tmp_path / name, 30) for name in ("a.mcap", "b.mcap"))
    assert first.read_bytes() == second.read_bytes()


def test_provenance_is_metadata_and_nested_values_are_json(tmp_path):
    with BagWriter(tmp_path / "a.mcap", {"model": "RynnBrain-8B", "limits": {"b": 1, "a": [2]}}):
        pass
    with BagReader(tmp_path / "a.mcap") as bag:
        record = bag.info().metadata[PROVENANCE]
    assert record == {"model": "RynnBrain-8B", "limits": '{"a": [2], "b": 1}'}


def test_provenance_that_is_no_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="metadata"):
        BagWriter(tmp_path / "a.mcap", {"model": object()})


@pytest.mark.parametrize(
    ("topic", "latched", "durability"),
    [("/tf_static", False, 1), ("/tf", False, 2), ("/robot_description", True, 1)],
)
def test_quality_of_service_is_as_rosbag2_writes_it(tmp_path, topic, latched, durability):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write(topic, STRING, {}, 1, latched=latched)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert f"durability: {durability}" in bag.info().topics[0].offered_qos
    with Reader(tmp_path / "a.mcap") as rosbags:
        (qos,) = rosbags.connections[0].ext.offered_qos_profiles
        assert qos.durability.value == durability


def test_schema_holds_all_nested_definitions(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/pose", "geometry_msgs/msg/PoseStamped", {}, 1)
    with BagReader(tmp_path / "a.mcap") as bag:
        schema = next(bag.messages()).connection.schema
    assert "MSG: geometry_msgs/Quaternion" in schema
    assert "MSG: builtin_interfaces/Time" in schema


def test_message_is_copied_as_it_was(tmp_path):
    source = write_strings(tmp_path / "a.mcap", 6)
    with BagReader(source) as bag, BagWriter(tmp_path / "b.mcap") as copy:
        for m in bag.messages():
            c = m.connection
            copy.write_raw(
                c.topic,
                c.typename,
                m.raw,
                m.log_time_ns,
                c.schema,
                offered_qos=c.offered_qos,
                publish_time_ns=m.publish_time_ns,
            )
    with BagReader(source) as a, BagReader(tmp_path / "b.mcap") as b:
        assert list(a.messages()) == list(b.messages())


def test_publish_time_is_kept(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/a", STRING, {"data": "1"}, 20, 10)
    with BagReader(tmp_path / "a.mcap") as bag:
        (m,) = bag.messages()
    assert (m.log_time_ns, m.publish_time_ns) == (20, 10)


# --- refusals ------------------------------------------------------------------------------------


def test_topic_keeps_its_type(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag:
        bag.write("/a", STRING, {}, 1)
        with pytest.raises(ConfigError, match="another topic"):
            bag.write("/a", "std_msgs/msg/Bool", {}, 2)


@pytest.mark.parametrize("time", [-1, 2**64, 1.5])
def test_time_that_is_no_nanosecond_is_refused(tmp_path, time):
    with BagWriter(tmp_path / "a.mcap") as bag:
        with pytest.raises(ConfigError, match="nanoseconds"):
            bag.write("/a", STRING, {}, time)
        bag.write("/a", STRING, {"data": "1"}, 1)
    with BagReader(tmp_path / "a.mcap") as bag:
        assert len(list(bag.messages())) == 1


def test_object_of_another_type_is_refused(tmp_path):
    with BagWriter(tmp_path / "a.mcap") as bag, pytest.raises(ConfigError, match="this is no"):
        bag.write("/a", STRING, object(), 1)


@pytest.mark.parametrize("name", ["run.mcap", "run.partial.mcap"])
def test_existing_recording_is_never_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        BagWriter(tmp_path / "run.mcap")
    assert (tmp_path / name).read_text() == "precious"


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"run\.partial\.mcap cannot be created"):
        BagWriter(tmp_path / "file" / "run.mcap")


def test_closed_recording_takes_nothing_more(tmp_path):
    bag = BagWriter(tmp_path / "a.mcap")
    bag.close()
    bag.close()
    with pytest.raises(OutputError, match="closed"):
        bag.write("/a", STRING, {}, 1)


# --- interruptions -------------------------------------------------------------------------------


def test_file_has_its_partial_name_until_it_is_closed(tmp_path):
    with BagWriter(tmp_path / "run.mcap") as bag:
        bag.write("/a", STRING, {"data": "0"}, 1)
        assert [p.name for p in tmp_path.iterdir()] == ["run.partial.mcap"]
        with BagReader(bag.partial_path) as reader:  # readable while it is being written
            assert numbers(reader.decoded()) == [0]
    assert [p.name for p in tmp_path.iterdir()] == ["run.mcap"]


@pytest.mark.parametrize("text_bytes", [10, 50_000])
def test_killed_writer_loses_nothing(tmp_path, text_bytes):
    script = f"""
bag = BagWriter(Path(sys.argv[1]))
for i in range(100):
    data = f"{{i}} ".ljust({text_bytes}, "x")
    bag.write("/a" if i % 2 else "/b", "std_msgs/msg/String", {{"data": data}}, i)
os._exit(9)
"""
    assert run_script(script, tmp_path / "run.mcap").returncode == 9
    partial = tmp_path / "run.partial.mcap"
    with BagReader(partial) as bag:
        assert numbers(bag.decoded()) == list(range(100))
        assert ENDING not in bag.info().metadata
    with partial.open("rb") as stream:
        found = 0
        with pytest.raises(Exception):  # noqa: B017 - the end of the file, in one way or another
            for record in StreamReader(stream).records:
                found += isinstance(record, Message)
    assert found == 100


def test_writer_killed_at_any_byte_loses_no_earlier_message(tmp_path):
    file = write_strings(tmp_path / "run.mcap", 12)
    data = unsealed(file)
    ends = [data.index(f"{i} xxx".encode()) + 101 for i in range(12)]
    for cut in range(ends[0], ends[-1], 37):
        (tmp_path / "cut.mcap").write_bytes(data[:cut])
        with BagReader(tmp_path / "cut.mcap") as bag:
            assert numbers(bag.decoded()) == list(range(sum(end <= cut for end in ends)))


def unsealed(file: Path) -> bytes:
    """The file as it was before its one chunk got its header."""
    with file.open("rb") as stream:
        (chunk,) = make_reader(stream).get_summary().chunk_indexes
    data, start = file.read_bytes(), chunk.chunk_start_offset
    placeholder = b"\x80" + (40).to_bytes(8, "little") + bytes(40)
    return data[:start] + placeholder + data[start + 49 :]


def test_exception_keeps_what_was_recorded_and_says_so(tmp_path):
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "run.mcap") as bag:
        bag.write("/a", STRING, {"data": "0"}, 1)
        raise RuntimeError
    with BagReader(tmp_path / "run.mcap") as reader:
        assert numbers(reader.decoded()) == [0]
        assert reader.info().metadata[ENDING] == {"ending": "interrupted"}
    with Reader(tmp_path / "run.mcap") as rosbags:
        assert rosbags.message_count == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_interrupt_at_any_moment_leaves_a_whole_recording(tmp_path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for run, delay_s in enumerate(np.linspace(0.0005, 0.02, 60)):
            file, finished = tmp_path / f"{run}.mcap", 0
            bag = BagWriter(file)
            try:
                signal.setitimer(signal.ITIMER_REAL, delay_s)
                while True:
                    text = f"{finished} ".ljust(200_000, "x")
                    bag.write("/a", STRING, {"data": text}, finished)
                    finished += 1
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                bag.close(complete=False)
            if finished == 0:
                continue
            with BagReader(file) as reader:
                found = numbers(reader.decoded())
                assert reader.warnings == []
            assert found[:finished] == list(range(finished))
            with Reader(file) as rosbags:
                assert len(list(rosbags.messages())) == len(found)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_full_disk_is_an_error_and_what_was_recorded_stays(tmp_path):
    script = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
from rynn_brain_ros.values import OutputError
try:
    with BagWriter(Path(sys.argv[1])) as bag:
        for i in range(100):
            bag.write("/a", "std_msgs/msg/String", {"data": f"{i} ".ljust(20_000, "x")}, i)
except OutputError as error:
    sys.stderr.write(str(error))
    os._exit(3)
"""
    done = run_script(script, tmp_path / "run.mcap")
    assert done.returncode == 3, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["run.partial.mcap"]
    with BagReader(tmp_path / "run.partial.mcap") as bag:
        assert numbers(bag.decoded()) == list(range(14))


def test_disk_that_fills_while_closing_is_an_error_and_loses_no_message(tmp_path):
    script = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from rynn_brain_ros.values import OutputError
bag = BagWriter(Path(sys.argv[1]))
for i in range(5):
    bag.write("/a", "std_msgs/msg/String", {"data": f"{i} "}, i)
size = bag.partial_path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    bag.close()
except OutputError:
    os._exit(3)
"""
    assert run_script(script, tmp_path / "run.mcap").returncode == 3
    with BagReader(tmp_path / "run.partial.mcap") as bag:
        assert numbers(bag.decoded()) == list(range(5))


def test_start_of_recording_is_in_the_summary(tmp_path):
    file = write_strings(tmp_path / "run.mcap", 3)
    with BagReader(file) as bag:
        info = bag.info()
    assert info.start_ns == START_NS
    assert info.duration_s == pytest.approx(0.02)
