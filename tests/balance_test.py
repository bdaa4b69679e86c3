"""Where a model is cut, against brute force: balance, costs, crossings."""

import itertools

import keras
import numpy as np
import pytest

from fr_keras import partition
from tests.small_graphs import (
    chain,
    names,
    residual,
    with_operations,
)


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
