"""The other methods, on a sample of layers.

With one module all of them are back-propagation, and are compared with Keras.
With more, GPipe is still Keras' training where examples do not see each other;
Features Replay and DDG are compared with plain references that run Keras'
layers eagerly (`tests/reference.py`, and `delayed_backprop` here).
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests import comparison, reference
from tests.differential import custom_layer_cases, graph_cases, layer_cases
from tests.differential.harness import Case, check
from tests.differential.networks import data, network

layers = keras.layers

# What moves no state in the midst of a training, or the usual state: averages,
# random numbers, counters. tests/any_model_test.py has whole models.
SAMPLE = [
    ("BatchNormalization", "of images"),
    ("Bidirectional", "sum of sequences"),
    ("Conv2D", "kernel regularizer, constraint"),
    ("Dropout", "called twice"),
    ("Embedding", "mask_zero"),
    ("GRU", "dropout"),
    ("GroupNormalization", ""),
    ("MultiHeadAttention", "masked, dropout"),
    ("RandomFlip", ""),
    ("TimeDistributed", "of batch normalization"),
]
# Of these, what is the same for an example whatever else is in its batch.
OF_SINGLE_EXAMPLES = [
    ("Bidirectional", "sum of sequences"),
    ("Conv2D", "kernel regularizer, constraint"),
    ("Dense", "regularizers"),
    ("Dot", "normalize"),
    ("Embedding", "mask_zero"),
    ("GroupNormalization", ""),
    ("LayerNormalization", "axes"),
    ("LSTM", "masked"),
    ("MultiHeadAttention", "causal"),
    ("PReLU", "shared_axes"),
]


def ids(row):
    return " ".join(filter(None, row))


@pytest.mark.slow
@pytest.mark.parametrize("row", SAMPLE, ids=ids)
@pytest.mark.parametrize(
    "algorithm", [fr_keras.FeaturesReplay, fr_keras.DDG, fr_keras.DNI]
)
def test_one_module_is_trained_as_by_keras(algorithm, row):
    check(layer_cases.case(*row, num_modules=(1,), algorithm=algorithm))


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "metric in a layer", "codebook", "frozen query of attention",
    "regularizer of a variable", "counter",
])
def test_one_module_with_a_layer_of_a_user(name):
    kind, make = custom_layer_cases.CASES[name]
    check(layer_cases.of_kind(
        kind, make, num_modules=(1,), algorithm=fr_keras.FeaturesReplay
    ))


@pytest.mark.slow
@pytest.mark.parametrize("row", OF_SINGLE_EXAMPLES, ids=ids)
def test_gpipe(row):
    """Two micro-batches of a batch are, together, the batch.

    (All batches are of two or four examples, so that they can be divided.)
    """
    check(layer_cases.case(
        *row, num_modules=(2, 4),
        algorithm=functools.partial(fr_keras.GPipe, num_microbatches=2),
    ))


@pytest.mark.parametrize("schedule, recompute", [
    ("1f1b", False), ("zb-h1", False), ("zb-h1", True), ("zb-h2", False),
])
@pytest.mark.parametrize(
    # A masked loss is another one in micro-batches.
    "row", [row for row in OF_SINGLE_EXAMPLES if "mask" not in row[1]], ids=ids
)
@pytest.mark.quick_cases("Dot normalize-zb-h1-False")
def test_exact_pipelines(row, schedule, recompute):
    check(layer_cases.case(
        *row, num_modules=(2, 4), algorithm=functools.partial(
            fr_keras.Pipeline, num_microbatches=2, schedule=schedule,
            recompute=recompute,
        ),
    ))


def squares(outputs, y):
    return tf.reduce_mean((outputs - y) ** 2)


def long_data(kind):
    """x and y of 15 batches and one of another size."""
    arguments = data(kind)

    def longer(array):
        rng = np.random.default_rng(0)
        chosen = rng.integers(0, len(array), 15 * comparison.BATCH + 2)
        return np.array(array)[chosen]

    return keras.tree.map_structure(longer, (arguments["x"], arguments["y"]))


@pytest.mark.slow
@pytest.mark.parametrize("num_modules", [2, 4])
@pytest.mark.parametrize(
    "row", [row for row in SAMPLE if row[0] != "Conv2D"], ids=ids
)
def test_features_replay(float64, row, num_modules):
    # (The reference's rule knows no constraints.)
    kind, make = layer_cases.LAYERS[row[0]][row[1]]
    x, y = long_data(kind)
    comparison.check(
        network(kind, make()), x, (y,), squares, num_modules,
        loss="mse", fit={"y": y}, rate=2.0**-6,
    )


@pytest.mark.parametrize("name", [
    "fine-tuned",
    pytest.param("nested dicts", marks=pytest.mark.slow),
    pytest.param("operations", marks=pytest.mark.slow),
    pytest.param("nested, training=True", marks=pytest.mark.slow),
])
def test_features_replay_of_graphs(float64, name):
    x, y = long_data("vector")
    comparison.check(
        graph_cases.CASES[name].make(), x, (y,), squares, 3,
        loss="mse", fit={"y": y}, rate=2.0**-6,
    )


def delayed_backprop(models, batches, rate, delays):
    """`reference.delayed_backprop` of any Keras models, run eagerly.

    Args:
        models: list of built Keras models, k = 1 … K; they hold the trained
            weights afterwards.
        batches: list of `(x, y)`.
        rate: float, of `reference.SGD` with `comparison.MOMENTUM`.
        delays: list of int, of how many iterations ago the gradient of each
            module is.

    Returns:
        List of the losses.
    """
    rules = [
        reference.SGD(comparison.MOMENTUM, nesterov=False) for _ in models
    ]
    gradients, losses = [], []
    for t, (x, y) in enumerate(batches):
        weights = [[v.value for v in m.trainable_variables] for m in models]
        with tf.GradientTape() as tape:
            h = keras.tree.map_structure(tf.constant, x)
            of_layers = []
            for model in models:
                h = model(h, training=True)
                of_layers += model.losses
            terms = [squares(h, y), *of_layers]
        losses.append(sum(map(float, terms)))
        gradients.append(tape.gradient(terms, weights))
        for k, model in enumerate(models):
            if t < delays[k]:
                continue
            for i, variable in enumerate(model.trainable_variables):
                g = gradients[t - delays[k]][k][i]
                if g is not None:
                    g = tf.convert_to_tensor(g).numpy()
                    variable.assign(rules[k](i, variable.numpy(), g, rate))
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("num_modules", [2, 4])
@pytest.mark.parametrize(
    "row", [row for row in SAMPLE if row[0] != "Conv2D"], ids=ids
)
def test_ddg(float64, row, num_modules):
    kind, make = layer_cases.LAYERS[row[0]][row[1]]
    x, y = long_data(kind)
    net = network(kind, make())
    model = fr_keras.DDG(net, num_modules)
    expected = comparison.clones(net, model)
    rate, batch = 2.0**-6, comparison.BATCH
    batches = [
        keras.tree.map_structure(lambda a, i=i: a[i : i + batch], (x, y))
        for i in range(0, len(y), batch)
    ]
    delays = [num_modules - k for k in range(1, num_modules + 1)]
    losses = delayed_backprop(expected, batches, rate, delays)

    model.compile(
        keras.optimizers.SGD(rate, comparison.MOMENTUM), "mse",
        steps_per_execution=4,
    )
    history = model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)

    sizes = [len(labels) for _, labels in batches]
    np.testing.assert_allclose(
        history.history["loss"][0], np.average(losses, weights=sizes),
        rtol=1e-10,
    )
    for module, copy in zip(model.modules, expected):
        for ours, theirs in zip(module.variables, copy.variables):
            error = np.max(np.abs(ours.numpy() - theirs.numpy()))
            scale = max(np.max(np.abs(theirs.numpy())), 1e-4)
            assert error <= 1e-10 * scale, ours.path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeply nested", "siamese", "fine-tuned"])
def test_one_module_of_a_graph(name):
    case = graph_cases.CASES[name]
    check(Case(
        case.make, fit=case.fit, num_modules=(1,),
        algorithm=fr_keras.FeaturesReplay,
    ))
