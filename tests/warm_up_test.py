"""The iterations before the first error gradients have arrived."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from tests.small_net import assert_same, data, fit, values

layers = keras.layers
DELAYED = [fr_keras.FeaturesReplay, fr_keras.DDG]


def dense_net():
    return keras.Sequential([
        keras.Input((6,)), *(layers.Dense(4, "tanh") for _ in range(4)),
    ])


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("algorithm", DELAYED)
@pytest.mark.quick_cases("FeaturesReplay-2", "DDG-3")
def test_warm_up_is_in_the_graph_of_all_iterations(algorithm, steps):
    model = algorithm(dense_net(), 4)
    model.compile("adam", "mse", steps_per_execution=steps)
    x, _ = data()
    fit(model, x, np.ones((len(x), 4), "float32"))
    assert model.training.num_iterations == 6
    assert model.training.traces == 1


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("algorithm", DELAYED)
@pytest.mark.quick_cases("FeaturesReplay-2")
def test_batches_of_all_sizes_in_warm_up(algorithm, steps):
    """No module mixes up the sizes of those that have not arrived yet."""
    network = dense_net()
    model, other = (algorithm(network, 4) for _ in range(2))
    x, _ = data()
    sizes = [3, 1, 4, 2, 1, 3]
    ends = np.cumsum(sizes)
    batches = [
        (x[stop - size:stop], np.ones((size, 4), "float32"))
        for stop, size in zip(ends, sizes)
    ]
    for each, options in (
        (model, {"steps_per_execution": steps}), (other, {"run_eagerly": True}),
    ):
        each.compile(keras.optimizers.SGD(0.1, 0.5), "mse", **options)
        each.fit(
            tf.data.Dataset.from_generator(lambda: batches, output_signature=(
                tf.TensorSpec([None, *x.shape[1:]]), tf.TensorSpec([None, 4]),
            )),
            verbose=0,
        )
    assert model.training.num_iterations == other.training.num_iterations == 6
    assert_same(values(model), values(other), rtol=1e-5)


class StopsAfter(keras.callbacks.Callback):
    """Stops a training as an interruption would."""

    def __init__(self, calls):
        super().__init__()
        self._calls = calls

    def on_train_batch_end(self, batch, logs=None):
        self._calls -= 1
        if not self._calls:
            raise KeyboardInterrupt


@pytest.mark.parametrize("calls, steps", [(1, 1), (2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("algorithm", DELAYED)
@pytest.mark.quick_cases("FeaturesReplay-1-2", "DDG-2-1")
def test_interrupted_in_warm_up(tmp_path, algorithm, calls, steps):
    """What has not arrived yet is not restored as if it had."""
    keras.utils.set_random_seed(0)
    network = dense_net()
    x, _ = data()
    y = np.ones((len(x), 4), "float32")

    def train(*callbacks):
        model = algorithm(network, 4)
        model.compile(
            keras.optimizers.Adam(0.01), "mse", steps_per_execution=steps
        )
        fit(model, x, y, callbacks=[
            fr_keras.Checkpoints(tmp_path / "interrupted", every_steps=1),
            *callbacks,
        ] if callbacks else None)
        return model

    expected = train()
    with pytest.raises(KeyboardInterrupt):
        train(StopsAfter(calls))
    resumed = train(keras.callbacks.Callback())
    assert resumed.training.num_iterations == 6
    assert_same(values(resumed), values(expected))
