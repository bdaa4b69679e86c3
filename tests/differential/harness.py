"""A model trained by Keras and by this library, and all that may differ.

`check(case)` trains one model by stock Keras and, from the same weights and
random seeds, by `fr_keras.Backprop` with K = 1, 2 and 4 modules. It compares

- the variables of every layer, trainable or not: weights, moving averages,
  states of recurrent layers, random seeds, metrics inside of layers;
- what `Case.run` returns: the history of `fit`, names and values, what
  `evaluate` and `predict` return afterwards;
- the learning rate and the number of iterations of the optimizer.

To add a case, add a row to a table (`tests/differential/layer_cases/`,
`optimizer_cases.py`, ...), or write a `Case`: a function that makes the model
and, where the defaults do not do, functions that make the data and the
arguments of `compile`, or a `run` of its own. Nothing is shared between two
trainings, so all of them are functions, called once for each.

Variables are matched by name, never by their order: by the name of the layer
in its model and the names of attributes inside of the layer. What is trained
(`model.modules`) and what is given back (`model.to_keras()`) are both compared.

A difference is only reported as such if Keras agrees with itself on the same
case: `BadCase` is raised for a case that cannot be reproduced, whose numbers
are not finite, or in which nothing moves. tests/differential/harness_test.py
damages a training in all these places and expects to be told.
"""

import contextlib
import dataclasses
import re
import typing

import keras
import numpy as np
import tensorflow as tf

import fr_keras
from tests.differential.differences import (
    compare_nests,
    compare_states,
    distance,
)
from tests.differential.variables import variables_of

SEED = 7
BATCH = 4
# Two whole batches and one of two.
EXAMPLES = 10
NUM_MODULES = (1, 2, 4)
MOST_LINES = 20
# Relative to the largest element of a tensor: the same computation in another
# order.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


class BadCase(Exception):
    """The case proves nothing, whatever the library does."""


class Difference(AssertionError):
    """The library does not do what Keras does."""


def fit_arguments():
    """x and y of the networks in `networks.py` whose input is a vector."""
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(EXAMPLES, 6)),
        "y": rng.normal(size=(EXAMPLES, 3)),
    }


