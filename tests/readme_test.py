"""The programs of the first pages run as they are written."""

import pathlib
import re

import keras
import numpy as np
import pytest

import fr_keras

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
    "README.md": (1, {"trained.keras"}),
    "docs/python.md": (5, {
        "modules.png", "checkpoint.keras", "modules.keras", "served",
        "checkpoints",
    }),
}


@pytest.fixture
def small_data(monkeypatch, tmp_path):
    """No network, and no time: noise in place of CIFAR-10."""
    rng = np.random.default_rng(0)

    def load_data():
        return [
            (
                rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
                rng.integers(0, 10, (size, 1)),
            )
            for size in (300, 20)
        ]

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_programs(page, small_data, tmp_path, monkeypatch):
    # The tests have devices already.
    monkeypatch.setattr(fr_keras, "use_cpu_devices", lambda count: None)
    text = (ROOT / page).read_text()
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    count, left = PAGES[page]
    assert len(programs) == count
    names = {}
    for program in programs:  # One may use what the one before it made.
        exec(compile(program, page, "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == left


def test_first_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(\s*([^)\s]+)\)", page.read_text()):
            if "://" in link or link.startswith("#"):
                continue
            assert (page.parent / link.partition("#")[0]).exists(), (page, link)
