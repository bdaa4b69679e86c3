"""Faults end as docs/reliability.md says."""

import pytest

from tests import disks, faults

# A process takes some ten seconds: a few stand for their likes.
FAST = ["truncated"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return faults.make_base(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in faults.FAULTS
    ],
)
def test_fault_ends_as_documented(name, base, tmp_path):
    number = list(faults.FAULTS).index(name)
    try:
        row = " | ".join(faults.row(base, name, tmp_path))
    except disks.Impossible as reason:
        pytest.skip(str(reason))
    assert f"| {row} |" == faults.documented()[number]


def test_all_faults_are_documented():
    described = [row.split(" | ")[0] for row in faults.documented()]
    assert described == [
        "| " + " ".join(function.__doc__.split()).rstrip(".")
        for function in faults.FAULTS.values()
    ]
