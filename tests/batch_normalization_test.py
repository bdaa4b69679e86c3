"""The fused layer against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fr_keras.layers import FusedBatchNormalization

# Of a result's largest value, or of 1 where that is larger.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2.0**-7, "float16": 2.0**-10}
POLICIES = ["float32", "mixed_bfloat16", "mixed_float16"]
KERNELS = {"FusedBatchNormV3", "FusedBatchNormGradV3"}


def pair(shape, **kwargs):
    """The layer and Keras', with the same weights, none as initialized."""
    layers = []
    for cls in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = cls(momentum=0.9, epsilon=0.1, **kwargs)
        layer.build(shape)
        rng = np.random.default_rng(0)
        for variable in layer.variables:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        layers.append(layer)
    return layers


def random_inputs(shape, dtype="float32"):
    x = np.random.default_rng(1).normal(2.0, 3.0, shape)
    return tf.cast(x, dtype)


def compute(layer, x, **kwargs):
    """Outputs and gradients, by name."""
    # Of outputs summed without weights, x would have no gradient.
    weights = tf.cos(tf.range(tf.cast(tf.size(x), tf.float32)))
    weights = tf.cast(tf.reshape(weights, tf.shape(x)), x.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, **kwargs)
        loss = tf.reduce_sum(outputs * weights)
    variables = {v.name: v.value for v in layer.trainable_variables}
    gradients = tape.gradient(loss, {"x": x, **variables})
    return {"outputs": outputs, **gradients}


def statistics(layer):
    return {v.name: v.numpy() for v in layer.non_trainable_variables}


def operations(layer, x, **kwargs):
    """The graph of one forward and backward pass."""
    function = tf.function(lambda x: compute(layer, x, **kwargs))
    return function.get_concrete_function(x).graph.get_operations()


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        assert actual[name].shape == value.shape
        largest = np.max(np.abs(value), initial=1.0)
        np.testing.assert_allclose(
            tf.cast(actual[name], "float64"),
            tf.cast(value, "float64"),
            rtol=0.0,
            atol=TOLERANCE[value.dtype.name] * float(largest),
            err_msg=name,
        )


def assert_identical(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


# Results.


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_equals_keras(training, center, scale, dtype):
    shape = (4, 5, 6, 7)
    layer, reference = pair(shape, center=center, scale=scale, dtype=dtype)
    x = random_inputs(shape, layer.compute_dtype)
    before = statistics(layer)["moving_variance"]
    for _ in range(2):  # The statistics of one pass go into the next.
        assert_close(
            compute(layer, x, training=training),
            compute(reference, x, training=training),
        )
        assert_close(statistics(layer), statistics(reference))
    after = statistics(layer)["moving_variance"]
    assert (before != after).all() == training


@pytest.mark.parametrize(
    "dtype, inputs_dtype",
    [("mixed_bfloat16", "float32"), ("float32", "float64")],
)
def test_inputs_that_are_not_cast(dtype, inputs_dtype):
    shape = (4, 5, 6, 7)
    layer, reference = pair(shape, dtype=dtype, autocast=False)
    x = random_inputs(shape, inputs_dtype)
    assert_close({"outputs": layer(x)}, {"outputs": reference(x)})


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 1, 2, 3), (3, 1, 1, 3)])
def test_few_pixels(shape):
    """The unbiased variance, n / (n - 1) σ², is far from the biased one."""
    layer, reference = pair(shape)
    x = random_inputs(shape)
    assert_close(
        compute(layer, x, training=True), compute(reference, x, training=True)
    )
    assert_close(statistics(layer), statistics(reference))


def test_empty_batch():
    """In inference; in training its statistics are NaN, also in Keras."""
    layer, reference = pair((0, 4, 4, 3))
    x = tf.zeros([0, 4, 4, 3])
    assert_close(compute(layer, x), compute(reference, x))


def test_one_trace_serves_all_sizes():
    layer, reference = pair((None, None, None, 3))
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def step(x):
        traces.append(x)
        return compute(layer, x, training=True)

    for size in [(4, 5, 6), (1, 1, 1), (2, 1, 1), (1, 7, 3)]:
        x = random_inputs((*size, 3))
        assert_close(step(x), compute(reference, x, training=True))
        assert_close(statistics(layer), statistics(reference))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [True, False])
def test_xla(training, dtype):
    shape = (4, 5, 6, 7)
    layer, reference = pair(shape, dtype=dtype)
    x = random_inputs(shape, layer.compute_dtype)
    step = tf.function(compute, jit_compile=True)
    assert_close(
        step(layer, x, training=training),
        compute(reference, x, training=training),
    )
    assert_close(statistics(layer), statistics(reference))


