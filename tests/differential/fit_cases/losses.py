"""Rows of structures, losses, metrics and weights of examples."""

import keras
import numpy as np

from tests.differential.fit_cases.networks import (
    STRUCTURES,
    binary,
    case,
    classes,
    compiled,
    data,
    labelled,
    masked,
    network,
    one_hot,
    two,
    weights,
    weights_of_steps,
)
from tests.differential.harness import BATCH, EXAMPLES, Case


class Error(keras.metrics.Metric):
    """A metric of a user."""

    def __init__(self, name="error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(keras.ops.sum(keras.ops.abs(y_true - y_pred)))

    def result(self):
        return {"total": self.total.value, "double": 2 * self.total}

    def reset_state(self):
        self.total.assign(0.0)


def cubic(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred) ** 3, axis=-1)


def class_weight_on_batch(model, arguments):
    x = arguments["x"][:BATCH]
    return model.train_on_batch(
        x, np.arange(BATCH) % 3, class_weight={0: 1.0, 1: 2.0, 2: 0.5},
        return_dict=True,
    )


ROWS = {
    # Structures.
    **{
        f"inputs: {inputs}, outputs: {outputs}": case(
            inputs, outputs, loss=STRUCTURES[outputs]("mse", "mae"),
            metrics=lambda outputs=outputs: STRUCTURES[outputs](
                ["mae"], ["mse", "mae"]
            ),
        )
        for inputs, outputs in [
            ("list", "list"), ("tuple", "tuple"), ("dict", "dict"),
            ("list", "dict"), ("dict", "list"),
        ]
    },
    # (Keras trains no outputs in a nest of more than one level.)
    "inputs: nested": case(
        "nested", "list", loss=["mse", "mae"], metrics=lambda: [["mae"], None]
    ),
    "outputs: one twice": case(
        outputs="twice", fit={"y": lambda rng: [
            rng.normal(size=(EXAMPLES, width)) for width in (3, 2, 3)
        ]},
        loss=["mse", "mae", "mse"],
    ),
    "inputs by name": Case(
        network("list"), compile=compiled(), fit=data("dict"),
    ),
    "outputs by other names": case(
        "dict", "other names", loss={"two": "mse", "b": "mae"},
        metrics=lambda: {"b": "mse"},
    ),
    "outputs by the names of their layers": Case(
        network("list", "list"), fit=data("list", "list"),
        compile=compiled(
            {"first": "mse", "second": "mae"}, metrics=lambda: {
                "second": ["mse"]
            },
            loss_weights={"first": 1.0, "second": 0.25},
        ),
    ),
    # Losses.
    "one loss for all outputs": case(**two, loss="mse"),
    "loss of one output": case(**two, loss={"one": "mse"}),
    "loss of one output in a list": case(
        "list", "list", loss=["mse", None], metrics=lambda: [None, ["mae"]]
    ),
    "None for an output": case(**two, loss={"one": "mse", "two": None}),
    "loss of the second output": case(**two, loss={"two": "mse"}),
    "loss function": case(loss=cubic),
    "loss object": case(loss=keras.losses.Huber(0.5, name="robust")),
    "loss object, sum": case(
        loss=keras.losses.MeanSquaredError(reduction="sum")
    ),
    "loss object, mean_with_sample_weight": case(
        loss=keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        fit={"sample_weight": weights},
    ),
    "loss_weights in a dict": case(
        **two, loss={"one": "mse", "two": "mae"},
        loss_weights={"one": 0.25, "two": 2.0},
    ),
    "loss_weights in a list": case(
        "list", "list", loss=["mse", "mae"], loss_weights=[0.25, 2.0]
    ),
    "loss_weights, one": case(loss_weights=0.25),
    # Metrics.
    "metrics": case(metrics=lambda: ["mae", cubic, Error()]),
    "metrics with names": case(
        metrics=lambda: [
            keras.metrics.MeanSquaredError(name="a"),
            keras.metrics.MeanSquaredError(name="b"),
        ],
    ),
    "equal metrics": case(metrics=lambda: ["mae", "mae"]),
    "metric twice in two outputs": case(
        "list", "list", loss="mse", metrics=lambda: [["mae"], ["mae"]]
    ),
    "one metric for all outputs": case(
        **two, loss="mse", metrics=lambda: {"one": "mae", "two": "mae"}
    ),
    "metrics in one list": case(
        "list", "list", loss="mse", metrics=lambda: ["mae", "mse"]
    ),
    "weighted_metrics": case(
        metrics=lambda: ["mae"], weighted_metrics=lambda: ["mae", "mse"],
        fit={"sample_weight": weights},
    ),
    "weighted_metrics of outputs": case(
        **two, loss="mse", metrics=lambda: {"one": ["mae"]},
        weighted_metrics=lambda: {"one": ["mse"], "two": ["mae"]},
        fit={
            "sample_weight": lambda rng: {
                "one": weights(rng), "two": weights(rng)
            }
        },
    ),
    "no loss but metrics": case(
        **two, loss={"one": "mse"}, metrics=lambda: {"two": ["mae", Error()]}
    ),
    # Classification: names of accuracies depend on shapes.
    "sparse accuracy": labelled(
        3, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        classes(3), metrics=lambda: ["accuracy"],
    ),
    "categorical accuracy": labelled(
        3, "softmax", "categorical_crossentropy", one_hot,
        metrics=lambda: ["accuracy", "CategoricalCrossentropy"],
    ),
    "binary accuracy": labelled(
        1, "sigmoid", "binary_crossentropy", binary,
        metrics=lambda: ["accuracy", keras.metrics.AUC(name="auc")],
        weighted_metrics=lambda: ["acc"],
    ),
    "class_weight": labelled(
        3, "softmax", "sparse_categorical_crossentropy", classes(3),
        fit={"class_weight": {0: 0.5, 1: 2.0, 2: 1.0}},
        metrics=lambda: ["accuracy"], weighted_metrics=lambda: ["accuracy"],
    ),
    "class_weight on a batch": Case(
        network(), run=class_weight_on_batch,
        compile=compiled(
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ),
    ),
    # Weights of examples.
    "sample_weight": case(fit={"sample_weight": weights}),
    "sample_weight for all outputs": case(
        **two, loss="mse", fit={"sample_weight": weights}
    ),
    "sample_weight in a dict": case(
        **two, loss="mse",
        fit={
            "sample_weight": lambda rng: {
                "one": weights(rng), "two": weights(rng)
            }
        },
    ),
    "sample_weight in a list": case(
        "list", "list", loss="mse",
        fit={"sample_weight": lambda rng: [weights(rng), weights(rng)]},
    ),
    # Masks.
    "masked loss": masked(metrics=lambda: ["mae"]),
    "masked loss and weights": masked(
        fit={"sample_weight": weights_of_steps},
        weighted_metrics=lambda: ["mae"],
    ),
    "masked loss and weights of examples": masked(
        fit={"sample_weight": lambda rng: rng.uniform(size=(EXAMPLES, 1))},
    ),
    "masked sparse loss": masked(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        fit={"y": lambda rng: rng.integers(0, 3, (EXAMPLES, 5))},
        metrics=lambda: ["accuracy"], weighted_metrics=lambda: ["accuracy"],
    ),
}
