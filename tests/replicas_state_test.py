"""Tests of replicas: what is resumed, seen and refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras
from fr_keras.replicas.fingerprint import Fingerprints
from tests.pipelines import (
    assert_alike,
    assert_copies_are_equal,
    data,
    fit,
    loss,
    made,
    net,
)


def killed_after(batches):
    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.global_step >= batches:
                raise KeyboardInterrupt

    return Killed()


def test_resumed_bit_for_bit(tmp_path):
    """Queues, δ and random numbers of all pipelines are restored."""
    x, y = data()

    def trained(*callbacks):
        model = made(
            "FeaturesReplay", 2, 2, net(normalized=True, dropout=0.3),
            keras.optimizers.Adam(0.01),
        )
        try:
            fit(model, x, y, epochs=4, callbacks=list(callbacks))
        except KeyboardInterrupt:
            return None
        return model

    def checkpoints(name):
        return fr_keras.Checkpoints(tmp_path / name, every_steps=1, keep=2)

    whole = trained(checkpoints("whole"))
    assert trained(checkpoints("resumed"), killed_after(8)) is None
    resumed = trained(checkpoints("resumed"))
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        whole.training.state_variables(), resumed.training.state_variables(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("replicas", [1, 3])
def test_resumed_with_another_number(tmp_path, replicas, caplog):
    """Weights and optimizer continue; queues begin empty."""
    x, y = data()

    def checkpoints():
        return fr_keras.Checkpoints(tmp_path, every_steps=1)

    first = made("FeaturesReplay", 2, 2)
    fit(first, x, y, epochs=2, callbacks=[checkpoints()])
    model = made("FeaturesReplay", 2, replicas)
    fit(model, x, y, epochs=2, callbacks=[checkpoints()])
    assert_alike(first, model)  # Nothing was left to do.
    assert f"with {replicas}, training resumes with empty" in caplog.text
    steps = model.optimizer.global_step
    model = made("FeaturesReplay", 2, replicas)
    fit(model, x, y, epochs=3, callbacks=[checkpoints()])
    assert model.optimizer.global_step > steps
    assert_copies_are_equal(model)


def test_one_pipeline_pays_nothing():
    """Neither checksums nor another assignment of averages."""
    model = made("FeaturesReplay", 2, 1, net(normalized=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "fr_keras.replicas.synchronization.Fingerprints", None
        )
        fit(model, *data(), epochs=1)
    graph = model.training.graph
    assert not [
        op for op in graph.get_operations()
        if op.type == "AssignVariableOp" and "moving" in op.inputs[0].name
    ]
    assert not [op for op in graph.get_operations() if op.type == "AddN"]


def test_summary_and_devices(capsys):
    model = made("FeaturesReplay", 2, 3)
    assert model.devices == tuple(
        f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in (0, 1)
    )
    model.summary()
    printed = capsys.readouterr().out
    assert "Copy 2 of all modules: CPU:2, CPU:3\n" in printed
    assert "Copy 3 of all modules: CPU:4, CPU:5\n" in printed
    default = fr_keras.FeaturesReplay(net(), replicas=4)
    assert (default.num_modules, default.replicas) == (2, 4)


@pytest.mark.parametrize("change", [
    lambda v: v.assign(v + 1e-9),
    lambda v: v.assign(v[::-1]),
    lambda v: v.assign(tf.roll(v, 1, 1)),
])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_fingerprints(change, dtype):
    variable = keras.Variable(np.random.default_rng(0).normal(size=(5, 3)),
                              dtype=dtype)
    if dtype != "float64":
        change = {0: lambda v: v.assign(v + 0.01)}.get(id(change), change)
    prints = Fingerprints([("/device:CPU:0", [variable])])
    before, again = prints.read(), prints.read()
    assert before == again
    old = np.array(variable)
    change(variable)
    assert (prints.read() == before) == np.array_equal(old, variable)


# What cannot be right is refused.


@pytest.mark.parametrize("replicas", [0, -1, 1.5, True, "2"])
def test_number_is_invalid(replicas):
    with pytest.raises(ValueError, match="`replicas` must be an integer"):
        fr_keras.Backprop(net(), 2, replicas=replicas)


def test_devices_cannot_be_divided():
    with pytest.raises(ValueError, match="multiple of `replicas`.*8 devices"):
        fr_keras.Backprop(net(), replicas=3)


def refused(match, network=None, of_loss=None, x=None, **compiled):
    model = fr_keras.Backprop(network or net(), 1, replicas=2)
    model.compile("sgd", of_loss or loss(), **compiled)
    before = model.get_weights()
    own_x, y = data()
    with pytest.raises(ValueError, match=match):
        model.fit(own_x if x is None else x, y, verbose=0)
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_losses_that_are_not_means():
    refused(
        "reduction='sum_over_batch_size'.*'sum'",
        of_loss=keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
    )
    refused(
        "a value for each example",
        of_loss=lambda y, outputs: keras.ops.sum(outputs) ** 2,
    )


def test_state_that_depends_on_the_examples():
    inputs = keras.Input((7,))
    x = keras.layers.SpectralNormalization(keras.layers.Dense(3))(inputs)
    refused("assign random states.*Received: variable", keras.Model(inputs, x))


def test_layer_that_cannot_be_copied():
    class Own(keras.layers.Layer):
        def __init__(self, units):
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            raise NotImplementedError

    inputs = keras.Input((7,))
    network = keras.Model(inputs, Own(3)(inputs))
    with pytest.warns(UserWarning, match="cannot be copied"), pytest.raises(
        ValueError, match="every pipeline has a copy.*cannot be copied"
    ):
        fr_keras.Backprop(network, 1, replicas=2)


def test_eager_runs():
    refused("Replicas train in graphs", run_eagerly=True)


def test_probes():
    model = made("FeaturesReplay", 2, 2)
    with pytest.raises(ValueError, match="requires `replicas=1`"):
        fit(
            model, *data(),
            callbacks=[fr_keras.diagnostics.SufficientDirection(every=1)],
        )


def test_batches_without_examples_in_front():
    model = fr_keras.Backprop(net(), 1, replicas=2)
    model.compile("sgd", loss())
    x, y = data()
    dataset = tf.data.Dataset.from_tensors((x, y, np.float32([2.0])))
    with pytest.raises(ValueError, match="number of examples.*(25, 7)"):
        model.fit(dataset, verbose=0)


def test_microbatches_of_shards():
    model = made("GPipe", 1, 2)
    with pytest.raises(ValueError, match="microbatches=2 times replicas=2"):
        fit(model, *data())
