"""The programs of docs/recipes.md run as they are written."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "recipes.md"
FIRST, *RECIPES = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S
)
# Where a tool keeps what it was told, and a part of it.
KEPT = {
    "wandb": ("wandb/offline-run-*/run-*.wandb", b"epoch/sigma/module_1"),
    "mlflow": ("mlflow.db", b"sigma/module_1"),
    "keras_tuner": ("tuned/*/trial_1/trial.json", b"num_modules"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "program"), zip(KEPT, RECIPES, strict=True), ids=KEPT
)
def test_recipe(module, program, tmp_path):
    pytest.importorskip(module, reason="pip install -e '.[recipes]'")
    assert f"import {module}" in program
    done = subprocess.run(
        [sys.executable, "-c", FIRST + program], cwd=tmp_path,
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    where, what = KEPT[module]
    (path,) = tmp_path.glob(where)
    assert what in path.read_bytes()
