"""A training graph that a reader of TensorBoard finds the modules in."""

import re

import keras
import numpy as np
import pytest

from fr_keras.algorithms import ALGORITHMS

layers = keras.layers
# What is not done for one module.
SHARED = {
    "labels", "learning_rates", "queues", "warm_up", "due", "microbatches"
}
OF_LOSSES = {"count_batch", "differentiate", "loss_of_batch"}


def trained(algorithm, steps_per_execution, num_modules=3):
    network = keras.Sequential([
        keras.Input((6,)), *(layers.Dense(5, "relu") for _ in range(4)),
        layers.Dense(3),
    ])
    model = ALGORITHMS[algorithm](network, num_modules)
    model.compile(
        keras.optimizers.SGD(0.01, 0.9), "mse",
        steps_per_execution=steps_per_execution,
    )
    x, y = np.ones((32, 6), "float32"), np.ones((32, 3), "float32")
    model.fit(x, y, batch_size=4, verbose=0)
    return model.training.graph.get_operations()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.quick_cases("features_replay")
def test_operations_are_in_scopes(algorithm):
    """Modules are boxes, of which each holds its calls, however many."""
    operations = trained(algorithm, 4)
    calls = {
        tuple(operation.name.split("/")[:-1]) for operation in operations
        if operation.type.endswith("PartitionedCall")
    }
    modules = {name for name, *_ in calls} - OF_LOSSES
    assert modules == {"module_1", "module_2", "module_3"}
    assert {name for name in calls if len(name) == 1} <= {
        (name,) for name in OF_LOSSES
    }
    assert ("module_1", "update") in calls

    others = {
        operation.name.split("/")[0] for operation in operations
    } - modules - OF_LOSSES - SHARED
    # Arguments of the graph, and results of the last module.
    assert {re.sub(r"_\d+$", "", name) for name in others} <= {
        "tensors", "zeros", "Identity", "Cast", "div_no_nan", "NoOp"
    }


def test_scopes_do_not_multiply():
    """More iterations in a graph are more in each scope, not more scopes."""
    one, many = (
        {
            operation.name.split("/")[0]
            for operation in trained("features_replay", steps)
            # Arguments, and two losses of zero per iteration.
            if not re.match(r"(tensors|zeros)(_\d+)?$", operation.name)
        } for steps in (1, 8)
    )
    assert one == many
