"""A model trained by Keras and by this library, and all that may differ.

`check(case)` trains one model by stock Keras and, from the same weights and
random seeds, by `fr_keras.Backprop` with K = 1, 2 and 4 modules. It compares

- the variables of every layer, trainable or not: weights, moving averages,
  states of recurrent layers, random seeds, metrics inside of layers;
- what `Case.run` returns: the history of `fit`, names and values, what
  `evaluate` and `predict` return afterwards;
- the learning rate and the number of iterations of the optimizer.

To add a case, add a row to a table (`tests/differential/layer_cases/`,
`optimizers_test.py`, ...), or write a `Case`: a function that makes the model
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
from fr_keras.engine.tied import SharedLayer

SEED = 7
BATCH = 4
# Two whole batches and one of two.
EXAMPLES = 10
NUM_MODULES = (1, 2, 4)
MOST_LINES = 20
# Relative to the largest element of a tensor: the same computation in another
# order.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
# What is smaller than this is compared as if it had this size: a bias before
# batch normalization is zero, but for rounding.
_SMALLEST_SCALE = 1e-2

# Where Keras lists what is an attribute elsewhere.
_LISTS = {
    "_trainable_variables", "_non_trainable_variables", "_layers", "_metrics",
    "_seed_generators", "_tracker", "_losses", "_inbound_nodes",
    "_outbound_nodes", "_variables", "_self_unconditional_dependency_names",
}


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
            for problem in _compare_states(
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
    yield from _compare_nests(trained.results, expected.results, tolerance, "")
    told = set()
    for source, states in trained.states.items():
        for problem in _compare_states(
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
            moved |= _distance(before, after) > 5 * tolerance
    if case.moves and not moved:
        raise BadCase("No variable moves enough to tell a difference.")


def _distance(a, b):
    """The largest difference, relative to the largest element of `b`."""
    if not b.size:
        return 0.0
    a, b = a.astype("float64"), b.astype("float64")
    scale = max(np.max(np.abs(b)), _SMALLEST_SCALE)
    return np.max(np.abs(a - b)) / scale


def _compare_arrays(a, b, tolerance):
    """Says what is different about two arrays, or returns `None`."""
    a, b = np.asarray(a), np.asarray(b)
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{a.shape} for {b.dtype}{b.shape}"
    if not np.issubdtype(b.dtype, np.inexact):
        return None if np.array_equal(a, b) else f"{_short(a)} for {_short(b)}"
    distance = _distance(a, b)
    if distance <= tolerance:
        return None
    return f"off by {distance:.1e}: {_short(a)} for {_short(b)}"


def _short(array):
    return np.array2string(array.ravel()[:3], precision=7)


def _compare_states(states, expected, tolerance):
    states, expected = _by_common_names(states, expected)
    for name in expected.keys() - states.keys():
        yield f"'{name}' is missing"
    for name in states.keys() - expected.keys():
        yield f"'{name}' is not Keras'"
    for name in sorted(states.keys() & expected.keys()):
        ours, theirs = list(states[name]), expected[name]
        if len(ours) != len(theirs):
            yield f"'{name}': {len(ours)} variables for {len(theirs)}"
            continue
        for value in theirs:
            problems = [_compare_arrays(a, value, tolerance) for a in ours]
            best = problems.index(None) if None in problems else 0
            ours.pop(best)
            if problems[best]:
                yield f"'{name}' {problems[best]}"


def _by_common_names(states, expected):
    """Leaves out the numbers of names that only one of the two has.

    A layer whose configuration is without its name is called `my_layer_1` in
    a copy.
    """
    common = states.keys() & expected.keys()

    def renamed(states):
        result = {}
        for name, values in states.items():
            if name not in common:
                layer, *attributes = name.split("/")
                name = "/".join([re.sub(r"_\d+$", "", layer), *attributes])
            result[name] = [*result.get(name, []), *values]
        return result

    return renamed(states), renamed(expected)


def _compare_nests(ours, theirs, tolerance, path):
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or sorted(ours) != sorted(theirs):
            yield f"{path}: {ours if not hasattr(ours, 'keys') else [*ours]} " \
                f"for {[*theirs]}"
            return
        for name, value in theirs.items():
            yield from _compare_nests(
                ours[name], value, tolerance, f"{path}/{name}"
            )
    elif isinstance(theirs, (list, tuple)):
        if type(ours) is not type(theirs) or len(ours) != len(theirs):
            yield f"{path}: {ours!r} for {theirs!r}"
            return
        for i, (a, b) in enumerate(zip(ours, theirs)):
            yield from _compare_nests(a, b, tolerance, f"{path}[{i}]")
    elif isinstance(theirs, (str, type(None))):
        if ours != theirs:
            yield f"{path}: {ours!r} for {theirs!r}"
    else:
        problem = _compare_arrays(ours, theirs, tolerance)
        if problem:
            yield f"{path} {problem}"


def variables_of(models, metrics=True):
    """The variables of models, by name.

    Args:
        models: list of Keras models, or layers.
        metrics: bool, whether to list those of metrics.

    Returns:
        Dict from str to a list of arrays: most names are those of one
        variable; nested models may have layers of one name.
    """
    found, seen = {}, set()
    for model in models:
        if not metrics:
            seen |= {id(variable) for variable in model.metrics_variables}
        if _is_graph(model):
            _walk_graph(model, seen, found)
        else:
            _walk(model, model.name, seen, found)
        _walk_rest(model, seen, found)
    return found


def _is_graph(layer):
    return isinstance(layer, keras.Sequential) or hasattr(layer, "operations")


def _walk_graph(model, seen, found):
    # Whether a layer lies in a nested model makes no difference to its name.
    for layer in model.layers:
        if _is_graph(layer):
            _walk_graph(layer, seen, found)
        elif isinstance(layer, SharedLayer):
            owned = {id(variable) for variable in layer.owned}
            others = {id(v) for v in layer.layer.variables} - owned
            _walk(layer.layer, layer.name, seen | others, found)
            seen |= owned
        else:
            _walk(layer, layer.name, seen, found)


def _walk_rest(layer, seen, found):
    """What is no attribute of its layer goes by the name Keras gave it."""
    for variable in layer.variables:
        _walk(variable, variable.path, seen, found)


def _walk(item, name, seen, found):
    if id(item) in seen:
        return
    if isinstance(item, keras.Variable):
        seen.add(id(item))
        value = np.array(keras.ops.convert_to_numpy(item))
        found.setdefault(name, []).append(value)
    elif isinstance(
        item, (keras.Layer, keras.Metric, keras.random.SeedGenerator)
    ):
        seen.add(id(item))
        if _is_graph(item):
            for layer in item.layers:
                _walk(layer, f"{name}/{layer.name}", seen, found)
            return
        for attribute, value in sorted(vars(item).items()):
            if attribute not in _LISTS:
                _walk(value, f"{name}/{attribute.strip('_')}", seen, found)
    elif isinstance(item, dict):
        for key, value in item.items():
            _walk(value, f"{name}/{key}", seen, found)
    elif isinstance(item, (list, tuple)):
        for i, value in enumerate(item):
            _walk(value, f"{name}/{i}", seen, found)


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
