"""The instrument itself: whatever is damaged is told, and nothing else."""

import dataclasses
import itertools
import re

import keras
import numpy as np
import pytest

from tests.differential import harness
from tests.differential.differences import compare_states
from tests.differential.harness import BadCase, Case, Difference, check
from tests.differential.variables import variables_of

layers = keras.layers


def network():
    return keras.Sequential([
        keras.Input((6,)),
        layers.Dense(6, activation="tanh", name="first"),
        layers.BatchNormalization(name="norm"),
        layers.Dropout(0.4, seed=3, name="dropout"),
        keras.Sequential(
            [keras.Input((6,)), layers.Dense(6, name="second"), Counted()],
            name="inner",
        ),
        layers.Dense(3, name="third"),
    ])


@keras.saving.register_keras_serializable("differential")
class Counted(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean(name="mean")

    def call(self, x):
        self.mean.update_state(x)
        return x


class StockKeras:
    """Looks like a model of the library, and is one of Keras.

    A subclass damages it.
    """

    def __init__(self, network, num_modules):
        self.network = network
        self.before()

    def __getattr__(self, name):
        return getattr(self.network, name)

    @property
    def modules(self):
        return [self.network]

    def to_keras(self):
        return self.network

    def before(self):
        """Called before training."""

    def fit(self, *args, **kwargs):
        history = self.network.fit(*args, **kwargs)
        self.after(history.history)
        return history

    def after(self, history):
        """Called after training."""

    def variable(self, path):
        (variable,) = [
            v for v in self.network.variables if v.path.endswith(path)
        ]
        return variable

    def evaluate(self, *args, **kwargs):
        return self.network.evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        return self.network.predict(*args, **kwargs)


def compile_arguments():
    # Quick: what is tested is not a training.
    return {
        "optimizer": keras.optimizers.SGD(0.05), "loss": "mse",
        "metrics": ["mae"], "run_eagerly": True,
    }


def case_of(algorithm, **options):
    return Case(
        network, compile=compile_arguments, algorithm=algorithm,
        num_modules=(1,), **options,
    )


@pytest.fixture(scope="module")
def expected():
    return harness.train(case_of(StockKeras), None)


def differences(expected, algorithm, **options):
    """What `check` tells, without training by Keras again each time."""
    case = case_of(algorithm, **options)
    return "\n".join(harness.differences_to(expected, case, 1))


def test_keras_is_as_keras(expected):
    assert not differences(expected, StockKeras)
    check(case_of(StockKeras))


class Weight(StockKeras):
    def after(self, history):
        kernel = self.variable("second/kernel")
        kernel.assign(kernel * (1 + 1e-8))


class Permuted(StockKeras):
    """Two weights of one shape, exchanged."""

    def before(self):
        first, second = map(self.variable, ("first/kernel", "second/kernel"))
        value = first.numpy()
        first.assign(second)
        second.assign(value)


class Average(StockKeras):
    def after(self, history):
        self.variable("moving_mean").assign_add([1e-8] * 6)


class Seed(StockKeras):
    def after(self, history):
        self.variable("seed_generator_state").assign_add([0, 1])


class MetricOfLayer(StockKeras):
    """As if it were lost in training."""

    def after(self, history):
        history["mean"] = [0.0, 0.0]


class NameOfLog(StockKeras):
    def after(self, history):
        history["mae_1"] = history.pop("mae")


class ValueOfLog(StockKeras):
    def after(self, history):
        history["loss"][1] *= 1 + 1e-8


class Prediction(StockKeras):
    def predict(self, *args, **kwargs):
        return self.network.predict(*args, **kwargs) + 1e-8


class DtypeOfPrediction(StockKeras):
    def predict(self, *args, **kwargs):
        return self.network.predict(*args, **kwargs).astype("float32")


class Evaluation(StockKeras):
    def evaluate(self, *args, **kwargs):
        logs = self.network.evaluate(*args, **kwargs)
        return {**logs, "loss": logs["loss"] + 1e-8}


class Iterations(StockKeras):
    def after(self, history):
        self.optimizer.iterations.assign_add(1)


class GivenBack(StockKeras):
    """Trains as it should, and gives something else back."""

    def to_keras(self):
        copy = keras.models.clone_model(self.network)
        copy.set_weights([0.5 * w for w in self.network.get_weights()])
        return copy


class LayerLeftOut(StockKeras):
    @property
    def modules(self):
        return self.network.layers[:-1]


class Raises(StockKeras):
    def before(self):
        raise RuntimeError("out of order")


@pytest.mark.parametrize("algorithm, told", [
    (Weight, "'second/kernel' off by"),
    (Permuted, "'first/kernel' off by"),
    (Average, "'norm/moving_mean' off by"),
    (Seed, "'dropout/seed_generator/state'"),
    (MetricOfLayer, "history/mean"),
    (NameOfLog, "mae_1"),
    (ValueOfLog, r"history/loss\[1\] off by"),
    (Prediction, "predict off by"),
    (DtypeOfPrediction, "float32.* for float64"),
    (Evaluation, "evaluate/loss off by"),
    (Iterations, "iterations"),
    (GivenBack, "to_keras: 'third/kernel' off by"),
    (LayerLeftOut, "'third/kernel' is missing"),
    (Raises, "raised RuntimeError: out of order"),
])
@pytest.mark.quick_cases(
    "Weight-", "Seed-", "MetricOfLayer", "Iterations", "Raises", "NameOfLog",
)
def test_damage_is_told(expected, algorithm, told):
    assert re.search(told, differences(expected, algorithm))


def test_differences_are_raised():
    with pytest.raises(Difference, match="K=1: .*'second/kernel' off by"):
        check(case_of(Weight))


class Refuses(StockKeras):
    def before(self):
        raise ValueError("It must not be 'third'.")


class RefusesTooLate(StockKeras):
    def after(self, history):
        raise ValueError("It must not be 'third'.")


def test_refusal(expected):
    assert not differences(expected, Refuses, refusal="must not be 'third'")
    assert "raised ValueError: It must not" in differences(
        expected, Refuses, refusal="must not be 'first'"
    )
    assert "not refused: must not" in differences(
        expected, StockKeras, refusal="must not"
    )
    assert "trained before that: 'first/kernel' off" in differences(
        expected, RefusesTooLate, refusal="must not"
    )


def test_case_in_which_nothing_moves():
    def nothing():
        return {**compile_arguments(), "optimizer": keras.optimizers.SGD(0.0)}

    case = Case(
        lambda: keras.Sequential([keras.Input((6,)), layers.Dense(3)]),
        compile=nothing, num_modules=(1,), algorithm=StockKeras,
    )
    with pytest.raises(BadCase, match="No variable moves"):
        check(case)
    check(dataclasses.replace(case, moves=False))


def test_case_that_is_another_each_time():
    factors = itertools.count(1.0)

    def make():
        return keras.Sequential([
            keras.Input((6,)), layers.Rescaling(next(factors)), layers.Dense(3)
        ])

    with pytest.raises(BadCase, match="Keras differs from itself"):
        check(Case(
            make, compile=compile_arguments, num_modules=(1,),
            algorithm=StockKeras,
        ))


def test_layers_of_one_name_are_told_apart_by_their_values():
    def model(scale):
        one, two = (
            keras.Sequential([keras.Input((2,)), layers.Dense(2, name="same")])
            for _ in range(2)
        )
        one.layers[0].kernel.assign(np.eye(2))
        two.layers[0].kernel.assign(scale * np.eye(2))
        return keras.Sequential([keras.Input((2,)), one, two])

    a, b, c = (
        variables_of([model(scale)]) for scale in (2.0, 2.0, 3.0)
    )
    assert len(a["same/kernel"]) == 2
    assert not list(compare_states(a, b, 1e-6))
    assert list(compare_states(a, c, 1e-6))
    a["same/kernel"].reverse()
    assert not list(compare_states(a, b, 1e-6))


def test_renamed_copy_is_the_same():
    class Unnamed(layers.Layer):
        """Its configuration leaves out its name."""

        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(2)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return self.dense(x)

    model, copy = (
        keras.Sequential([keras.Input((2,)), Unnamed(name=name)])
        for name in ("unnamed", "unnamed_1")
    )
    copy.set_weights(model.get_weights())
    ours, theirs = variables_of([copy]), variables_of([model])
    assert ours.keys() != theirs.keys()
    assert not list(compare_states(ours, theirs, 1e-6))
    copy.set_weights([2 * weight for weight in model.get_weights()])
    ours = variables_of([copy])
    assert list(compare_states(ours, theirs, 1e-6))
