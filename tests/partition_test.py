"""Cutting against brute force and against the uncut model."""

import itertools

import keras
import numpy as np
import pytest

import fr_keras
from fr_keras import partition


def chain(widths, name="chain"):
    """Dense layers `d1`, `d2`, ... of the given widths, from 4 inputs."""
    return keras.Sequential(
        [keras.Input((4,))]
        + [
            keras.layers.Dense(width, activation="tanh", name=f"d{i}")
            for i, width in enumerate(widths, start=1)
        ],
        name=name,
    )


def residual(num_blocks=3):
    """Blocks of two layers with a skip, each followed by one layer."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, name="stem")(inputs)
    for b in range(1, num_blocks + 1):
        inner = keras.layers.Dense(6, activation="tanh", name=f"b{b}_in")(x)
        inner = keras.layers.Dense(6, name=f"b{b}_out")(inner)
        x = keras.layers.Add(name=f"b{b}_add")([x, inner])
        x = keras.layers.ReLU(name=f"b{b}_relu")(x)
    return keras.Model(inputs, x, name="residual")


def with_operations():
    """Skips, and operations that are no layers."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6)(inputs)
    y = keras.ops.tanh(x) * 2.0
    x = keras.layers.Dense(6)(keras.ops.concatenate([x, y], axis=-1))
    x = keras.layers.Add()([x, x])
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def nested():
    """A model in which other models are layers."""
    return keras.Sequential(
        [
            keras.Input((4,)),
            chain([5, 4], "one"),
            residual(1),
            keras.layers.Dense(3),
        ]
    )


def called_once():
    model = keras.Sequential(
        [keras.layers.Dense(5, activation="tanh") for _ in range(6)]
    )
    model(np.ones([2, 4], "float32"))
    return model


def names(module):
    """Names of a module's layers but the input, in order of execution."""
    return [
        layer.name for layer in module.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]


def run(modules, x):
    for module in modules:
        x = module(x, training=False)
    return np.array(x)


