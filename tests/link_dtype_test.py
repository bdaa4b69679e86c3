"""Features and error gradients that cross links in a narrower dtype.

The reference has the same casts as layers of the modules, above and below each
boundary.
"""

import keras
import numpy as np
import pytest
from keras import layers

import fr_keras
from fr_keras.cutting.partition import partition
from tests import small_net


@keras.saving.register_keras_serializable("tests")
class Cast(layers.Layer):
    """Casts its input, and with it the gradient."""

    def __init__(self, to, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.to = to

    def call(self, x):
        return keras.ops.cast(x, self.to)

    def get_config(self):
        return {**super().get_config(), "to": self.to}


def dense_net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([
        keras.Input((5,)),
        layers.Dense(7, activation="tanh"), layers.Dense(6, activation="tanh"),
        layers.Dense(4, activation="tanh"), layers.Dense(3),
    ])


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(24, 5)), rng.normal(size=(24, 3))


def with_casts(modules, dtype):
    """The modules, with layers that cast at each boundary."""
    count = len(modules)
    return [
        keras.Sequential([
            *([Cast(dtype, name=f"up_{k}")] if k else []), module,
            *([Cast("bfloat16", name=f"down_{k}")] if k < count - 1 else []),
        ])
        for k, module in enumerate(modules)
    ]


PAPER = "as in the paper"
METHODS = {
    "backprop": (fr_keras.Backprop, {}),
    "features_replay": (fr_keras.FeaturesReplay, {}),
    PAPER: (
        fr_keras.FeaturesReplay,
        {"weight_prediction": False, "gradient_shrink": 0.5},
    ),
    "ddg": (fr_keras.DDG, {}),
    "gpipe": (fr_keras.GPipe, {"num_microbatches": 2}),
    "zb-h1": (
        fr_keras.Pipeline, {"num_microbatches": 4, "schedule": "zb-h1"}
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.quick_cases(
    "backprop-float32", "features_replay-float64", "zb-h1-float64"
)
def test_as_casts_in_the_modules(method, dtype):
    algorithm, options = METHODS[method]
    x, y = (array.astype(dtype) for array in data())
    weights = []
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        for link_dtype in (None, "bfloat16"):
            network = dense_net()
            if link_dtype is None:
                modules = with_casts(
                    partition(
                        network, 3, replays=method in ("features_replay", PAPER)
                    ),
                    dtype,
                )
                model = algorithm(modules, **options)
            else:
                model = algorithm(
                    network, 3, link_dtype=link_dtype, **options
                )
            model.compile(keras.optimizers.Adam(0.01), "mse")
            model.fit(x, y, 8, epochs=4, shuffle=False, verbose=0)
            weights.append(model.get_weights())
    finally:
        keras.config.set_dtype_policy(before)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def skipping_net(to=None):
    """A skip connection around the second of three modules."""
    keras.utils.set_random_seed(2)

    def down(x):
        return x if to is None else Cast("bfloat16")(x)

    def up(x):
        return x if to is None else Cast(to)(x)

    inputs = keras.Input((5,))
    first = layers.Dense(6, activation="tanh", name="first")(inputs)
    first = down(first)
    second = layers.Dense(6, activation="tanh", name="second")(up(first))
    both = layers.Add(name="both")([up(down(second)), up(first)])
    return keras.Model(inputs, layers.Dense(3, name="last")(both))


def test_skip_connections_are_cast_once():
    x, y = (array.astype("float32") for array in data())
    weights = []
    for model in (
        skipping_net("float32"),
        fr_keras.Backprop(
            skipping_net(), 3, link_dtype="bfloat16",
            costs={"first": 2, "second": 2, "both": 1, "last": 1},
        ),
        skipping_net(),
    ):
        # (XLA would leave out two casts in a row.)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        model.fit(x, y, 8, epochs=4, shuffle=False, verbose=0)
        weights.append([
            next(w for w in model.weights if w.path.endswith(path)).numpy()
            for path in ("first/kernel", "second/kernel", "last/kernel")
        ])
    for plain, ours, uncast in zip(*weights, strict=True):
        np.testing.assert_allclose(plain, ours, rtol=0, atol=1e-6)
        # The comparison can fail.
        assert abs(plain - uncast).max() > 1e-5


def test_what_crosses_and_what_does_not():
    """Features and error gradients are narrow, integers and weights are not."""
    inputs = keras.Input((4,), dtype="int32")
    embedding = layers.Embedding(9, 6, name="words")
    x = layers.Dense(6, activation="tanh", name="hidden")(embedding(inputs))
    outputs = layers.Dense(9)(x)
    model = fr_keras.FeaturesReplay(
        keras.Model(inputs, outputs), 2, link_dtype="bfloat16",
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    tokens = np.arange(32, dtype="int32").reshape((8, 4)) % 9
    model.fit(tokens, tokens, 4, verbose=0)
    inputs_queue, delta_queue = model.pipeline.queues[0]
    assert {v.dtype.name for v in inputs_queue.variables} == {"int32"}
    assert {v.dtype.name for v in delta_queue.variables} == {"bfloat16"}


def test_shared_weights_are_sent_as_they_are():
    """A tied kernel that would be rounded on its way would show."""
    def tied(inputs):
        table = layers.Embedding(9, 6, name="words")
        x = layers.Dense(6, activation="tanh", name="hidden")(table(inputs))
        return Projection(table)(x)

    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,), dtype="int32")
    network = keras.Model(inputs, tied(inputs))
    model = fr_keras.Backprop(network, 2, link_dtype="bfloat16")
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    tokens = np.arange(32, dtype="int32").reshape((8, 4)) % 9
    model.fit(tokens, tokens, 4, verbose=0)
    sent = model.modules[0].outputs
    assert len(sent) == 2  # Features, and the table.
    dtypes = model.pipeline.modules[0].casts.outputs
    for tensor, dtype in zip(sent, dtypes, strict=True):
        is_table = tuple(tensor.shape) == (9, 6)
        assert dtype == (None if is_table else "float32")


@keras.saving.register_keras_serializable("tests")
class Projection(layers.Layer):
    """Logits by the table of an embedding."""

    def __init__(self, table, **kwargs):
        super().__init__(**kwargs)
        self.table = table

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.table.embeddings))

    def get_config(self):
        table = keras.saving.serialize_keras_object(self.table)
        return {**super().get_config(), "table": table}

    @classmethod
    def from_config(cls, config):
        table = keras.saving.deserialize_keras_object(config.pop("table"))
        return cls(table, **config)


def test_checkpoints_of_another_are_refused(tmp_path):
    for link_dtype in ("bfloat16", None):
        model = fr_keras.Backprop(small_net.net(), 2, link_dtype=link_dtype)
        model.compile("sgd", "mse")
        checkpoints = fr_keras.Checkpoints(tmp_path / "checkpoints")
        if link_dtype is not None:
            small_net.fit(model, callbacks=[checkpoints])
            continue
        with pytest.raises(
            fr_keras.CheckpointError, match="link_dtype='bfloat16'"
        ):
            small_net.fit(model, callbacks=[checkpoints])


def test_saved_and_refused(tmp_path):
    model = small_net.compiled()
    assert model.link_dtype is None
    model = fr_keras.FeaturesReplay(small_net.net(), 3, link_dtype="bfloat16")
    model.compile("sgd", "mse")
    small_net.fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.link_dtype == "bfloat16"
    small_net.fit(again)
    with pytest.raises(ValueError, match="None or bfloat16. Received"):
        fr_keras.FeaturesReplay(small_net.net(), 3, link_dtype="float16")
