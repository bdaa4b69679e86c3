"""Rows of what `fit` is given: data, and data for validation."""

import keras
import numpy as np
import tensorflow as tf

from tests.differential.fit_cases.networks import (
    case,
    compiled,
    data,
    network,
    two,
    weights,
)
from tests.differential.harness import (
    BATCH,
    EXAMPLES,
    Case,
    fit_evaluate_predict,
)


def of_y(function):
    """A run on data that is made from the arrays of the case."""

    def run(model, arguments):
        return fit_evaluate_predict(model, function(arguments))

    return run


def dataset(arguments, weighted=False, repeat=False):
    parts = (arguments["x"], arguments["y"])
    if weighted:
        parts += (np.linspace(0.5, 2.0, EXAMPLES),)
    batches = tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)
    return batches.repeat() if repeat else batches


def fit_dataset(make=dataset, **more):
    def run(model, arguments):
        history = model.fit(
            make(arguments), epochs=2, verbose=0, shuffle=False, **more
        )
        return {
            "history": history.history,
            "evaluate": model.evaluate(
                dataset(arguments), verbose=0, return_dict=True
            ),
            "predict": model.predict(dataset(arguments), verbose=0),
        }

    return run


class Batches(keras.utils.PyDataset):
    """Batches of arrays."""

    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments

    def __len__(self):
        return -(-EXAMPLES // BATCH)

    def __getitem__(self, i):
        return keras.tree.map_structure(
            lambda array: array[i * BATCH : (i + 1) * BATCH],
            (self.arguments["x"], self.arguments["y"]),
        )


def generator(arguments):
    batches = Batches(arguments)
    while True:
        for i in range(len(batches)):
            yield batches[i]


ROWS = {
    # Validation.
    "validation_split": case(fit={"validation_split": 0.3}),
    "validation_data": case(
        metrics=lambda: ["mae"], run=of_y(lambda arguments: {
            **arguments,
            "validation_data": (arguments["x"][:6], arguments["y"][:6]),
        }),
    ),
    "validation_data with weights": case(
        weighted_metrics=lambda: ["mae"], run=of_y(lambda arguments: {
            **arguments,
            "validation_data": (
                arguments["x"][:6], arguments["y"][:6], np.arange(6.0)
            ),
            "validation_batch_size": 3,
        }),
    ),
    "validation_freq": case(
        fit={"validation_split": 0.3, "validation_freq": 2, "epochs": 4}
    ),
    "validation_steps": case(
        run=of_y(lambda arguments: {
            **arguments, "validation_data": dataset(arguments),
            "validation_steps": 1,
        }),
    ),
    "validation_data of two outputs": case(
        "list", "list", loss=["mse", "mae"], metrics=lambda: [["mae"], ["mse"]],
        run=of_y(lambda arguments: {
            **arguments,
            "validation_data": (
                [a[:6] for a in arguments["x"]],
                [a[:6] for a in arguments["y"]],
            ),
        }),
    ),
    # Data.
    "dataset": case(run=fit_dataset()),
    "dataset of two inputs": case(
        **two, loss="mse", run=fit_dataset()
    ),
    "dataset with weights": case(
        run=fit_dataset(lambda arguments: dataset(arguments, weighted=True)),
    ),
    "repeated dataset": case(
        run=fit_dataset(
            lambda arguments: dataset(arguments, repeat=True),
            steps_per_epoch=2,
        ),
    ),
    "PyDataset": case(run=fit_dataset(Batches)),
    "generator": case(run=fit_dataset(generator, steps_per_epoch=3)),
    "float32 data": case(
        fit={"x": lambda rng: rng.normal(size=(EXAMPLES, 6)).astype("float32")}
    ),
    "shuffled": case(fit={"shuffle": True}),
    "labels without a dimension": Case(
        network(units=1), compile=compiled(metrics=lambda: ["mae"]),
        fit=data(y=weights),
    ),
}
