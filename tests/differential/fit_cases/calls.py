"""Rows of several calls: `fit` again, `evaluate` before, single batches."""

import keras
import numpy as np

from tests.differential.fit_cases.feeding import Batches
from tests.differential.fit_cases.networks import case
from tests.differential.harness import BATCH, fit_evaluate_predict


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


ROWS = {
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
