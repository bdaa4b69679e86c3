"""The table of KerasHub's models in docs/models.md.

Run in the top folder, to write the table anew:

    python -m tests.hub_table
"""

import gc
import pathlib
import re

import keras
import keras_hub

import fr_keras
from fr_keras.cutting.graph import Graph
from tests import applications
from tests.hub import LEFT_OUT, kind, largest_split, make, names

_NUM_MODULES = 4
# What is between these lines of docs/models.md is written by `main`.
_BEGIN = "<!-- Written by python -m tests.hub_table: -->"
_END = "<!-- The end of what python -m tests.hub_table writes. -->"
_HEAD = """\

KerasHub {version}, every class of tasks and of backbones (with a classifier
on its output), from configuration: tiny widths, 8 blocks where the number of
blocks is free. *Operations* are counted after nested models were dissolved.
*Largest K* is the number of modules into which that model can be split at
most, every module having weights. *Balance* is for K = {num_modules}: the time
of an iteration in the slowest module, by estimated costs, over the time that
it would take if the work could be divided at will. `pytest -m slow
tests/differential/hub_test.py` trains all that are not refused. Where the
largest K is below 4, one layer of KerasHub's is almost all of the model.

| model | kind | operations | largest K | balance | |
|---|---|---:|---:|---:|---|
"""


def row(name):
    """The line of the table about one model."""
    model = make(name)
    cells = [name, kind(name), len(Graph(model).nodes), "", "", ""]
    try:
        cells[3] = largest = largest_split(model)
        if largest >= _NUM_MODULES:
            modules = fr_keras.partition(model, _NUM_MODULES)
            cells[4] = f"{applications.balance(modules):.2f}"
        fr_keras.FeaturesReplay(model, min(largest, _NUM_MODULES))
    except (TypeError, ValueError) as error:
        cells[5] = _reason(error)
    return f"| {' | '.join(map(str, cells))} |\n"


def _reason(error):
    """The first sentence of an error, for a table."""
    sentence = re.split(r"\.\s|: |\n", str(error).strip(), maxsplit=1)[0]
    return f"refused: {sentence.replace('|', '/')}"


def main():
    lines = []
    for name in names():
        lines.append(row(name))
        # A model is full of cycles.
        keras.utils.clear_session()
        gc.collect()
    lines += [
        f"| {name} | {kind(name)} | | | | left out: {reason} |\n"
        for name, reason in LEFT_OUT.items()
    ]
    section = _HEAD.format(
        version=keras_hub.__version__, num_modules=_NUM_MODULES
    ) + "".join(lines)
    top = pathlib.Path(__file__).parent.parent
    path = top / "docs" / "models.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if _BEGIN not in text:
        text = f"{text}\n{_BEGIN}\n{_END}\n".lstrip()
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    path.write_text(
        f"{before}{_BEGIN}\n{section}{_END}{after}", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
