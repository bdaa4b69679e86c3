"""Every file in configs/ can be read, and says what it is."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "configs").glob("*.cfg"))

# Parses each file by itself, in one process for all.
PROGRAM = """
import sys
from absl import flags
from absl.testing import flagsaver
from trainers import {program}
from trainers.command import errors
for file in sys.argv[1:]:
    with flagsaver.flagsaver():
        own = [] if "{program}" == "plan" else ["--workdir=x"]
        errors.parse_flags(["{program}", f"--flagfile={{file}}", *own])
        if "{program}" == "compare":
            {program}.check_flags_of_algorithms()
"""


def program_of(file):
    prefix = file.stem.split("_")[0]
    others = ("compare", "benchmark", "plan", "study")
    return prefix if prefix in others else "train"


@pytest.mark.parametrize(
    "program", ["train", "compare", "benchmark", "plan", "study"]
)
def test_files_are_read(program):
    files = [
        file.relative_to(ROOT) for file in FILES if program_of(file) == program
    ]
    assert len(files) >= 2
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(program=program), *files],
        cwd=ROOT, check=True,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_says_how_to_run_it(file):
    comment = [
        line for line in file.read_text().splitlines() if line.startswith("#")
    ]
    assert comment[-1] == (
        f"#   python -m trainers.{program_of(file)} "
        f"--flagfile=configs/{file.name}"
        + f" --workdir=runs/{file.stem}" * (program_of(file) != "plan")
    )
    assert len(comment) >= 2
