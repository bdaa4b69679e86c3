"""A small training on the devices, compared with NumPy and with the CPU."""

import keras
import numpy as np
import tensorflow as tf

import fr_keras
from trainers.checkup import reference
from trainers.checkup.findings import FAIL, OK, Finding, failures_of

_BATCH, _STEPS = 16, 12
# float32 has 24 bits; some are lost in a training of 12 iterations.
_TOLERANCE = 1e-4
# How much farther from float64 than the CPU's float32 a device may be.
_FACTOR = 10


def examine(devices, report):
    """Trains on the devices, and reports whether the numbers are right.

    Args:
        devices: list of K full device names, one for each module.
        report: callable that takes a `Finding`.
    """
    for subject, check in (
        ("Algorithm", _check_algorithm), ("Layers", _check_layers),
        ("XLA", _check_xla), ("Repeatable", _check_repeatable),
    ):
        with failures_of(subject, report):
            report(Finding(*check(subject, devices)))


def _check_algorithm(subject, devices):
    """Dense layers, compared with NumPy."""
    error = algorithm_error(devices)
    text = (
        f"Features Replay, K = {len(devices)}, float32, {_STEPS} iterations: "
        f"weights differ from NumPy's in float64 by {error:.1e} of the largest"
    )
    return _judged(subject, text, error, _TOLERANCE)


def _check_layers(subject, devices):
    """Convolutions and normalization, compared with the CPU."""
    return _compared_with_cpu(subject, devices, "convolutions", False)


def _check_xla(subject, devices):
    """The same, compiled."""
    return _compared_with_cpu(subject, devices, "compiled", True)


def _check_repeatable(subject, devices):
    """Twice the same bits."""
    # (Not earlier: XLA is refused with it.)
    tf.config.experimental.enable_op_determinism()
    one, other = (_trained_network(devices) for _ in range(2))
    if all(map(np.array_equal, one, other)):
        return OK, subject, "with --deterministic, the same bits every time"
    return (
        FAIL, subject,
        "two trainings with op determinism differ; do not rely on "
        "--deterministic here",
    )


def _compared_with_cpu(subject, devices, what, jit_compile):
    cpu = [fr_keras.cluster.host(devices[0])] * len(devices)
    exact = _trained_network(cpu, "float64")
    expected = _distance(_trained_network(cpu), exact)
    error = _distance(
        _trained_network(devices, jit_compile=jit_compile), exact
    )
    text = (
        f"{what}, float32: weights differ from float64 by {error:.1e} of the "
        f"largest, {expected:.1e} on the CPU alone"
    )
    return _judged(
        subject, text, error, max(_TOLERANCE, _FACTOR * expected)
    )


def _judged(subject, text, error, tolerance):
    # (A comparison with NaN is false.)
    if error <= tolerance:
        return OK, subject, text
    return FAIL, subject, f"{text}; at most {tolerance:.1e} is expected"


def algorithm_error(devices):
    """The difference between Features Replay on devices and in NumPy.

    Args:
        devices: list of K full device names.

    Returns:
        float, as a fraction of the largest weight.
    """
    keras.utils.set_random_seed(0)
    modules = [
        keras.Sequential([
            keras.Input((8,)),
            *(keras.layers.Dense(8, "tanh") for _ in range(2)),
        ])
        for _ in devices
    ]
    exact = [
        [
            [weight.numpy().astype("float64") for weight in layer.weights]
            for layer in module.layers
        ]
        for module in modules
    ]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=[2, _STEPS * _BATCH, 8])
    batches = [*zip(np.split(x, _STEPS), np.split(y, _STEPS))]
    reference.features_replay(exact, batches, 0.1, 0.9)
    model = fr_keras.FeaturesReplay(
        modules, devices=devices, weight_prediction=False
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "mse",
        steps_per_execution=4, jit_compile=False,
    )
    model.fit(x, y, batch_size=_BATCH, shuffle=False, verbose=0)
    return _distance(
        [weight.numpy() for module in modules for weight in module.weights],
        [weight for module in exact for layer in module for weight in layer],
    )


def _trained_network(devices, dtype="float32", jit_compile=False):
    """The weights after training a small convolutional network.

    Args:
        devices: list of K full device names.
        dtype: str, of all computations.
        jit_compile: bool, whether XLA compiles the modules.

    Returns:
        List of arrays.
    """
    keras.utils.set_random_seed(0)
    start = _network(len(devices), "float32").get_weights()
    network = _network(len(devices), dtype)
    # (Initializers draw other numbers for each type.)
    network.set_weights(start)
    model = fr_keras.FeaturesReplay(network, len(devices), devices)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=4, jit_compile=jit_compile,
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=[_STEPS * _BATCH, 8, 8, 3]).astype(dtype)
    y = rng.integers(0, 4, _STEPS * _BATCH)
    model.fit(x, y, batch_size=_BATCH, shuffle=False, verbose=0)
    return [weight.numpy() for weight in model.to_keras().weights]


def _network(num_modules, dtype):
    layers = [keras.Input((8, 8, 3), dtype=dtype)]
    for _ in range(num_modules):
        layers += [
            keras.layers.Conv2D(8, 3, padding="same", dtype=dtype),
            fr_keras.layers.FusedBatchNormalization(dtype=dtype),
            keras.layers.ReLU(dtype=dtype),
        ]
    return keras.Sequential([
        *layers, keras.layers.GlobalAveragePooling2D(dtype=dtype),
        keras.layers.Dense(4, dtype=dtype),
    ])


def _distance(weights, exact):
    """The largest difference, as a fraction of the largest weight."""
    largest = max(np.abs(weight).max() for weight in exact)
    return float(max(
        np.abs(np.subtract(*pair)).max() for pair in zip(weights, exact)
    ) / largest)
