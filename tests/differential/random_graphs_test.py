"""Graphs drawn at random, by Keras and by us."""

import hypothesis
import keras
import pytest
from hypothesis import strategies as st

from tests import random_graph_test
from tests.differential.graph_cases import Composite, OtherOrder
from tests.differential.harness import BATCH, Case, check, fit_and_call, session

layers = keras.layers
RANDOM = 60
# The programs of tests/random_graph_test.py, and more steps.
STEPS = random_graph_test.STEPS + (
    "inference", "frozen", "sequential", "deep", "frozen_part", "other_order",
    "composite",
)


class Builder(random_graph_test.Builder):
    """Nests deeper, freezes, and calls models for inference."""

    def sequential(self, x, j):
        return self.call(
            keras.Sequential([
                keras.Input(x.shape[1:]), layers.Dense(4, activation="tanh"),
                layers.BatchNormalization(), layers.Dense(3),
            ]),
            x,
        )

    def deep(self, x, j):
        """Sequential in Functional in Functional."""
        inputs = keras.Input(x.shape[1:])
        inner = keras.Sequential([
            keras.Input(x.shape[1:]), layers.Dense(3, activation="tanh"),
            layers.Dropout(0.25, seed=j),
        ])
        middle = keras.Model(
            inputs, layers.Concatenate()([inner(inputs), inputs])
        )
        outer = keras.Input(x.shape[1:])
        return self.call(
            keras.Model(outer, layers.Dense(4)(middle(outer))), x
        )

    def inference(self, x, j):
        inner = keras.Sequential([
            keras.Input(x.shape[1:]), layers.Dense(3, activation="tanh"),
            layers.BatchNormalization(), layers.Dropout(0.5, seed=j),
        ])
        return inner(x, training=False)

    def frozen(self, x, j):
        layer = layers.Dense(3 + j % 3, activation="tanh")
        y = self.call(layer, x)
        layer.trainable = False
        return y

    def frozen_part(self, x, j):
        inner = keras.Sequential([
            keras.Input(x.shape[1:]), layers.Dense(4, activation="tanh"),
            layers.BatchNormalization(), layers.Dense(3),
        ])
        inner.layers[j % 3].trainable = False
        return self.call(inner, x)

    def other_order(self, x, j):
        return self.call(OtherOrder(x.shape[-1]), x)

    def composite(self, x, j):
        return self.call(Composite(), x)


programs = st.builds(
    random_graph_test.Program,
    inputs=st.lists(
        st.sampled_from(["float", "integer"]), min_size=1, max_size=3
    ),
    steps=st.lists(
        st.tuples(
            st.sampled_from(STEPS), random_graph_test.small,
            random_graph_test.small,
        ),
        min_size=2, max_size=14,
    ),
    outputs=st.lists(random_graph_test.small, max_size=3),
    structures=st.tuples(
        st.sampled_from(random_graph_test.STRUCTURES),
        # Keras trains no outputs in a nest of more than one level.
        st.sampled_from(("list", "tuple", "dict")),
    ),
    choice=st.integers(0, 1000),
)


def check_program(program):
    def make():
        return Builder(program).model

    with session("float64"):
        model = make()
        most = random_graph_test.most_modules(model)
    hypothesis.assume(model.trainable_weights)
    num_modules = most - program.choice % most

    def fit():
        num_examples = 2 * BATCH + 2
        return {
            "x": random_graph_test.data(
                model.input, num_examples, program.choice
            ),
            "y": random_graph_test.data(
                model.output, num_examples, program.choice + 1
            ),
        }

    check(Case(
        make, fit=fit, run=fit_and_call, num_modules=(num_modules,),
        compile=lambda: {
            "optimizer": keras.optimizers.SGD(2.0**-6, 0.875),
            "loss": keras.tree.map_structure(lambda _: "mse", model.output),
            "steps_per_execution": 1 + program.choice % 2,
        },
        # What is drawn may be a frozen layer, or nothing that the loss needs.
        moves=False,
    ))


@random_graph_test.sample(2, **random_graph_test.as_drawn)
@hypothesis.given(programs)
def test_random_graphs(program):
    check_program(program)


@pytest.mark.slow
@random_graph_test.sample(RANDOM, **random_graph_test.as_drawn)
@hypothesis.given(programs)
def test_random_graphs_in_a_large_sample(program):
    check_program(program)
