"""BUILD names every file once, and no target that there is not."""

import collections
import re

from tests.command_line import ROOT

TEXT = (ROOT / "BUILD").read_text()


def test_every_file_is_in_one_target():
    named = collections.Counter(
        re.findall(r'"((?:fr_keras|trainers)/[\w/]+\.py)"', TEXT)
    )
    assert {name for name, count in named.items() if count > 1} == set()
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in ("fr_keras", "trainers")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert set(named) == there


def test_every_dependency_is_there():
    targets = re.findall(r'name = "(\w+)"', TEXT)
    assert len(targets) == len(set(targets))
    assert set(re.findall(r'":(\w+)"', TEXT)) <= set(targets)
