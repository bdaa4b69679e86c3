"""Modules against the uncut model: what they are, and what crosses."""

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras import partition
from tests.small_graphs import (
    called_once,
    chain,
    flat_names,
    names,
    nested,
    residual,
    run,
    with_operations,
)


@pytest.mark.parametrize(
    "make, num_modules",
    [
        *((lambda: chain([7, 5, 6, 3, 8]), k) for k in (1, 2, 3, 5)),
        *((residual, k) for k in (1, 2, 3, 4, 7)),
        *((with_operations, k) for k in (1, 2, 3)),
        *((nested, k) for k in (1, 2, 3, 6)),
        *((called_once, k) for k in (1, 2, 6)),
    ],
)
def test_chained_modules_are_the_model(make, num_modules):
    model = make()
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    expected = np.array(model(x, training=False))

    modules = partition(model, num_modules)

    assert len(modules) == num_modules
    assert all(isinstance(module, keras.Model) for module in modules)
    np.testing.assert_array_equal(run(modules, x), expected)


@pytest.mark.parametrize("num_modules", [1, 2, 3, 4, 5])
def test_chained_modules_are_resnet_20(num_modules):
    model = fr_keras.models.resnet(20, 10, (8, 8, 3))
    rng = np.random.default_rng(0)
    for variable in model.non_trainable_variables:  # Moving averages.
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")

    modules = partition(model, num_modules)

    assert len(modules) == num_modules
    np.testing.assert_array_equal(
        run(modules, x), np.array(model(x, training=False))
    )


@pytest.mark.parametrize("num_modules", [1, 3])
@pytest.mark.parametrize("make", [residual, nested])
def test_modules_share_the_layers_of_the_model(make, num_modules):
    model = make()
    modules = partition(model, num_modules)

    ours = [v for module in modules for v in module.variables]
    assert [id(v) for v in ours] == [id(v) for v in model.variables]
    assert sum([names(module) for module in modules], []) == flat_names(model)

    x = np.ones([2, 4], "float32")
    before = run(modules, x)
    model.variables[0].assign(model.variables[0] + 1.0)
    after = run(modules, x)
    assert (before != after).any()
    np.testing.assert_array_equal(after, np.array(model(x, training=False)))


