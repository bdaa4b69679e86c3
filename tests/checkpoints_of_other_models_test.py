"""Checkpoints of another model, optimizer or version, and their weights."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import manifest, store, training_state
from fr_keras.cutting.partition import find_split_points
from tests.killed_trainings import (
    DATA,
    X,
    build,
    killed_and_continued,
    network,
    shuffled,
)


def test_weights_for_another_number_of_modules(tmp_path):
    model, _, _ = killed_and_continued(tmp_path, build, DATA["dataset"], [])
    for algorithm, num_modules in (("FeaturesReplay", 4), ("Backprop", 2)):
        other = build(algorithm, num_modules)
        prefix = fr_keras.restore_weights(other, tmp_path)
        assert prefix == store.Store(tmp_path, 2).prefixes()[-1]
        for a, b in zip(other.weights, model.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert int(other.optimizer.iterations) == 0
        other.fit(shuffled(), verbose=0)


def test_restore_weights_needs_weights_that_fit(tmp_path):
    with pytest.raises(ValueError, match="without checkpoints$"):
        fr_keras.restore_weights(build(), tmp_path)
    killed_and_continued(tmp_path, build, DATA["dataset"], [])
    other = fr_keras.Backprop(keras.Sequential([
        keras.Input([8]), layers.Dense(17), layers.Dense(4),
    ]), 2)
    with pytest.raises(
        ValueError,
        match=r"another network.*shape \[8, 16\].*Received:.*shape \[8, 17\]",
    ):
        fr_keras.restore_weights(other, tmp_path)
    for prefix in store.Store(tmp_path, 2).prefixes():
        open(f"{prefix}.index", "w").close()
    with pytest.raises(ValueError, match="readable checkpoint.*ckpt-"):
        fr_keras.restore_weights(build(), tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a training of `build()`."""
    folder = tmp_path_factory.mktemp("finished")
    build().fit(
        shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(folder)]
    )
    return folder


def excluding_biases():
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def frozen():
    net = network()
    net.layers[0].trainable = False
    return net