def compile_arguments():
    return {"optimizer": keras.optimizers.SGD(0.05, 0.9), "loss": "mse"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One model, and how it is trained.

    Attributes:
        make: function without arguments that makes a built Keras model. It is
            called in a fresh session with the same seed each time.
        fit: the same, a dict with the arguments of `fit` that differ from the
            defaults: batches of `BATCH`, 2 epochs, no shuffling.
        compile: the same, a dict with the arguments of `compile`.
        run: function of a compiled model that trains it and returns whatever
            is to be compared, a nest of dicts, lists, tuples, arrays and
            numbers; `None` for `fit`, `evaluate` and `predict`.
        num_modules: tuple of int, the K.
        floatx: str, "float64", or "float32" where a layer has no other.
        tolerance: float, relative, or `None` for that of `TOLERANCES`.
        refusal: regular expression, or `None`. The error, `ValueError` or
            `TypeError`, by which the library refuses the model before anything
            is trained.
        moves: bool, whether training changes any variable.
        algorithm: function `(model, num_modules)`, what is compared.
    """

    make: typing.Callable
    fit: typing.Callable = fit_arguments
    compile: typing.Callable = compile_arguments
    run: typing.Callable | None = None
    num_modules: tuple = NUM_MODULES
    floatx: str = "float64"
    tolerance: float | None = None
    refusal: str | None = None
    moves: bool = True
    algorithm: typing.Callable = fr_keras.Backprop


@dataclasses.dataclass
class Trained:
    """What a training left behind.

    Attributes:
        initial: dict from the name of a variable to its values (a list; more
            than one if layers of nested models have the same name), before.
        states: dict from "modules" or "to_keras" to a dict of the same kind,
            after.
        results: dict of what is compared besides.
    """

    initial: dict
    states: dict
    results: dict


def check(case):
    """Trains by Keras and by the library, and compares.

    Args:
        case: `Case`.

    Raises:
        Difference: with all differences, for all K.
        BadCase: if the case is of no use.
    """
    expected = train(case, None)
    _check_use(case, expected)
    differences = {}
    for num_modules in case.num_modules:
        for difference in differences_to(expected, case, num_modules):
            differences.setdefault(difference, []).append(num_modules)
    if not differences:
        return
    again = [*_compare(case, train(case, None), expected)]
    if again:
        raise BadCase("Keras differs from itself:\n" + "\n".join(again))
    lines = [
        f"K={', '.join(map(str, of))}: {difference}"
        for difference, of in differences.items()
    ]
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"and {len(lines) - MOST_LINES} more"]
    raise Difference("\n" + "\n".join(lines))


def train(case, num_modules, models=None):
    """Trains once.

    Args:
        case: `Case`.
        num_modules: int, K, or `None` for stock Keras.
        models: list to which the models that are trained are added as soon as
            they are made, or `None`.

    Returns:
        `Trained`.
    """
    with session(case.floatx):
        network = case.make()
        initial = variables_of([network])
        model = network
        if num_modules is not None:
            model = case.algorithm(network, num_modules)
        if models is not None:
            models.append(model)
        # A layer may draw its seed when it is copied.
        keras.utils.set_random_seed(SEED + 1)
        model.compile(**{"jit_compile": False, **case.compile()})
        run = case.run or fit_evaluate_predict
        results = {"run": run(model, case.fit())}
        # (A MultiOptimizer has no learning rate.)
        rate = getattr(model.optimizer, "learning_rate", None)
        results["optimizer"] = {
            "iterations": int(_counting(model.optimizer).iterations),
            "learning_rate": None if rate is None else float(rate),
        }
        if num_modules is None:
            # A copy need not have what metrics have counted.
            states = {
                "modules": variables_of([network]),
                "to_keras": variables_of([network], metrics=False),
            }
        else:
            states = {
                "modules": variables_of(model.modules),
                "to_keras": variables_of([model.to_keras()], metrics=False),
            }
    return Trained(initial, states, results)


def _counting(optimizer):
    """The optimizer that counts what Keras counts."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # Updates that are skipped do not count there: see docs/fit.md.
        return getattr(optimizer, "per_module", [optimizer])[-1]
    return optimizer


def fit_evaluate_predict(model, arguments):
    """What a case runs by default.

    Args:
        model: compiled Keras model.
        arguments: dict, of `fit`.

    Returns:
        Dict of what these return.
    """
    arguments = {
        "batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0,
        **arguments,
    }
    if isinstance(arguments["x"], (tf.data.Dataset, keras.utils.PyDataset)):
        del arguments["batch_size"]
    history = model.fit(**arguments)
    on = {
        name: arguments[name]
        for name in ("x", "y", "sample_weight", "batch_size")
        if name in arguments
    }
    evaluated = model.evaluate(**on, verbose=0, return_dict=True)
    on = {name: on[name] for name in ("x", "batch_size") if name in on}
    return {
        "history": history.history,
        "epochs": history.epoch,
        "evaluate": evaluated,
        "predict": model.predict(**on, verbose=0),
    }


def fit_and_call(model, arguments, call=True):
    """What many small cases run: less to trace than `fit_evaluate_predict`."""
    history = model.fit(
        batch_size=BATCH, epochs=2, shuffle=False, verbose=0, **arguments
    )
    if not call:
        return {"history": history.history}
    first_batch = keras.tree.map_structure(
        lambda array: array[:BATCH], arguments["x"]
    )
    outputs = model(first_batch, training=False)
    return {
        "history": history.history,
        "call": keras.tree.map_structure(keras.ops.convert_to_numpy, outputs),
    }


def differences_to(expected, case, num_modules):
    """Trains by the library, and yields the differences as strings.

    Args:
        expected: `Trained`, by Keras.
        case: `Case`.
        num_modules: int, K.
    """
    models = []
    try:
        trained = train(case, num_modules, models)
    except Exception as error:
        refused = (
            case.refusal
            and isinstance(error, (ValueError, TypeError))
            and re.search(case.refusal, str(error))
        )
        if not refused:
            yield f"raised {type(error).__name__}: {error}"
        for model in models if refused else ():
            for problem in compare_states(
                variables_of(model.modules), expected.initial, 0.0
            ):
                yield f"trained before that: {problem}"
        return
    if case.refusal:
        yield f"not refused: {case.refusal}"
    for name, values in expected.initial.items():
        if not all(map(np.array_equal, trained.initial[name], values)):
            raise BadCase(f"'{name}' does not begin alike.")
    yield from _compare(case, trained, expected)


def _compare(case, trained, expected):
    """Yields the differences between two `Trained`."""
    tolerance = case.tolerance or TOLERANCES[case.floatx]
    yield from compare_nests(trained.results, expected.results, tolerance, "")
    told = set()
    for source, states in trained.states.items():
        for problem in compare_states(
            states, expected.states[source], tolerance
        ):
            if problem not in told:
                told.add(problem)
                yield f"{source}: {problem}"


def _check_use(case, expected):
    """Checks that differences would be seen."""
    tolerance = case.tolerance or TOLERANCES[case.floatx]
    moved = False
    for name, values in expected.states["modules"].items():
        for before, after in zip(expected.initial.get(name, ()), values):
            if not np.issubdtype(after.dtype, np.floating):
                continue
            if not np.isfinite(after).all():
                raise BadCase(f"'{name}' is not finite.")
            moved |= distance(before, after) > 5 * tolerance
    if case.moves and not moved:
        raise BadCase("No variable moves enough to tell a difference.")


@contextlib.contextmanager
def session(floatx):
    """Names, seeds and the default dtype as in a fresh process."""
    before = keras.config.floatx()
    keras.utils.clear_session(free_memory=False)
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    keras.utils.set_random_seed(SEED)
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(before)
