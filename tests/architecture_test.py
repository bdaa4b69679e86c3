"""Packages import packages below them; files and classes stay short."""

import ast

import pytest

from tests import arrows

# From the bottom up; on one line are packages that do not know each other.
FLOORS = {
    "fr_keras": [
        ["layers", "versions", "schedules", "engine"],
        ["models", "cluster", "batches", "delays", "cutting"],
        ["profiling", "visualization", "replicas"],
        ["planning"],
        ["algorithms"],
        ["callbacks.diagnostics", "callbacks.checkpoints"],
        ["callbacks"],
        [""],
    ],
    "trainers": [
        ["", "command", "data.datasets"],
        ["data", "workers"],
        ["experiment"],
        ["results", "studies", "benchmarks", "checkup"],
        # What is typed: each command line is a module.
        [
            "benchmark", "compare", "doctor", "evaluate", "local_cluster",
            "plan", "plot", "private_network", "study", "train", "worker",
        ],
        ["__main__"],
    ],
}

LINES_OF_FILE, LINES_OF_CLASS = 400, 250


def floor_of(top, name):
    """The floor and the room of a module."""
    of_room = {
        room: floor for floor, rooms in enumerate(FLOORS[top]) for room in rooms
    }
    room = name.removeprefix(top).removeprefix(".")
    while room not in of_room:
        assert room, f"{name} lies in no room"
        room = room.rpartition(".")[0]
    return of_room[room], room


@pytest.mark.parametrize("top", FLOORS)
def test_imports_point_down(top):
    wrong = []
    for package in arrows.packages(top):
        for name, path in arrows.files(package).items():
            floor, room = floor_of(top, name)
            for other in arrows.imported(path):
                if not other.startswith(top):
                    continue
                floor_below, room_below = floor_of(top, other)
                if room_below != room and floor_below >= floor:
                    wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_the_library_knows_no_command_lines():
    for package in arrows.packages("fr_keras"):
        for path in arrows.files(package).values():
            assert not any(
                name.startswith(("trainers", "tests"))
                for name in arrows.imported(path)
            ), path


def test_a_public_name_hides_no_module():
    import fr_keras
    from fr_keras.cutting import partition as module

    assert callable(fr_keras.partition)
    assert module.partition is fr_keras.partition
    assert not arrows.is_module("fr_keras.partition")
    assert not arrows.is_module("fr_keras.summary")


def test_nothing_but_the_public_names_at_the_top():
    assert set(arrows.files("fr_keras")) == {"fr_keras", "fr_keras.versions"}


@pytest.mark.parametrize("top", [*FLOORS, "tests"])
def test_files_and_classes_are_short(top):
    """What is longer is more than one concept."""
    long = []
    for path in sorted((arrows.ROOT / top).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > LINES_OF_FILE:
            long.append(f"{path}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LINES_OF_CLASS:
                    long.append(f"{path}: {node.name} has {lines} lines")
    assert long == []
