"""The table of docs/architecture.md, enforced on the source: who imports whom, and when."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "rynn_brain_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

VALUES_ONLY = {"values"}
CORE = {
    "values": set(),
    "messages": VALUES_ONLY,
    "files": VALUES_ONLY,
    "config": VALUES_ONLY,
    "extras": set(),
    "interrupts": set(),
    "listening": VALUES_ONLY,
    "workers": VALUES_ONLY,
    "geometry": VALUES_ONLY,
    "language": VALUES_ONLY,
    "memory": {"values", "geometry"},
    "safety": {"values", "config", "geometry", "language", "memory"},
    "planning": {
        *("values", "messages", "files", "config", "geometry", "language", "memory", "safety")
    },
    "view": {
        *("values", "messages", "files", "config", "geometry", "language", "memory", "safety"),
        "planning",
    },
    "actuators": {"values", "messages", "config", "geometry", "safety", "planning"},
}
"""The core rooms and what they may import, in the order of the table."""
MODELS = {"values", "language", "memory", "files", "extras"}
SERVING = {"values", "listening", "memory", "models", "extras"}
VLA = {"values", "config", "files", "listening", "models", "data", "extras"}
VLA_NETWORKS = {
    *("flow", "network", "expert", "reading", "checkpoint", "demonstrations", "export"),
    *("export_checks", "onnx_policy", "graphed"),
}
"""Modules of `vla` that are of no use without torch; the others can be imported without it."""
HEAVY = {"rclpy", "torch", "mujoco", "transformers"}
LIGHT_CALLS = {
    *("dict.fromkeys", "enumerate", "frozenset", "len", "max", "min", "range", "set", "sorted"),
    *("str", "tuple", "TypeVar", "attrgetter", "defaultdict", "extend_path", "lru_cache"),
    *("field", "dataclasses.field", "re.compile", "struct.Struct", "json.JSONDecoder"),
    *(
        "logging.getLogger",
        "setting",
        "math.radians",
        "math.tan",
        "np.array",
        "np.empty",
        "np.linalg.norm",
    ),
}
"""What may run when a module is imported, beside its own small functions and any class."""
METHODS = (".join", ".format", ".items")


def module_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Full names of everything that a module imports, anywhere in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imported(path))
    inside = {parts[1] for parts in names if parts[0] == "rynn_brain_ros" and len(parts) > 1}
    return inside - {"__version__", room_of(path)}


def roots_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def in_rooms(*rooms: str) -> list[Path]:
    return [path for path in MODULES if room_of(path) in rooms]


@pytest.mark.parametrize("path", in_rooms(*CORE), ids=module_id)
def test_a_core_room_imports_only_what_the_table_allows(path: Path):
    assert rooms_imported(path) <= CORE[room_of(path)]


@pytest.mark.parametrize("path", in_rooms("models"), ids=module_id)
def test_models_import_only_what_the_table_allows(path: Path):
    assert rooms_imported(path) <= MODELS


@pytest.mark.parametrize("path", in_rooms("serving"), ids=module_id)
def test_serving_knows_engines_and_what_they_are_asked(path: Path):
    assert rooms_imported(path) <= SERVING


@pytest.mark.parametrize("path", in_rooms("vla"), ids=module_id)
def test_the_policy_imports_only_what_the_table_allows(path: Path):
    assert rooms_imported(path) <= VLA
    first = [n for n in tree_of(path).body if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in first]
    heavy = {str(name).split(".")[0] for name in names} & HEAVY
    assert not heavy or path.stem in VLA_NETWORKS


@pytest.mark.parametrize("path", in_rooms(*CORE), ids=module_id)
def test_a_core_room_imports_nothing_heavy(path: Path):
    assert not roots_imported(path) & HEAVY


def test_values_know_numpy_and_the_standard_library_alone():
    assert roots_imported(PACKAGE / "values.py") <= {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_nobody_imports_the_nodes(path: Path):
    assert "ros" not in rooms_imported(path)


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_nodes_import_rclpy(path: Path):
    assert "rclpy" not in roots_imported(path) or room_of(path) == "ros"


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_demo_and_the_sim_node_import_the_simulator(path: Path):
    may = room_of(path) == "demo" or module_id(path).startswith("ros/sim_")
    assert may or "sim" not in rooms_imported(path)


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_only_the_command_line_prints(path: Path):
    names = {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}
    assert "print" not in names or room_of(path) == "cli"


def calls_at_import(tree: ast.Module) -> Iterator[str]:
    """Names of what runs when a module is imported: in its body and in class bodies."""
    bodies: list[ast.stmt] = list(tree.body)
    for statement in bodies:
        if isinstance(statement, ast.ClassDef):
            bodies += statement.body
        elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Expr, ast.AugAssign)):
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    yield ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_a_module_computes_nothing_heavier_than_constants(path: Path):
    tree = tree_of(path)
    own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    upper = {
        alias.asname or alias.name
        for n in tree.body
        if isinstance(n, ast.ImportFrom)
        for alias in n.names
        if alias.name[0].isupper()
    }
    calls = {name for name in calls_at_import(tree) if not name.endswith(METHODS)}
    assert calls <= LIGHT_CALLS | own | upper


@pytest.mark.parametrize("path", MODULES, ids=module_id)
def test_a_module_only_defines(path: Path):
    defines = (
        *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign),
        *(ast.Expr, ast.AsyncFunctionDef),
    )
    main = "if __name__ == '__main__'"
    others = [ast.unparse(n) for n in tree_of(path).body if not isinstance(n, defines)]
    assert [text for text in others if not text.startswith(main)] == []


def test_every_room_is_in_the_documented_table():
    table = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z_]+)/?`", row)}
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms == documented
