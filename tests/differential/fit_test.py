"""What `compile` and `fit` can do, by Keras and by us.

To add a feature, add a row to `CASES`. The network has two inputs and two
outputs; which structures they come in is up to the row.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.differential.harness import (
    BATCH,
    EXAMPLES,
    Case,
    check,
    fit_evaluate_predict,
)
from tests.differential.selection import parameters

layers = keras.layers
STRUCTURES = {
    "single": lambda one, two: one,
    "list": lambda one, two: [one, two],
    "tuple": lambda one, two: (one, two),
    "dict": lambda one, two: {"one": one, "two": two},
    "other names": lambda one, two: {"two": one, "b": two},
    "nested": lambda one, two: (one, {"more": [two]}),
    "twice": lambda one, two: [one, two, one],
}


def network(inputs="single", outputs="single", **options):
    """Two towers, joined, and two heads; of a single input or output one."""

    def make():
        one = keras.Input((6,), name="one")
        two = keras.Input((4,), name="two")
        h = layers.Dense(6, activation="tanh", name="tower")(one)
        if inputs != "single":
            other = layers.Dense(4, activation="tanh", name="other")(two)
            h = layers.Concatenate(name="joined")([h, other])
        h = layers.BatchNormalization(name="norm")(h)
        h = layers.Dense(6, activation="tanh", name="trunk")(h)
        first = layers.Dense(
            options.get("units", 3), options.get("activation"), name="first"
        )(layers.Dense(4, activation="tanh", name="before_first")(h))
        second = layers.Dense(2, name="second")(
            layers.Dense(4, activation="tanh", name="before_second")(h)
        )
        return keras.Model(
            STRUCTURES[inputs](one, two), STRUCTURES[outputs](first, second)
        )

    return make


def data(inputs="single", outputs="single", examples=EXAMPLES, **more):
    """x and y in these structures, and more arguments of `fit`."""

    def make():
        rng = np.random.default_rng(0)
        x = [rng.normal(size=(examples, width)) for width in (6, 4)]
        y = [rng.normal(size=(examples, width)) for width in (3, 2)]
        return {
            "x": STRUCTURES[inputs](*x), "y": STRUCTURES[outputs](*y),
            **{
                name: value(rng) if callable(value) else value
                for name, value in more.items()
            },
        }

    return make


def weights(rng):
    return rng.uniform(size=EXAMPLES)


def classes(num_classes):
    return lambda rng: np.arange(EXAMPLES) % num_classes


def compiled(loss="mse", optimizer=None, **options):
    def make():
        return {
            "optimizer": optimizer() if optimizer
            else keras.optimizers.SGD(0.05, 0.875),
            "loss": loss,
            **{
                name: value() if callable(value) else value
                for name, value in options.items()
            },
        }

    return make


def case(inputs="single", outputs="single", fit=None, run=None, **options):
    return Case(
        network(inputs, outputs), run=run,
        fit=data(inputs, outputs, **fit or {}), compile=compiled(**options),
    )


def labelled(units, activation, loss, labels, **options):
    """A case of classification."""
    return Case(
        network(units=units, activation=activation),
        fit=data(y=labels, **options.pop("fit", {})),
        compile=compiled(loss, **options),
    )


def one_hot(rng):
    return np.eye(3)[rng.integers(0, 3, EXAMPLES)]


def binary(rng):
    return rng.integers(0, 2, (EXAMPLES, 1)).astype("float64")


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


class Logs(keras.callbacks.Callback):
    """Keeps all logs of all batches and epochs."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def keep(self, when, logs):
        self.seen.append({
            "when": when,
            **{name: np.asarray(value) for name, value in (logs or {}).items()},
        })

    def on_train_batch_end(self, batch, logs=None):
        self.keep(f"batch {batch}", logs)

    def on_test_batch_end(self, batch, logs=None):
        self.keep(f"test {batch}", logs)

    def on_epoch_end(self, epoch, logs=None):
        self.keep(f"epoch {epoch}", logs)

    def on_train_end(self, logs=None):
        self.keep("end", logs)

    def on_test_end(self, logs=None):
        self.keep("test end", logs)


class Stop(keras.callbacks.Callback):
    """Ends training within its second epoch."""

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = self.epoch == 1 and batch == 1


