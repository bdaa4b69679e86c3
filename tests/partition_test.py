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
@pytest.mark.parametrize("num_modules", [1, 2, 4])
def test_forward_and_backward_costs(num_modules, seed):
    """Backward need not cost twice as much as forward."""
    model = chain([5] * 8)
    forward, backward = (
        random_costs(names(model), 2 * seed + i, integer=False) for i in (0, 1)
    )

    modules = partition(
        model, num_modules, {n: (forward[n], backward[n]) for n in forward}
    )

    def cost(groups):
        passes = [2] * (num_modules - 1) + [1]
        return max(
            sum(plays * forward[name] + backward[name] for name in group)
            for plays, group in zip(passes, groups)
        )

    best = min(
        cost(groups)
        for groups in ways_to_group([[n] for n in names(model)], num_modules)
    )
    found = cost([names(module) for module in modules])
    assert found == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_modules", [2, 3, 5])
def test_cut_of_residual_net_is_optimal(num_modules, seed):
    model = residual(3)
    costs = random_costs(names(model), seed, integer=False)

    modules = partition(model, num_modules, costs)

    best = min(
        slowest(groups, costs)
        for groups in ways_to_group([[n] for n in names(model)], num_modules)
        # Every module has weights.
        if all(
            any(name == "stem" or name[3:] in ("in", "out") for name in group)
            for group in groups
        )
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


def test_what_skips_over_a_module_passes_through_it():
    model = residual(1)
    modules = partition(model, 3, dict.fromkeys(names(model), 1))

    assert [names(module) for module in modules] == [
        ["stem"], ["b1_in"], ["b1_out", "b1_add", "b1_relu"]
    ]
    # The skip is input and output of the second.
    second = modules[1]
    assert len(second.inputs) == 1 and len(second.outputs) == 2
    assert second.inputs[0] is second.outputs[0]
    stem, inner = second(np.ones([2, 6], "float32"))
    np.testing.assert_array_equal(stem, np.ones([2, 6]))
    assert (np.array(inner) != 1).any()


def test_fewest_tensors_cross_where_costs_are_equal():
    """Of two equal cuts one is in the middle of a block."""
    model = residual(2)
    costs = dict.fromkeys(names(model), 0)
    costs.update(stem=3, b1_in=0, b2_out=4)
    first, second = partition(model, 2, costs)
    # After the stem, after a block's addition or its ReLU: one tensor.
    assert len(second.inputs) == 1
    assert "b2_out" in names(second) and "b1_in" in names(first) + ["b1_in"]


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
            [keras.Input((4,)), keras.layers.GaussianNoise(0.5)], name="random"
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


def test_costs_need_an_entry_for_every_layer():
    with pytest.raises(ValueError, match="'d2'.*Received: costs={'d1': 1}"):
        partition(chain([5, 5]), 2, {"d1": 1})


@pytest.mark.parametrize(
    "cost", ["3", (1, 2, 3), (1,), -1, (1, -1), float("nan"), (1, None), None]
)
def test_nonsensical_cost(cost):
    with pytest.raises(ValueError, match="pair of numbers") as error:
        partition(chain([5, 5]), 2, {"d1": 1, "d2": cost})
    assert str(error.value).endswith(f"Received: {cost!r}")


def test_costs_that_are_no_dict():
    with pytest.raises(ValueError, match="Received: costs='guessed'"):
        partition(chain([5, 5]), 2, "guessed")


def test_costs_need_no_entry_for_operations():
    model = with_operations()
    layers = [
        operation.name for operation in model.operations
        if isinstance(operation, keras.layers.Layer)
    ]
    assert len(partition(model, 3, dict.fromkeys(layers, 1.0))) == 3