def test_what_a_training_that_goes_on_may_do_otherwise(finished, tmp_path):
    """Names, seeds, and the learning rate, which callbacks may have set."""
    def renamed():
        return keras.models.clone_model(
            network(), clone_function=lambda layer: type(layer).from_config({
                **layer.get_config(), "name": f"other_{layer.name}",
                **({"seed": 4} if "dropout" in layer.name else {}),
            })
        )

    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    model = build(
        net=renamed,
        optimizer=lambda: keras.optimizers.Adam(0.7, name="another"),
    )
    kept = fr_keras.Checkpoints(tmp_path)
    model.fit(shuffled(), verbose=0, callbacks=[kept])
    assert kept.restored
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """A layer whose `get_config` does not work as it is."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def get_config(self):
        raise NotImplementedError

    def call(self, x):
        return x * self.factor


class OtherScale(Scale):
    pass


def test_layers_without_configuration_are_compared_by_class(tmp_path):
    def make(kind):
        keras.utils.set_random_seed(2)
        model = fr_keras.Backprop([
            keras.Sequential([keras.Input([8]), layers.Dense(8), kind(2.0)]),
            keras.Sequential([keras.Input([8]), layers.Dense(4)]),
        ])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ))
        return model

    for _ in range(2):
        kept = fr_keras.Checkpoints(tmp_path)
        make(Scale).fit(shuffled(), verbose=0, callbacks=[kept])
    assert kept.restored
    with pytest.raises(
        fr_keras.CheckpointError,
        match="network: 'Scale'. Received: 'OtherScale'",
    ):
        make(OtherScale).fit(
            shuffled(), verbose=0, callbacks=[fr_keras.Checkpoints(tmp_path)]
        )


def test_weights_of_another_function(finished):
    with pytest.raises(
        ValueError,
        match="cannot be restored. It was written with another network: Dense "
        "with activation='relu'. Received: Dense with activation='tanh'$",
    ):
        fr_keras.restore_weights(
            build("Backprop", 2, net=lambda: network("tanh")), finished
        )


def test_weights_of_the_same_function(finished):
    """In other modules, nested, with other regularization."""
    whole = network(rate=0.1, kernel_regularizer="l2")
    parts = [
        keras.Sequential([keras.Input([8]), *whole.layers[:2]]),
        keras.Sequential([
            keras.Input([16]), whole.layers[2],
            keras.Sequential(whole.layers[3:]),
        ]),
    ]
    model, plain = fr_keras.Backprop(parts), build()
    for each in (model, plain):
        fr_keras.restore_weights(each, finished)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), plain.predict(X, verbose=0), rtol=1e-5
    )


def cut_elsewhere():
    net = network()
    costs = {layer.name: 1.0 for layer in net.layers}
    costs[net.layers[0].name] = 1e9  # So it gets a module of its own.
    return build(net=lambda: net, costs=costs)


@pytest.mark.parametrize(
    "other, message",
    [
        (lambda: build("DDG"),
         "algorithm=FeaturesReplay.*restore_weights.*Received: algorithm=DDG"),
        (lambda: build(num_modules=2),
         "num_modules=3.*restore_weights.*Received: num_modules=2"),
        (lambda: build(net=lambda: keras.Sequential([
            keras.Input([8]), layers.Dense(16), layers.Dense(16),
            layers.Dense(4),
        ])), "another network"),
        (cut_elsewhere,
         r"another split.*Received: \[2, ., .\] instead of \[., ., .\]"),
        (lambda: build(optimizer=lambda: keras.optimizers.SGD(0.1)),
         "another optimizer"),
        (lambda: build(optimizer=lambda: keras.optimizers.AdamW(
            0.01
        )), "another optimizer: 'Adam'; `fr_keras.restore_weights` restores "
            "its weights alone. Received: 'AdamW'$"),
        (lambda: build(optimizer=lambda: keras.optimizers.Adam(
            0.01, weight_decay=0.1
        )), "optimizer: Adam with weight_decay=None; `fr.*Received: Adam "
            "with weight_decay=0.1$"),
        (lambda: build(optimizer=excluding_biases),
         "another optimizer.*Received: .*'bias'"),
        (lambda: build(net=lambda: network("tanh")),
         "another network: Dense with activation='relu'. "
         "Received: Dense with activation='tanh'$"),
        (lambda: build(net=lambda: network(rate=0.5)),
         "network: Dropout with rate=0.3. Received: Dropout with rate=0.5$"),
        (lambda: build(net=frozen), "another set of trainable variables"),
        (lambda: build(gradient_shrink=0.5),
         "settings.*gradient_shrink=1.*Received: gradient_shrink=0.5$"),
    ],
)
def test_checkpoint_of_another_model_is_refused(
    other, message, finished, tmp_path
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = {path: path.read_bytes() for path in tmp_path.glob("*ckpt*")}
    model = other()
    weights = [w.numpy() for w in model.weights]
    with pytest.raises(fr_keras.CheckpointError, match=message):
        model.fit(
            shuffled(), verbose=0,
            callbacks=[fr_keras.Checkpoints(tmp_path)],
        )
    for a, b in zip(model.weights, weights):
        np.testing.assert_array_equal(a, b)
    assert before == {p: p.read_bytes() for p in tmp_path.glob("*ckpt*")}


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("algorithm", ["DDG", "Pipeline"])
def test_checkpoint_of_another_split(algorithm, is_old, tmp_path, monkeypatch):
    """It says how to resume: also one of 0.1.0, which did not say where."""
    net = keras.Sequential([
        keras.Input([8]), *(layers.Dense(8, "tanh") for _ in range(8))
    ])

    def trained(folder, epochs, **options):
        model = getattr(fr_keras, algorithm)(net, 2, **options)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model.fit(
            X[:32], X[:32], 8, epochs, verbose=0, shuffle=False,
            callbacks=[fr_keras.Checkpoints(tmp_path / folder)],
        ).history["loss"]

    before = find_split_points(net, 2)
    whole = trained("whole", 3, split_points=before)
    with monkeypatch.context() as patch:
        describe = training_state.describe

        def without(model):
            described = describe(model)
            if is_old:
                del described["split_points"]
            return described

        patch.setattr(training_state, "describe", without)
        trained("parts", 2, split_points=before)
    with pytest.raises(
        fr_keras.CheckpointError, match="another split.*to resume, pass "
        "split_points=" + (
            r"fr_keras.cutting.partition.find_split_points\(model, K\);"
            if is_old else r"\[3\];"
        ),
    ):
        trained("parts", 3)
    assert trained("parts", 3, split_points=before) == whole[2:]


def test_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 1)
        killed_and_continued(tmp_path, build, DATA["dataset"], [])
    with pytest.raises(
        fr_keras.CheckpointError,
        match=r"format must be 2.*Received: format=1, .*\{'fr_keras': '\d",
    ):
        killed_and_continued(tmp_path, build, DATA["dataset"], [])


def test_checkpoint_of_another_version_is_told(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(
            "fr_keras.callbacks.checkpoints.manifest.versions",
            lambda: {"fr_keras": "0.0.1", "keras": "3.1", "tensorflow": "2.1"},
        )
        killed_and_continued(tmp_path, build, DATA["dataset"], [])
    killed_and_continued(tmp_path, build, DATA["dataset"], [])
    assert (
        "was written with fr_keras 0.0.1, keras 3.1, tensorflow 2.1; with "
        f"fr_keras {fr_keras.__version__}, keras {keras.__version__}, "
        f"tensorflow {tf.__version__}, results may"
    ) in caplog.text
