"""The notebook docs/tutorial.ipynb."""

import json
import pathlib
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "tutorial.ipynb"
CELLS = [
    cell for cell in json.loads(PAGE.read_text())["cells"]
    if cell["cell_type"] == "code"
]
# What takes the place of a browser.
DISPLAY = """
import pathlib, sys, types

def Image(path, width=None):
    print("picture of", pathlib.Path(path).stat().st_size, "bytes")

sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython.display"] = types.ModuleType("IPython.display")
sys.modules["IPython.display"].Image = Image
"""


def source(cell):
    return "".join(cell["source"])


def test_outputs_are_there():
    """As one run from top to bottom left them."""
    assert [cell["execution_count"] for cell in CELLS] == [
        *range(1, len(CELLS) + 1)
    ]
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert not [o for o in outputs if o.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


@pytest.mark.slow
def test_it_runs(tmp_path):
    program = DISPLAY + "\n".join(map(source, CELLS)) + (
        "\nassert history.history['val_accuracy'][-1] > 0.9\n"
        "assert min(history.history['sigma/module_1']) > 0.5\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("picture of") == 2
    assert {path.name for path in tmp_path.iterdir()} == {
        "modules.png", "timeline.png"
    }
