"""Writes docs/applications.md: every model of keras.applications, cut.

Run in the top folder:

    python -m tests.applications
"""

import gc
import pathlib

import keras

from fr_keras.cutting.costs import estimated_cost, num_plays
from fr_keras.cutting.graph import Graph
from fr_keras.cutting.partition import find_split_points, split

CLASSES = 10
NUM_MODULES = (2, 4)

# Pixels; all others take 32. These have layers without padding, which leave
# nothing of less.
_SMALLEST = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}

_HEAD = f"""\
# The models of keras.applications, cut

Written by `python -m tests.applications`. `pytest -m slow
tests/applications_test.py` cuts and trains them.

Without pretrained weights, {CLASSES} classes, inputs as small as the \
architecture
allows. *Modules begin at* names the first operation of modules 2 … K.
*Crossing* is the number of tensors that cross from each module to the next.
*Balance* is the time of an iteration in the slowest module, by estimated
costs, over the time that it would take if the work could be divided at will
(4 forward units per module, 3 for the last).

| model | parameters | input | K | modules begin at | crossing | balance |
|---|---:|---|---:|---|---|---:|
"""


def names():
    """Names of the functions in keras.applications that make models."""
    return [name for name in dir(keras.applications) if name[0].isupper()]


def input_size(name):
    """Pixels of the smallest input that makes sense."""
    return _SMALLEST.get(name, 32)


def make(name, size=None):
    """Makes a model for images of `size` pixels, by default the smallest."""
    size = size or input_size(name)
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=CLASSES
    )


def balance(modules):
    """Time of the slowest module over that of a perfect division, >= 1."""
    forward = [estimated_cost(module, []) for module in modules]
    units = [
        num_plays(k, len(modules)) + 2 for k in range(1, len(modules) + 1)
    ]
    slowest = max(unit * cost for unit, cost in zip(units, forward))
    return slowest * sum(1 / unit for unit in units) / sum(forward)


def rows(name):
    """The lines of the table about one model."""
    model = make(name)
    operations = [node.operation.name for node in Graph(model).nodes]
    lines = ""
    for num_modules in NUM_MODULES:
        cut = find_split_points(model, num_modules)
        modules = split(model, cut)
        cells = [
            name,
            f"{model.count_params():,}",
            "×".join(map(str, model.input_shape[1:])),
            num_modules,
            ", ".join(f"`{operations[i]}`" for i in cut),
            ", ".join(str(len(module.inputs)) for module in modules[1:]),
            f"{balance(modules):.3f}",
        ]
        lines += f"| {' | '.join(map(str, cells))} |\n"
    return lines


def main():
    table = ""
    for name in names():
        table += rows(name)
        # A model is full of cycles, and some take gigabytes.
        keras.utils.clear_session()
        gc.collect()
    top = pathlib.Path(__file__).parent.parent
    path = top / "docs" / "applications.md"
    path.write_text(_HEAD + table, encoding="utf-8")


if __name__ == "__main__":
    main()
