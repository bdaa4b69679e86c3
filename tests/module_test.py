"""Play and replay of one module."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.engine.features import Features
from fr_keras.engine.module import Module
from fr_keras.engine.playing import play

layers = keras.layers
DEVICE = "/job:localhost/replica:0/task:0/device:CPU:2"


class GlobalNoise(layers.Layer):
    """Draws from Keras' global generator, having none of its own."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class Counter(layers.Layer):
    """Its output depends on a state that moves in every pass."""

    def build(self, input_shape):
        self.count = self.add_weight(initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.count.assign(self.count + 1.0)
        return x * self.count


MAKERS = {
    "dropout": lambda: [layers.Dropout(0.5)],
    "spatial dropout": lambda: [
        layers.Reshape((3, 2)), layers.SpatialDropout1D(0.5), layers.Flatten()
    ],
    "noise": lambda: [layers.GaussianNoise(0.5)],
    "gaussian dropout": lambda: [layers.GaussianDropout(0.5)],
    "alpha dropout": lambda: [layers.AlphaDropout(0.5)],
    "global": lambda: [GlobalNoise(), GlobalNoise()],
    "lambda": lambda: [
        layers.Lambda(lambda x: x + keras.random.uniform(keras.ops.shape(x)))
    ],
    "lstm": lambda: [
        layers.Reshape((3, 2)),
        layers.LSTM(6, dropout=0.5, recurrent_dropout=0.5),
    ],
    "stateful lstm": lambda: [
        layers.Reshape((3, 2)), layers.LSTM(6, stateful=True)
    ],
    "batch norm": lambda: [layers.BatchNormalization()],
    "renorm": lambda: [layers.BatchNormalization(renorm=True)],
    "spectral": lambda: [layers.SpectralNormalization(layers.Dense(6))],
    "state": lambda: [Counter()],
    "nested": lambda: [
        keras.Sequential([layers.Dense(6), layers.Dropout(0.5)])
    ],
    "augmentation": lambda: [
        layers.Reshape((6, 1, 1)),
        layers.RandomFlip("vertical"),
        layers.RandomTranslation(0.5, 0.0),
        layers.RandomContrast(0.5),
        layers.Flatten(),
    ],
}


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("name", list(MAKERS))
def test_replayed_features_are_played_features(name, in_graph):
    """As long as weights do not move, exactly; two plays apart, the same."""
    module = Module(
        keras.Sequential([layers.Dense(6), *MAKERS[name]()]), DEVICE
    )
    batches = [
        tf.constant(
            np.random.default_rng(i).normal(size=(4, 5)), tf.float32
        )
        for i in range(3)
    ]
    module.build(keras.KerasTensor((4, 5)), [True], is_last=False)

    def forward(x, state):
        pairs = zip(module.replayed_state, state)
        return module.forward(Features([x], [None]), pairs)[0]

    def played(x):
        return play(module, Features([x], [None]))

    if in_graph:
        forward, played = map(tf.function, (forward, played))
    features = [played(x) for x in batches]
    for x, (made, _, _, state) in reversed([*zip(batches, features)]):
        replayed = forward(x, state)
        # A play of spectral normalization moves the weights themselves, to
        # others that are the same but for rounding.
        np.testing.assert_allclose(
            replayed.tensors[0], made.tensors[0],
            rtol=1e-4 if name == "spectral" else 0,
        )
    if name not in ("batch norm", "state", "spectral", "stateful lstm"):
        # Random numbers go on from play to play.
        again = played(batches[0])[0].tensors[0].numpy()
        if name != "renorm":
            assert (again != features[0][0].tensors[0].numpy()).any()


def test_averages_of_batch_normalization_are_not_stored():
    module = Module(
        keras.Sequential([layers.Dense(6), layers.BatchNormalization()]),
        DEVICE,
    )
    module.build(keras.KerasTensor((4, 5)), [True], is_last=False)
    x = Features([tf.ones([4, 5])], [None])
    _, (_, kept_state, _), _, state = play(module, x)
    assert state == kept_state == []


def test_modules_draw_different_numbers_from_the_global_generator():
    modules = [
        Module(keras.Sequential([layers.Dense(3), GlobalNoise()]), DEVICE)
        for _ in range(2)
    ]
    x = Features([tf.zeros([4, 5])], [None])
    noise = []
    for module in modules:
        module.build(keras.KerasTensor((4, 5)), [True], is_last=False)
        noise.append(play(module, x)[0].tensors[0].numpy())
    assert (noise[0] != noise[1]).any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + tf.random.normal(tf.shape(x)),
        lambda x: x * tf.random.uniform(tf.shape(x)),
        lambda x: tf.nn.dropout(x, 0.5),
        lambda x: tf.while_loop(
            lambda i, x: i < 2,
            lambda i, x: (i + 1, x + tf.random.truncated_normal(tf.shape(x))),
            (0, x),
        )[1],
    ],
)
def test_random_numbers_that_cannot_be_drawn_again(function):
    network = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3),
            layers.Lambda(function, output_shape=(3,), name="random"),
            layers.Dense(3),
            layers.Dense(3),
        ]
    )
    for algorithm in (fr_keras.FeaturesReplay, fr_keras.GPipe):
        model = algorithm(network, 2)
        model.compile("sgd", "mse")
        with pytest.raises(
            ValueError, match="keras.random.*Received: .*random.*"
        ):
            model.fit(np.ones([4, 4]), np.ones([4, 3]), verbose=0)
    # Back-propagation has nothing to replay.
    model = fr_keras.Backprop(network, 2)
    model.compile("sgd", "mse")
    model.fit(np.ones([4, 4]), np.ones([4, 3]), verbose=0)


