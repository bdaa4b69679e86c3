"""Layers of users are trained as by Keras, with all their state."""

import keras
import numpy as np
import pytest

from tests.differential.custom_layer_cases import CASES
from tests.differential.custom_layers import (
    Branching,
    Codebook,
    Counted,
    RandomBranch,
    RunningMean,
    Sampling,
)
from tests.differential.harness import (
    EXAMPLES,
    Case,
    check,
    compile_arguments,
    fit_and_call,
    fit_arguments,
)
from tests.differential.layer_cases import of_kind
from tests.differential.selection import parameters

layers = keras.layers
FAST = {
    "metric in a layer", "codebook", "frozen query of attention",
    "regularizer of a variable", "regularizer set too late",
    "configuration without an argument", "layer called twice",
    "weight read before and after",
}


@pytest.mark.parametrize("name, num_modules", parameters(CASES, FAST))
@pytest.mark.quick_cases("metric in a layer", "codebook", "frozen query")
def test_is_trained_as_by_keras(name, num_modules):
    check(of_kind(*CASES[name], num_modules=num_modules))


def test_number_of_cases(tell):
    assert len(CASES) >= 50
    tell(f"{len(CASES)} layers of users, and what users do to layers")


# What is assigned in a branch is refused.


@pytest.mark.parametrize("layer", [Branching, RandomBranch])
def test_assignment_in_a_branch_is_refused(layer):
    check(of_kind("vector", layer, refusal="inside a branch or a loop"))


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 2, 3])
def test_state_over_several_iterations_of_a_call(steps_per_execution):
    check(of_kind(
        "vector", lambda: lambda x: Codebook()(RunningMean()(Counted()(x))),
        compile=lambda: {
            **compile_arguments(), "steps_per_execution": steps_per_execution
        },
    ))


@pytest.mark.slow
def test_state_when_run_eagerly():
    check(of_kind(
        "vector", lambda: lambda x: Codebook()(RunningMean()(Counted()(x))),
        compile=lambda: {**compile_arguments(), "run_eagerly": True},
    ))


@pytest.mark.slow
@pytest.mark.parametrize("kind, make", [
    ("image", lambda: layers.RandomFlip(seed=3)),
    ("sequence", lambda: layers.GRU(3, dropout=0.3, seed=3)),
    ("vector", Sampling),
    ("vector", Branching),
], ids=["RandomFlip", "GRU", "variational", "branch"])
def test_random_numbers_when_run_eagerly(kind, make):
    """Nothing is drawn, or counted, but for a step."""
    check(of_kind(
        kind, make,
        compile=lambda: {**compile_arguments(), "run_eagerly": True},
    ))


@pytest.mark.slow
def test_state_between_batches_of_different_lengths():
    def make():
        return keras.Sequential([
            keras.Input((None, 3)),
            layers.Dense(4),
            layers.SpatialDropout1D(0.3, seed=3),
            layers.LSTM(4, return_sequences=True),
            layers.BatchNormalization(),
            layers.GRU(4),
            layers.Dense(4, activation="tanh"),
            layers.Dense(3),
        ])

    def run(model, arguments):
        rng = np.random.default_rng(0)
        logs = [
            model.train_on_batch(
                rng.normal(size=(4, length, 3)), arguments["y"][:4],
                return_dict=True,
            )
            for length in (3, 5, 3, 7)
        ]
        return logs, fit_and_call(
            model, {**arguments, "x": rng.normal(size=(EXAMPLES, 4, 3))}
        )

    check(Case(make, fit=fit_arguments, run=run))