def fit_with(*make_callbacks, **more):
    """A run with callbacks, whose `seen` is compared."""

    def run(model, arguments):
        callbacks = [make() for make in make_callbacks]
        arguments = {"epochs": 4, **arguments, **more, "callbacks": callbacks}
        results = fit_evaluate_predict(model, arguments)
        results["seen"] = [getattr(c, "seen", None) for c in callbacks]
        results["rate"] = float(model.optimizer.learning_rate)
        return results

    return run


def batches_of(arguments):
    return [*map(Batches(arguments).__getitem__, range(3))]


def train_on_batch(model, arguments):
    results = []
    for x, y in batches_of(arguments):
        results.append(model.train_on_batch(x, y, return_dict=True))
    model.reset_metrics()
    results.append(model.train_on_batch(x, y))
    results.append(
        model.train_on_batch(
            x, y, sample_weight=np.linspace(1.0, 2.0, len(y)), return_dict=True
        )
    )
    for x, y in batches_of(arguments):
        results.append(model.test_on_batch(x, y, return_dict=True))
    results.append(model.test_on_batch(x, y))
    return results, model.predict_on_batch(x)


def class_weight_on_batch(model, arguments):
    x = arguments["x"][:BATCH]
    return model.train_on_batch(
        x, np.arange(BATCH) % 3, class_weight={0: 1.0, 1: 2.0, 2: 0.5},
        return_dict=True,
    )


def twice(model, arguments):
    return [
        fit_evaluate_predict(model, arguments),
        fit_evaluate_predict(model, {**arguments, "epochs": 1}),
    ]


def continued(model, arguments):
    return [
        fit_evaluate_predict(model, arguments),
        fit_evaluate_predict(
            model, {**arguments, "epochs": 4, "initial_epoch": 2}
        ),
    ]


def frozen_between(model, arguments):
    first = fit_evaluate_predict(model, arguments)
    model.get_layer("tower").trainable = False
    model.get_layer("norm").trainable = False
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    return first, fit_evaluate_predict(model, arguments)


def frozen_without_compile(model, arguments):
    """As in Keras, `compile` is what makes it take effect."""
    first = fit_evaluate_predict(model, arguments)
    model.get_layer("tower").trainable = False
    return first, fit_evaluate_predict(model, arguments)


def unfrozen_between(model, arguments):
    for layer in model.layers[:-2]:
        layer.trainable = False
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    first = fit_evaluate_predict(model, arguments)
    model.trainable = True
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    return first, fit_evaluate_predict(model, arguments)


def compiled_again(model, arguments):
    first = fit_evaluate_predict(model, arguments)
    model.compile(
        model.optimizer, "mae", metrics=["mse"], jit_compile=False
    )
    return first, fit_evaluate_predict(model, arguments)


def rate_set_between(model, arguments):
    first = fit_evaluate_predict(model, arguments)
    model.optimizer.learning_rate = 0.01
    second = fit_evaluate_predict(model, arguments)
    model.optimizer.learning_rate.assign(0.02)
    return first, second, fit_evaluate_predict(model, arguments)


def weights_set_between(model, arguments):
    first = fit_evaluate_predict(model, arguments)
    model.set_weights([0.5 * weight for weight in model.get_weights()])
    return first, fit_evaluate_predict(model, arguments)


def evaluated_only(model, arguments):
    on = {**arguments, "batch_size": BATCH, "verbose": 0}
    return [
        model.evaluate(**on),
        model.evaluate(**on, return_dict=True),
        model.metrics_names,
        [metric.name for metric in model.metrics],
        model.predict(arguments["x"], batch_size=BATCH, verbose=0),
        twice(model, arguments),
    ]


def names_of_the_face(model, arguments):
    results = fit_evaluate_predict(model, arguments)
    return {
        **results,
        "output_names": list(model.output_names),
        "layers": [layer.name for layer in model.layers],
        "shapes": [model.input_shape, model.output_shape],
        "count": model.count_params(),
        "metrics_names": model.metrics_names,
    }


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


def masked_network():
    return keras.Sequential([
        keras.Input((5,), dtype="int32"),
        layers.Embedding(9, 4, mask_zero=True),
        layers.LSTM(4, return_sequences=True),
        layers.GRU(4, return_sequences=True),
        layers.Dense(4, activation="tanh"),
        layers.Dense(3),
    ])


