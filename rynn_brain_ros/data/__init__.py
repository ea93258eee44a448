"""From recordings to data sets that train.

`read_contract` reads what becomes of which message; `Streams` and `sample` carry it out, live and
from a bag alike. `Recorder` keeps demonstrations, `convert` makes a LeRobotDataset v3.0 of them,
`Dataset` reads one and `DatasetWriter` adds to one. A policy sees through an `Observer` and acts
through a `Commander`.
"""

from rynn_brain_ros.data.commands import Command, Commander
from rynn_brain_ros.data.contract import Contract
from rynn_brain_ros.data.converting import Conversion, convert
from rynn_brain_ros.data.episode_files import EpisodeFiles, EpisodeWriter
from rynn_brain_ros.data.faults import Fault, FaultKind, FaultyRecordingError
from rynn_brain_ros.data.layout import DatasetSpec, FeatureSpec
from rynn_brain_ros.data.live import Observation, Observer
from rynn_brain_ros.data.marks import Mark, MarkEvent
from rynn_brain_ros.data.reader import Dataset, Episode
from rynn_brain_ros.data.reading_contracts import contract_from, read_contract
from rynn_brain_ros.data.recorder import Recorder
from rynn_brain_ros.data.sampling import Features, sample
from rynn_brain_ros.data.streams import Streams
from rynn_brain_ros.data.writer import DatasetWriter

__all__ = [
    "Command",
    "Commander",
    "Contract",
    "Conversion",
    "Dataset",
    "DatasetSpec",
    "DatasetWriter",
    "Episode",
    "EpisodeFiles",
    "EpisodeWriter",
    "Fault",
    "FaultKind",
    "FaultyRecordingError",
    "FeatureSpec",
    "Features",
    "Mark",
    "MarkEvent",
    "Observation",
    "Observer",
    "Recorder",
    "Streams",
    "contract_from",
    "convert",
    "read_contract",
    "sample",
]