@pytest.mark.parametrize(
    "make, num_modules",
    [
        *((lambda: chain([7, 5, 6, 3, 8]), k) for k in (1, 2, 3, 5)),
        *((residual, k) for k in (1, 2, 3, 4, 7)),
        *((with_operations, k) for k in (1, 2, 3)),
        *((nested, k) for k in (1, 2, 3)),
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
    assert sum([names(module) for module in modules], []) == names(model)

    x = np.ones([2, 4], "float32")
    before = run(modules, x)
    model.variables[0].assign(model.variables[0] + 1.0)
    after = run(modules, x)
    assert (before != after).any()
    np.testing.assert_array_equal(after, np.array(model(x, training=False)))


def slowest(groups, costs):
    """Cost of an iteration of Features Replay in its slowest module.

    Play, replay and backward take 1 + 1 + 2 forward passes; the last module
    does not replay.
    """
    forward = [sum(costs[name] for name in group) for group in groups]
    return max([4 * c for c in forward[:-1]] + [3 * forward[-1]])


def ways_to_group(blocks, num_groups):
    """All ways to make a number of groups of neighbouring blocks."""
    for cuts in itertools.combinations(range(1, len(blocks)), num_groups - 1):
        ends = [0, *cuts, len(blocks)]
        yield [
            sum(blocks[start:end], []) for start, end in zip(ends, ends[1:])
        ]


def random_costs(layers, seed, integer):
    rng = np.random.default_rng(seed)
    if integer:  # Small integers make many ties.
        return {name: int(rng.integers(0, 4)) for name in layers}
    return {name: float(rng.exponential()) for name in layers}


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_modules", [1, 2, 3, 4, 5, 8])
def test_cut_of_chain_is_optimal(num_modules, seed, integer):
    model = chain([5] * 8)
    costs = random_costs(names(model), seed, integer)

    modules = partition(model, num_modules, costs)

    best = min(
        slowest(groups, costs)
        for groups in ways_to_group([[n] for n in names(model)], num_modules)
    )
    found = slowest([names(module) for module in modules], costs)
    assert found == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_modules", [2, 3, 5])
def test_cut_of_residual_net_is_optimal(num_modules, seed):
    model = residual(3)
    costs = random_costs(names(model), seed, integer=False)
    # What must stay together: from where a skip begins to where it ends.
    blocks = [["stem"]]
    for b in (1, 2, 3):
        blocks += [[f"b{b}_in", f"b{b}_out", f"b{b}_add"], [f"b{b}_relu"]]

    modules = partition(model, num_modules, costs)

    best = min(
        slowest(groups, costs) for groups in ways_to_group(blocks, num_modules)
    )
    found = slowest([names(module) for module in modules], costs)
    assert found == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize(
    "num_layers, expected",
    [
        (13, [3, 3, 3, 4]),  # 12, 12, 12, 12
        (7, [3, 4]),  # 12, 12
        (25, [3, 3, 3, 3, 3, 3, 3, 4]),
        (4, [1, 1, 1, 1]),
    ],
)
def test_last_module_gets_more_layers(num_layers, expected):
    modules = partition(chain([4] * num_layers), len(expected))
    assert [len(names(module)) for module in modules] == expected


def test_estimated_costs_count_multiply_adds():
    """A convolution is used at every position, a dense layer once."""
    model = keras.Sequential(
        [
            keras.Input((16, 16, 8)),
            keras.layers.Conv2D(8, 3, padding="same", name="a"),  # 147456
            keras.layers.Conv2D(8, 3, padding="same", name="b"),  # 147456
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(1000, name="logits"),  # 8000; more weights
        ]
    )
    first, second = partition(model, 2)
    assert (names(first), names(second)) == (["a"], ["b", "pool", "logits"])


@pytest.mark.parametrize(
    "widths, costs, expected",
    [
        # Cutting on either side of the free layer costs 12 and 12.
        ([8, 2, 8], [3, 0, 4], [2, 1]),
        ([2, 8, 8], [3, 0, 4], [1, 2]),
        ([8, 8, 2, 8, 3], [3, 0, 0, 0, 4], [3, 2]),
        # 12, 12, 12 in four ways.
        ([8, 2, 8, 2, 8], [3, 0, 3, 0, 4], [2, 2, 1]),
        ([2, 8, 2, 8, 8], [3, 0, 3, 0, 4], [1, 2, 2]),
    ],
)
def test_equal_balance_prefers_small_tensors(widths, costs, expected):
    model = chain(widths)
    modules = partition(
        model, len(expected), dict(zip(names(model), costs))
    )
    assert [len(names(module)) for module in modules] == expected


@pytest.mark.parametrize("seed", range(10))
def test_no_equally_balanced_cut_has_smaller_tensor(seed):
    rng = np.random.default_rng(seed)
    widths = [int(w) for w in rng.integers(1, 9, 8)]
    model = chain(widths)
    width = dict(zip(names(model), widths))
    costs = random_costs(names(model), seed, integer=True)

    def rank(groups):
        return slowest(groups, costs), width[groups[0][-1]]

    modules = partition(model, 2, costs)

    assert rank([names(module) for module in modules]) == min(
        rank(groups)
        for groups in ways_to_group([[n] for n in names(model)], 2)
    )


def test_residual_block_is_not_cut():
    model = residual(2)
    # The middle of a block would be the perfect place.
    costs = dict.fromkeys(names(model), 0)
    costs.update(b1_in=3, b1_out=4)
    first, second = partition(model, 2, costs)
    assert {"b1_in", "b1_out", "b1_add"} <= set(names(second))
    assert names(first) == ["stem"]


def test_layer_used_twice_is_not_separated():
    twice = keras.layers.Dense(4, name="twice")
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="before")(inputs)
    x = keras.layers.Dense(4, name="between")(twice(x))
    x = keras.layers.Dense(4, name="after")(twice(x))
    model = keras.Model(inputs, x)

    modules = partition(model, 3)

    assert [set(names(module)) for module in modules] == [
        {"before"}, {"twice", "between"}, {"after"}
    ]
    with pytest.raises(ValueError, match="at most 3"):
        partition(model, 4)


@pytest.mark.parametrize(
    "make, most",
    [
        (lambda: chain([5] * 3), 3),
        (lambda: chain([5]), 1),
        # Behind the stem, and before and behind each block's ReLU.
        (lambda: residual(3), 7),
        # dense | tanh, times 2, concatenate | dense | add | dense
        (with_operations, 5),
        (nested, 3),
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


@pytest.mark.parametrize("inputs, outputs", [(2, 1), (1, 2)])
def test_several_inputs_or_outputs(inputs, outputs):
    tensors = [keras.Input((3,)) for _ in range(inputs)]
    x = keras.layers.Dense(3)(sum(tensors[1:], tensors[0]))
    model = keras.Model(tensors, [x + i for i in range(outputs)])
    with pytest.raises(
        ValueError, match=f"{inputs} inputs and {outputs} outputs"
    ):
        partition(model, 2)


def test_costs_need_an_entry_for_every_layer():
    with pytest.raises(ValueError, match="'d2'.*Received: costs={'d1': 1}"):
        partition(chain([5, 5]), 2, {"d1": 1})


def test_costs_need_no_entry_for_operations():
    model = with_operations()
    layers = [
        operation.name for operation in model.operations
        if isinstance(operation, keras.layers.Layer)
    ]
    assert len(partition(model, 3, dict.fromkeys(layers, 1.0))) == 3