def masked_data(**more):
    def make():
        rng = np.random.default_rng(0)
        return {
            "x": rng.integers(0, 4, (EXAMPLES, 5)).astype("int32"),
            "y": rng.normal(size=(EXAMPLES, 5, 3)),
            **{name: value(rng) for name, value in more.items()},
        }

    return make


def masked(loss="mse", **options):
    fit = options.pop("fit", {})
    return Case(
        masked_network, fit=masked_data(**fit),
        compile=compiled(loss, **options),
    )


def weights_of_steps(rng):
    return rng.uniform(size=(EXAMPLES, 5))


two = {"inputs": "dict", "outputs": "dict"}
CASES = {
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
    # Execution.
    "steps_per_execution": case(
        metrics=lambda: ["mae"], steps_per_execution=2,
        run=fit_with(Logs, epochs=2),
    ),
    "steps_per_execution of all": case(steps_per_execution=3),
    "run_eagerly": case(
        **two, loss="mse", metrics=lambda: {"one": "mae"}, run_eagerly=True
    ),
    "a batch for an epoch": case(fit={"batch_size": EXAMPLES}),
    "steps_per_epoch": case(fit={"steps_per_epoch": 2}),
    # Callbacks.
    "logs of batches": case(
        metrics=lambda: ["mae"], fit={"validation_split": 0.4},
        run=fit_with(Logs),
    ),
    "logs of batches, two outputs": case(
        "list", "list", loss=["mse", "mae"], run=fit_with(Logs)
    ),
    "LearningRateScheduler": case(
        run=fit_with(lambda: keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: rate * 0.5 if epoch else rate
        ), Logs),
    ),
    "ReduceLROnPlateau": case(
        run=fit_with(lambda: keras.callbacks.ReduceLROnPlateau(
            "loss", 0.5, patience=1, min_delta=0.5
        ), Logs),
    ),
    "EarlyStopping": case(
        fit={"validation_split": 0.4},
        run=fit_with(lambda: keras.callbacks.EarlyStopping(
            min_delta=10.0, patience=2, restore_best_weights=True
        ), Logs),
    ),
    "stopped by a callback": case(
        run=fit_with(Stop, Logs),
    ),
    "SwapEMAWeights": case(
        optimizer=lambda: keras.optimizers.SGD(
            0.05, use_ema=True, ema_momentum=0.5
        ),
        fit={"validation_split": 0.4},
        run=fit_with(lambda: keras.callbacks.SwapEMAWeights(
            swap_on_epoch=True
        ), Logs),
    ),
    "TerminateOnNaN": case(run=fit_with(keras.callbacks.TerminateOnNaN, Logs)),
    # Several calls.
    "fit twice": case(run=twice),
    "initial_epoch": case(run=continued),
    "frozen between": case(run=frozen_between),
    "frozen without compile": case(run=frozen_without_compile),
    "unfrozen between": case(run=unfrozen_between),
    "compiled again with its optimizer": case(run=compiled_again),
    "learning rate set between": case(run=rate_set_between),
    "weights set between": case(run=weights_set_between),
    "evaluate and predict before fit": case(
        run=evaluated_only, metrics=lambda: ["mae"]
    ),
    "evaluate two outputs before fit": case(
        "list", "list", loss=["mse", "mae"],
        metrics=lambda: [["mae"], ["mse"]], run=evaluated_only,
    ),
    "train_on_batch": case(metrics=lambda: ["mae"], run=train_on_batch),
    "names and shapes": case("list", "list", loss="mse", run=names_of_the_face),
}
FAST = {
    "inputs: list, outputs: list", "None for an output",
    "frozen between", "compiled again with its optimizer", "train_on_batch",
    "names and shapes", "steps_per_execution",
}


@pytest.mark.parametrize("name, num_modules", parameters(CASES, FAST))
def test_is_as_in_keras(name, num_modules):
    check(dataclasses.replace(CASES[name], num_modules=num_modules))


def test_number_of_cases(tell):
    assert len(CASES) >= 80
    tell(f"{len(CASES)} features of compile and fit")
