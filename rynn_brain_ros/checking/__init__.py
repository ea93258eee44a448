"""Checking an engine before it may move a robot: recorded cases, drift, the verdict, its report.

`gather` makes cases of a recording, `check` asks an engine the same again and measures how far
its answers drifted, `write_check` leaves the table's data, the pictures, the page and the
``verdict.json`` that the gate reads.
"""

from rynn_brain_ros.checking.cases import Case, CaseSet, load_cases, save_cases
from rynn_brain_ros.checking.check import (
    CaseResult,
    CheckInterrupted,
    EngineCheck,
    check,
    check_specs,
)
from rynn_brain_ros.checking.drift import Drift, DriftLimits, measure
from rynn_brain_ros.checking.gathering import GatheringInterrupted, gather, questions_of
from rynn_brain_ros.checking.report import PAGE, check_record, check_table, write_check

__all__ = [
    "PAGE",
    "Case",
    "CaseResult",
    "CaseSet",
    "CheckInterrupted",
    "Drift",
    "DriftLimits",
    "EngineCheck",
    "GatheringInterrupted",
    "check",
    "check_record",
    "check_specs",
    "check_table",
    "gather",
    "load_cases",
    "measure",
    "questions_of",
    "save_cases",
    "write_check",
]