class Counting(layers.Layer):
    """Counts its calls in a variable that is none of Keras'."""

    def __init__(self, wrap=lambda function: function):
        super().__init__(name="counting")
        self.count = tf.Variable(0)
        self.add_one = wrap(lambda: self.count.assign_add(1))

    def call(self, x):
        self.add_one()
        return x

    def get_config(self):
        return {}


class CountingInBranch(layers.Layer):
    def __init__(self):
        super().__init__(name="counting")
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, x):
        def count():
            self.count.assign(self.count + 1.0)
            return x

        return keras.ops.cond(keras.ops.sum(x) > 0, count, lambda: x)


def test_state_that_is_assigned_in_a_branch():
    network = keras.Sequential([
        keras.Input((4,)), layers.Dense(3), CountingInBranch(), layers.Dense(3)
    ])
    for algorithm in (fr_keras.FeaturesReplay, fr_keras.Backprop):
        model = algorithm(network, 2)
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="a branch.*Received: .*count"):
            model.fit(np.ones([4, 4]), np.ones([4, 3]), verbose=0)


@pytest.mark.parametrize("wrap", [lambda function: function, tf.function])
def test_state_that_a_replay_would_move_again(wrap):
    network = keras.Sequential([
        keras.Input((4,)), layers.Dense(3), Counting(wrap), layers.Dense(3),
        layers.Dense(3),
    ])
    data = np.ones([8, 4]), np.ones([8, 3])
    for algorithm in (fr_keras.FeaturesReplay, fr_keras.GPipe):
        model = algorithm(network, 2, copy=False)
        model.compile("sgd", "mse")
        with pytest.raises(
            ValueError, match="must be a keras.Variable.*Received.*Assign"
        ):
            model.fit(*data, batch_size=4, verbose=0)
    # Where nothing is replayed it is counted as in stock Keras.
    for model in (
        fr_keras.Backprop(network, 2, copy=False),
        fr_keras.GPipe(network, 2, copy=False, num_microbatches=1,
                       recompute=False),
    ):
        count = network.get_layer("counting").count
        count.assign(0)
        model.compile("sgd", "mse")
        model.fit(*data, batch_size=4, verbose=0)
        assert int(count) == 2
