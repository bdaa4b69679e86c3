"""Every optimizer and schedule of Keras, by Keras and by us."""

import keras
import pytest

from tests.differential.harness import (
    NUM_MODULES,
    Case,
    check,
    fit_and_call,
    fit_arguments,
)
from tests.differential.optimizer_cases import (
    LEFT_OUT,
    OPTIMIZERS,
    RATE,
    SCHEDULES,
    SCHEDULES_LEFT_OUT,
    network,
    optimizer_classes,
    rows,
    subclasses,
)
from tests.differential.selection import parameters

optimizers = keras.optimizers
schedules = optimizers.schedules
# Options that the library treats in a way of its own.
FAST = {
    ("Adam", "schedule"), ("SGD", "exclude by name"), ("Muon", ""),
    ("LossScaleOptimizer", "of a MultiOptimizer"),
    ("SGD", "accumulation, clipping, EMA"),
}


def built_first(model, arguments):
    """Keras, which builds it in a graph, loses what it begins with there."""
    if isinstance(model.optimizer, optimizers.ScheduleFreeAdamW):
        model.optimizer.build(model.trainable_variables)
    return fit_and_call(model, arguments)


def trained_with(optimizer, num_modules=NUM_MODULES):
    check(
        Case(
            network,
            compile=lambda: {"optimizer": optimizer(), "loss": "mse"},
            run=built_first,
            num_modules=num_modules,
        )
    )


@pytest.mark.parametrize("name, num_modules", parameters(rows(), FAST))
def test_is_trained_as_by_keras(name, num_modules):
    optimizer, option = name
    make = OPTIMIZERS.get(optimizer, {}).get(
        option, optimizer_classes()[optimizer]
    )
    trained_with(make, (1,) if option == "global_clipnorm" else num_modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    sorted(
        subclasses(schedules, schedules.LearningRateSchedule).keys()
        - SCHEDULES_LEFT_OUT.keys()
    ),
)
def test_schedule(name):
    # A schedule that is not listed has no defaults to try.
    trained_with(lambda: optimizers.SGD(SCHEDULES[name](), 0.875))


def test_every_class_is_tried(tell):
    left_out = LEFT_OUT | SCHEDULES_LEFT_OUT
    found = optimizer_classes() | subclasses(
        schedules, schedules.LearningRateSchedule
    )
    assert (OPTIMIZERS | SCHEDULES | left_out).keys() <= found.keys()
    tell(
        f"{len([*rows()])} optimizers and options, {len(SCHEDULES)} schedules"
    )
    for name, reason in left_out.items():
        tell(f"left out: {name}: {reason}")


@pytest.mark.slow
def test_excluded_variables():
    """Weight decay spares variables that are given themselves."""

    def run(model, arguments):
        optimizer = optimizers.SGD(RATE, weight_decay=0.25)
        optimizer.exclude_from_weight_decay(
            var_list=[
                variable for variable in model.trainable_variables
                if variable.path in ("second/kernel", "fifth/bias")
            ]
        )
        model.compile(optimizer, "mse", jit_compile=False)
        return fit_and_call(model, arguments)

    check(Case(network, run=run))


@pytest.mark.slow
def test_excluded_variables_of_the_given_model():
    """They are chosen before the model is cut."""
    made = {}

    def make():
        made["network"] = network()
        return made["network"]

    def compile_arguments():
        optimizer = optimizers.AdamW(RATE, 0.25)
        optimizer.exclude_from_weight_decay(
            var_list=made["network"].get_layer("second").trainable_variables
        )
        return {"optimizer": optimizer, "loss": "mse"}

    check(Case(make, compile=compile_arguments, run=fit_and_call))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [
    lambda: optimizers.SGD(RATE, weight_decay=0.25),
    lambda: optimizers.AdamW(RATE, 0.25),
], ids=["SGD", "AdamW"])
def test_attributes_that_are_set_later(optimizer):
    def run(model, arguments):
        first = fit_and_call(model, arguments)
        model.optimizer.learning_rate = RATE / 2
        model.optimizer.weight_decay = 0.0
        # Keras reads it where it traces.
        model.make_train_function(force=True)
        return first, fit_and_call(model, arguments)

    check(Case(
        network, run=run,
        compile=lambda: {"optimizer": optimizer(), "loss": "mse"},
    ))


@pytest.mark.slow
def test_overflow_of_a_dynamic_loss_scale():
    """Updates that Keras skips are skipped by every module.

    Labels of the second batch are so large that all gradients overflow at the
    scale, which is halved each time.
    """

    def fit():
        arguments = fit_arguments()
        arguments["y"][4:8] = 1e15
        return arguments

    check(Case(
        network, fit=fit, run=fit_and_call, floatx="float32",
        compile=lambda: {
            "optimizer": optimizers.LossScaleOptimizer(
                optimizers.SGD(RATE), 2.0**90
            ),
            "loss": "mse",
        },
    ))
