"""What all algorithms have in common: making one, and mistakes."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import fr_keras

layers = keras.layers
ALGORITHMS = list(fr_keras.ALGORITHMS.values())


def net():
    return keras.Sequential(
        [keras.Input((6,)), *(layers.Dense(5) for _ in range(3))]
    )


def ones(*shape):
    return np.ones(shape, "float32")


class Subclassed(keras.Model):
    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_attributes(algorithm):
    model = algorithm(net(), num_modules=3, devices=["CPU:4", "CPU:2"])
    assert model.num_modules == 3
    assert isinstance(model.modules, tuple) and len(model.modules) == 3
    assert all(isinstance(module, keras.Model) for module in model.modules)
    assert [device[-5:] for device in model.devices] == [
        "CPU:4", "CPU:2", "CPU:4"
    ]
    for module, device in zip(model.modules, model.devices):
        assert {v.value.device for v in module.variables} == {device}


def test_number_of_modules_is_that_of_devices():
    twice_the_same = fr_keras.FeaturesReplay(net(), devices=["CPU:1"] * 2)
    assert twice_the_same.num_modules == 1
    deep = keras.Sequential(
        [keras.Input((4,)), *(layers.Dense(4) for _ in range(9))]
    )
    assert fr_keras.FeaturesReplay(deep).num_modules == 8


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.quick_cases("FeaturesReplay", "DNI")
def test_user_made_modules(algorithm):
    """Layers, Sequential, Functional and subclassed models, built or not."""
    inputs = keras.Input((5,))
    built = Subclassed(4)
    built(ones(2, 5))
    modules = [
        layers.Dense(5),
        Subclassed(5),
        keras.Model(inputs, layers.Dense(5)(inputs)),
        keras.Sequential([layers.Dense(5), layers.ReLU()]),
        built,
    ]
    model = algorithm(modules)
    model.compile("sgd", "mse", steps_per_execution=2)
    before = model.modules
    model.fit(ones(24, 6), ones(24, 4), batch_size=4, verbose=0)
    assert model.modules == before == tuple(modules)
    for module, device in zip(model.modules, model.devices):
        assert {v.value.device for v in module.variables} == {device}


def test_modules_that_pass_nests():
    class Split(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(3), layers.Dense(2)

        def call(self, x):
            return {"a": self.a(x), "more": (self.b(x), x)}

    class Join(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            b, given = x["more"]
            return self.dense(tf.concat([x["a"], b, given], -1))

    model = fr_keras.FeaturesReplay([layers.Dense(5), Split(), Join()])
    model.compile("sgd", "mse", steps_per_execution=3)
    history = model.fit(
        ones(24, 6), ones(24, 4), batch_size=4, epochs=5, verbose=0
    )
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]


def trained(modules, loss="mse", x=(8, 6), y=(8, 5), **options):
    model = fr_keras.FeaturesReplay(modules, **options)
    model.compile("sgd", loss)
    model.fit(ones(*x), ones(*y), verbose=0)


def shared():
    layer = layers.Dense(6)
    return [keras.Sequential([layer]), keras.Sequential([layers.ReLU(), layer])]


MISTAKES = {
    "no model": (
        lambda: fr_keras.FeaturesReplay("resnet", 2),
        TypeError, "Sequential and Functional.*Received: model='resnet'",
    ),
    "subclassed model": (
        lambda: fr_keras.FeaturesReplay(Subclassed(), 2),
        TypeError, "pass a list of modules.*Received: model=<Subclassed",
    ),
    "empty list": (
        lambda: fr_keras.FeaturesReplay([]),
        ValueError, r"non-empty list.*Received: model=\[\]",
    ),
    "no layer in the list": (
        lambda: fr_keras.FeaturesReplay([layers.Dense(3), "dense"]),
        ValueError, r"models or layers.*Received: model=\[..., 'dense', ...\]",
    ),
    "other number of modules": (
        lambda: fr_keras.FeaturesReplay([layers.Dense(3)], 2),
        ValueError, "list of 1 modules.*Received: num_modules=2",
    ),
    "costs of modules": (
        lambda: fr_keras.FeaturesReplay([layers.Dense(3)], costs={"a": 1}),
        ValueError, "list of modules.*Received: costs={'a': 1}",
    ),
    "zero modules": (
        lambda: fr_keras.FeaturesReplay(net(), 0),
        ValueError, "at least 1. Received: num_modules=0",
    ),
    "too many modules": (
        lambda: fr_keras.FeaturesReplay(net(), 4),
        ValueError, "at most 3 for .*Received: num_modules=4",
    ),
    "unknown device": (
        lambda: fr_keras.FeaturesReplay(net(), 2, devices=["GPU:0"]),
        ValueError, "available devices.*gpu.*Received: device='GPU:0'",
    ),
    "shared layer": (
        lambda: trained(shared(), y=(8, 6)),
        ValueError, "one module only.*Received: .*kernel' in modules 1 and 2",
    ),
    "no weights": (
        lambda: trained([layers.Dense(5), layers.ReLU()]),
        ValueError, "must have weights.*Received: module 2, 're_lu",
    ),
    "modules that do not chain": (
        lambda: trained([
            layers.Dense(4, name="first"),
            keras.Sequential([keras.Input((5,)), layers.Dense(5)], name="next"),
        ]),
        ValueError,
        r"Module 2, 'next', must accept the output of module 1 .*"
        r"Received: inputs of shape \(None, 4\)$",
    ),
    "data of another shape": (
        lambda: trained(net(), x=(8, 7), num_modules=2),
        ValueError,
        r"Module 1, .* accept the data .*"
        r"Received: inputs of shape \(None, 7\)$",
    ),
    "labels of another shape": (
        lambda: trained(net(), y=(8, 4), num_modules=2),
        ValueError,
        r"must match.*loss='mse', output of shape \(None, 5\) and labels of "
        r"shape \(None, 4\)$",
    ),
    "loss of an unknown output": (
        lambda: trained(net(), loss={"other": "mse"}, num_modules=2),
        ValueError, "must match.*Received: loss=.*'other'",
    ),
    "no loss": (
        lambda: trained(net(), loss=None, num_modules=2),
        ValueError, "`loss` argument in `compile",
    ),
}


@pytest.mark.parametrize("name", list(MISTAKES))
def test_mistake(name):
    make, error, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("label", [-1, 5])
@pytest.mark.parametrize(
    "use",
    [
        lambda model, *batch: model.fit(*batch, verbose=0),
        lambda model, *batch: model.evaluate(*batch, verbose=0),
        lambda model, *batch: model.train_on_batch(*batch),
        lambda model, *batch: model.test_on_batch(*batch),
        lambda model, *batch: model.fit(
            batch[0], np.zeros(8, int), validation_data=batch, verbose=0
        ),
    ],
)
def test_labels_outside_the_classes(use, label):
    model = fr_keras.FeaturesReplay(net(), 2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    labels = np.zeros(8, int)
    labels[3] = label
    with pytest.raises(
        ValueError, match=f"from 0 to 4.*Received: label={label}$"
    ):
        use(model, ones(8, 6), labels)


def test_labels_of_evaluation_do_not_fit():
    model = fr_keras.FeaturesReplay(net(), 2)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"labels of shape \(None, 4\)$"):
        model.evaluate(ones(8, 6), ones(8, 4), verbose=0)


def compiled(network=None, loss="mse", **options):
    model = fr_keras.FeaturesReplay(network or net(), 2)
    model.compile("sgd", loss, **options)
    return model


@pytest.mark.parametrize("fits_before", [0, 1])
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("x, y", [((8, 7), (8, 5)), ((8, 6), (8, 4))])
@pytest.mark.quick_cases("x0-y0-False-1", "x1-y1-True-0")
def test_mistake_is_told_again_and_nothing_is_lost(
    fits_before, run_eagerly, x, y
):
    """The same words each time, and good batches go on as before."""
    model, other = compiled(run_eagerly=run_eagerly), compiled()
    for ours, theirs in zip(model.variables, other.variables):
        theirs.assign(ours)
    good = ones(8, 6), ones(8, 5)
    for _ in range(fits_before):
        model.fit(*good, verbose=0)
        other.fit(*good, verbose=0)
    before = [v.numpy() for v in model.variables]
    messages = set()
    for _ in range(3):
        with pytest.raises(Exception) as mistake:
            model.fit(ones(*x), ones(*y), verbose=0)
        messages.add(re.sub(r"_\d+", "", str(mistake.value)))
        if not run_eagerly:
            assert mistake.type is ValueError
            assert "Received: " in str(mistake.value)
            for variable, value in zip(model.variables, before):
                np.testing.assert_array_equal(variable.numpy(), value)
    if not run_eagerly:
        assert len(messages) == 1, messages
        model.fit(*good, verbose=0)
        other.fit(*good, verbose=0)
        for ours, theirs in zip(model.variables, other.variables):
            np.testing.assert_allclose(
                ours.numpy(), theirs.numpy(), rtol=1e-6
            )


@pytest.mark.parametrize("steps", [1, 3])
def test_wrong_labels_change_nothing(steps):
    """However many good batches the call has before the wrong one."""
    model = compiled(
        loss="sparse_categorical_crossentropy", steps_per_execution=steps
    )
    x, labels = ones(24, 6), np.zeros(24, int)
    model.fit(x, labels, batch_size=4, verbose=0)
    before = [v.numpy() for v in model.variables]
    iterations = int(model.optimizer.iterations)
    labels[4 * (steps - 1)] = 9  # In the first call, and there in the last.
    with pytest.raises(ValueError, match="label=9$"):
        model.fit(x, labels, batch_size=4, shuffle=False, verbose=0)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert int(model.optimizer.iterations) == iterations
    labels[:] = 0
    model.fit(x, labels, batch_size=4, verbose=0)
    assert int(model.optimizer.iterations) == iterations + 6


def test_modules_that_another_model_has_moved():
    modules = [layers.Dense(5), layers.Dense(5)]
    model = fr_keras.FeaturesReplay(modules, devices=["CPU:0", "CPU:1"])
    model.compile("sgd", "mse")
    data = ones(8, 6), ones(8, 5)
    model.fit(*data, verbose=0)
    fr_keras.FeaturesReplay(modules, devices=["CPU:4", "CPU:5"])
    for use in (
        lambda: model.fit(*data, verbose=0),
        lambda: model.evaluate(*data, verbose=0),
        lambda: model.predict(data[0], verbose=0),
    ):
        with pytest.raises(ValueError, match="Module 1 .*moved.*on .*CPU:4$"):
            use()
    model.compile("sgd", "mse")
    before = [v.numpy() for v in model.variables]
    model.fit(*data, batch_size=4, verbose=0)
    for variable, value in zip(model.variables, before):
        assert (variable.numpy() != value).any()


def test_modules_built_by_predict_lie_on_their_devices():
    for use in ("predict", "evaluate"):
        model = fr_keras.FeaturesReplay([layers.Dense(5), layers.Dense(5)])
        model.compile("sgd", "mse")
        if use == "predict":
            model.predict(ones(8, 6), verbose=0)
        else:
            model.evaluate(ones(8, 6), ones(8, 5), verbose=0)
        for module, device in zip(model.modules, model.devices):
            assert {v.value.device for v in module.variables} == {device}


def test_scope_of_a_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope(), pytest.raises(ValueError, match="`devices`.*Rec"):
        fr_keras.FeaturesReplay(net(), 2)


def test_no_steps_per_execution():
    with pytest.raises(ValueError, match="Received: steps_per_execution=0$"):
        compiled(steps_per_execution=0)


def test_no_optimizer():
    model = fr_keras.FeaturesReplay(net(), 2)
    model.compile(None, "mse")
    assert model.evaluate(ones(8, 6), ones(8, 5), verbose=0) > 0
    with pytest.raises(ValueError, match="Received: optimizer=None"):
        model.fit(ones(8, 6), ones(8, 5), verbose=0)


def test_without_compile():
    with pytest.raises(ValueError, match="compile"):
        fr_keras.FeaturesReplay(net(), 2).fit(ones(8, 6), ones(8, 5))