def ladder():
    """Several inputs and outputs, in a dict; skips of all lengths."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x1 = keras.layers.Dense(5, name="d1")(a)
    x2 = keras.layers.Dense(5, name="d2")(x1)
    x3 = keras.layers.Dense(5, name="d3")(x2 + x1)
    x4 = keras.layers.Dense(5, name="d4")(x3)
    x5 = keras.layers.Dense(5, name="d5")(
        keras.layers.Concatenate(name="join")([x4, b, x1])
    )
    return keras.Model(
        {"a": a, "b": b}, {"out": x5, "early": x2, "given": b, "again": x5}
    )


@pytest.mark.parametrize("num_modules", [1, 2, 3, 4, 5])
def test_several_inputs_and_outputs(num_modules):
    model = ladder()
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(3, 4)).astype("float32") for name in "ab"}
    expected = model(x)

    modules = partition(model, num_modules)

    outputs = x
    for module in modules:
        outputs = module(outputs)
    assert set(outputs) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(outputs[name], expected[name])


def test_input_enters_where_it_is_needed():
    modules = partition(ladder(), 5)
    for module in modules[:-1]:  # `b` passes through the first four.
        passing = [t for t in module.outputs if any(
            t is given for given in module.inputs
        )]
        assert "b" in [tensor.name for tensor in passing]
    assert "join" in names(modules[-1])


def test_nested_structures():
    a, b = keras.Input((3,)), keras.Input((3,))
    x = keras.layers.Dense(3)(a)
    y = keras.layers.Dense(3)(x)
    z = keras.layers.Dense(3)(y + b)
    model = keras.Model((a, [b]), [x, (y, z)])
    given = (np.ones([2, 3]), [np.full([2, 3], 2.0)])
    outputs = given
    for module in partition(model, 3):
        outputs = module(outputs)
    expected = model(given)
    keras.tree.assert_same_structure(outputs, expected)
    for ours, theirs in zip(
        keras.tree.flatten(outputs), keras.tree.flatten(expected)
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_layer_with_statistics_used_twice_is_not_separated():
    twice = keras.layers.BatchNormalization(name="twice")
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="before")(inputs)
    x = keras.layers.Dense(4, name="between")(twice(x))
    x = keras.layers.Dense(4, name="after")(twice(x))
    model = keras.Model(inputs, x)

    modules = partition(model, 3)

    assert [set(names(module)) for module in modules] == [
        {"before"}, {"twice", "between"}, {"after"}
    ]
    with pytest.raises(ValueError, match="at most 3.*'twice'.*=4$"):
        partition(model, 4)


def test_layer_without_weights_may_be_used_in_several_modules():
    relu = keras.layers.ReLU()
    inputs = keras.Input((4,))
    x = relu(keras.layers.Dense(4)(inputs))
    x = relu(keras.layers.Dense(4)(x))
    model = keras.Model(inputs, x)
    x = np.ones([2, 4], "float32")
    np.testing.assert_array_equal(run(partition(model, 2), x), model(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.Dropout(0.5, seed=1, name="random"),
        lambda: keras.Sequential(
            [keras.Input((4,)), keras.layers.GaussianNoise(0.5, name="random")]
        ),
    ],
)
def test_layer_with_random_numbers_lies_in_one_module(make):
    random = make()
    inputs = keras.Input((4,))
    x = random(inputs)
    for _ in range(2):
        x = keras.layers.Dense(4)(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(random(x)))

    modules = partition(model, 2)

    assert sum("random" in names(module) for module in modules) == 1
    with pytest.raises(ValueError, match="at most 2.*'random'.*=3$"):
        partition(model, 3)


def test_branches_stay_together():
    """Depth first: one branch after the other, so that little crosses."""
    inputs = keras.Input((4,))
    branches = []
    for name in "ab":
        x = inputs
        for i in range(4):
            x = keras.layers.Dense(4, name=f"{name}{i}")(x)
        branches.append(x)
    model = keras.Model(inputs, keras.layers.Add(name="add")(branches))
    first, second = partition(model, 2)
    assert names(first) == ["a0", "a1", "a2", "a3"]
    assert len(second.inputs) == 2  # The data, and branch a.


def test_masks_cross():
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            keras.layers.LSTM(5, return_sequences=True),
            keras.layers.LSTM(5),
            keras.layers.Dense(2),
        ]
    )
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 0, 0]])
    np.testing.assert_array_equal(run(partition(model, 4), x), model(x))


@pytest.mark.parametrize(
    "make, most",
    [
        (lambda: chain([5] * 3), 3),
        (lambda: chain([5]), 1),
        # The stem, and two layers with weights in each block.
        (lambda: residual(3), 7),
        (with_operations, 3),
        (nested, 6),
    ],
)
def test_too_many_modules(make, most):
    model = make()
    assert len(partition(model, most)) == most
    with pytest.raises(ValueError, match=f"at most {most}.*={most + 1}$"):
        partition(model, most + 1)


@pytest.mark.parametrize("num_modules", [0, -1])
def test_less_than_one_module(num_modules):
    with pytest.raises(ValueError, match=f"num_modules={num_modules}$"):
        partition(chain([5, 5]), num_modules)


@pytest.mark.parametrize("num_modules", [2.0, "2", None, True, [2]])
def test_number_of_modules_is_no_integer(num_modules):
    with pytest.raises(ValueError, match="must be an integer.*Received: num_m"):
        partition(chain([5, 5]), num_modules)


def test_unbuilt_sequential():
    model = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="keras.Input"):
        partition(model, 2)


def test_subclassed_model():
    class Subclassed(keras.Model):
        pass

    for model in (Subclassed(name="mine"), keras.layers.Dense(3), "resnet"):
        with pytest.raises(TypeError, match="Sequential and Functional"):
            partition(model, 2)


def test_costs_that_are_none():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="measure_costs.*Received: costs='me"):
        fr_keras.partition(model, 1, costs="measured")
    with pytest.raises(ValueError, match="measure_costs.*Received: costs=arr"):
        fr_keras.FeaturesReplay(model, 1, costs=np.ones(2))