@pytest.mark.parametrize("training", [True, False])
def test_stateless_call(training):
    """New statistics are returned, those of the layer stay as they are."""
    shape = (4, 5, 6, 7)
    layer, reference = pair(shape)
    x = random_inputs(shape)
    before = statistics(layer)
    results = []
    for each in (layer, reference):
        outputs, new = each.stateless_call(
            [v + 1.0 for v in each.trainable_variables],
            [v + 1.0 for v in each.non_trainable_variables],
            x,
            training=training,
        )
        results.append(
            {"outputs": outputs, **{str(i): v for i, v in enumerate(new)}}
        )
    assert_close(*results)
    assert_identical(statistics(layer), before)


def test_frozen():
    shape = (4, 5, 6, 7)
    layer, reference = pair(shape)
    layer.trainable = reference.trainable = False
    x = random_inputs(shape)
    before = statistics(layer)

    actual = compute(layer, x, training=True)

    assert actual.keys() == {"outputs", "x"}
    assert_close(actual, compute(reference, x, training=True))
    assert_identical(actual, compute(layer, x, training=False))
    assert_identical(statistics(layer), before)
    used = [
        operation.get_attr("is_training")
        for operation in operations(layer, x, training=True)
        if operation.type in KERNELS
    ]
    assert used == [False, False]


# The kernel.


@pytest.mark.parametrize("dtype", POLICIES)
@pytest.mark.parametrize("kwargs", [{}, {"axis": 3}, {"scale": False}])
@pytest.mark.parametrize("training", [True, False])
def test_fused(training, kwargs, dtype):
    """Each direction is one operation, and nothing else normalizes."""
    shape = (None, None, None, 3)
    layer, _ = pair(shape, dtype=dtype, **kwargs)
    x = tf.TensorSpec(shape, layer.compute_dtype)
    found = operations(layer, x, training=training)
    fused = [operation for operation in found if operation.type in KERNELS]
    assert [operation.type for operation in fused] == [
        "FusedBatchNormV3", "FusedBatchNormGradV3"
    ]
    for operation in fused:
        assert operation.get_attr("is_training") == training
        assert operation.get_attr("data_format") == b"NHWC"
    assert not {operation.type for operation in found} & {"Rsqrt", "Sqrt"}


@pytest.mark.parametrize(
    "shape, kwargs",
    [
        ((8, 3), {}),
        ((4, 5, 3), {}),
        ((2, 2, 4, 5, 3), {}),
        ((4, 3, 5, 6), {"axis": 1}),
        ((4, 5, 3, 6), {"axis": -2}),
        ((4, 5, 6, 3), {"dtype": "float64"}),
        # The kernel's weights must be float32.
        ((4, 5, 6, 3), {"dtype": "float16"}),
        ((4, 5, 6, 3), {"dtype": "bfloat16"}),
        ((4, 5, 6, 3), {"renorm": True}),
        ((4, 5, 6, 3), {"synchronized": True}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_left_to_keras(training, shape, kwargs):
    layer, reference = pair(shape, **kwargs)
    x = random_inputs(shape, layer.compute_dtype)
    assert not KERNELS & {
        operation.type
        for operation in operations(layer, x, training=training)
    }
    assert_identical(
        compute(layer, x, training=training),
        compute(reference, x, training=training),
    )
    assert_identical(statistics(layer), statistics(reference))


@pytest.mark.parametrize("training", [True, False])
def test_mask_is_left_to_keras(training):
    shape = (4, 5, 6, 3)
    layer, reference = pair(shape)
    x = random_inputs(shape)
    mask = tf.constant(np.random.default_rng(2).random(shape[:3]) < 0.5)
    assert_identical(
        compute(layer, x, training=training, mask=mask),
        compute(reference, x, training=training, mask=mask),
    )
    assert_identical(statistics(layer), statistics(reference))
    # The mask changes the statistics of training, and only them.
    unmasked, _ = pair(shape)
    compute(unmasked, x, training=training)
    difference = layer.moving_mean - unmasked.moving_mean
    assert np.array(difference != 0.0).all() == training


# Configuration.


def test_config():
    arguments = dict(
        axis=3, momentum=0.5, epsilon=0.01, center=False, scale=False,
        gamma_initializer="zeros", beta_regularizer="l2",
        gamma_constraint="non_neg", trainable=False, name="norm",
        dtype="mixed_bfloat16",
    )
    layer = FusedBatchNormalization(**arguments)
    config = layer.get_config()
    assert config == keras.layers.BatchNormalization(**arguments).get_config()
    copy = FusedBatchNormalization.from_config(config)
    assert copy.get_config() == config


def test_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((5, 6, 3)),
            FusedBatchNormalization(momentum=0.5, epsilon=0.1, name="a"),
            FusedBatchNormalization(scale=False, center=False, name="b"),
        ]
    )
    x = random_inputs((4, 5, 6, 3))
    model(x, training=True)  # Moves the statistics.
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    for layer, original in zip(loaded.layers, model.layers):
        assert type(layer) is FusedBatchNormalization
        assert layer.get_config() == original.get_config()
    for training in (False, True):
        np.testing.assert_array_equal(
            loaded(x, training=training), model(x, training=training)
        )
    assert (
        keras.saving.get_registered_name(FusedBatchNormalization)
        == "fr_keras>FusedBatchNormalization"
    )
