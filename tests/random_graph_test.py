"""Generated Functional models: cut everywhere, and trained.

Hypothesis draws programs, lists of numbers, of which every one makes a model.
"""

import dataclasses
import json
import re

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import fr_keras
from tests.comparison import BATCH, check

layers = keras.layers
WIDTH, MAX_WIDTH = 4, 12
CLASSES, LENGTH = 5, 2  # Of integer inputs.
# 15 iterations, and one of a smaller batch.
NUM_EXAMPLES = 15 * BATCH + 2

# Some more often than others, so that there is enough to cut.
STEPS = (
    "dense", "dense", "dense", "linear", "linear", "normalize", "drop",
    "nested", "fork", "add", "plus", "concatenate", "product", "slice",
    "split", "compare", "where", "again", "again",
)
STRUCTURES = ("list", "tuple", "dict", "nested")


@dataclasses.dataclass
class Program:
    """What a model is made from.

    Attributes:
        inputs: list of str, "float" or "integer".
        steps: list of `(name, i, j)`: the method of `Builder`, and how many
            tensors ago (modulo how many there are) its operands were made.
        outputs: list of int, how many tensors ago they were made, besides the
            last.
        structures: tuple of str, of the inputs and of the outputs.
        choice: int, chooses what else there is to choose.
    """

    inputs: list
    steps: list
    outputs: list
    structures: tuple
    choice: int


small = st.integers(0, 30)
programs = st.builds(
    Program,
    inputs=st.lists(
        st.sampled_from(["float", "integer"]), min_size=1, max_size=3
    ),
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), small, small),
        min_size=2, max_size=14,
    ),
    outputs=st.lists(small, max_size=3),
    structures=st.tuples(*[st.sampled_from(STRUCTURES)] * 2),
    choice=st.integers(0, 1000),
)


class Builder:
    """Runs a program.

    Attributes:
        tensors: list of `keras.KerasTensor` of shape (batch, width).
        masks: the same, boolean.
        reusable: list of `(layer, width)` that may be called again.
    """

    def __init__(self, program):
        self.inputs, self.tensors, self.masks, self.reusable = [], [], [], []
        for i, kind in enumerate(program.inputs):
            if kind == "float":
                x = keras.Input((WIDTH,), name=f"n{i}")
                self.tensors.append(x)
            else:
                x = keras.Input((LENGTH,), dtype="int32", name=f"n{i}")
                embedded = layers.Embedding(CLASSES, WIDTH // LENGTH)(x)
                self.tensors.append(layers.Flatten()(embedded))
            self.inputs.append(x)
        self.tensors.append(layers.Dense(WIDTH)(self.tensors[0]))
        for name, i, j in program.steps:
            made = getattr(self, name)(self.ago(i), j)
            self.tensors.extend([made] if hasattr(made, "shape") else made)
        outputs = [self.tensors[-1], *map(self.ago, program.outputs)]
        self.model = keras.Model(
            arranged(self.inputs, program.structures[0]),
            arranged(outputs, program.structures[1]),
        )

    def ago(self, i):
        return self.tensors[-1 - i % len(self.tensors)]

    def two(self, x, j):
        """x, and another tensor at its width."""
        other = self.ago(j)
        if other.shape[-1] != x.shape[-1]:
            other = layers.Dense(x.shape[-1])(other)
        return x, other

    def call(self, layer, x):
        self.reusable.append((layer, x.shape[-1]))
        return layer(x)

    def dense(self, x, j):
        return self.call(layers.Dense(3 + j % 3, activation="tanh"), x)

    def linear(self, x, j):
        return self.call(layers.Dense(3 + j % 3), x)

    def normalize(self, x, j):
        return self.call(layers.BatchNormalization(momentum=0.75), x)

    def drop(self, x, j):
        return self.call(layers.Dropout(0.25, seed=j), x)

    def nested(self, x, j):
        """A model with a skip, random numbers and moving averages."""
        inputs = keras.Input(x.shape[1:])
        inner = layers.Dropout(0.25, seed=j)(layers.Dense(4)(inputs))
        inner = layers.BatchNormalization()(inner)
        outputs = layers.Dense(3)(layers.Concatenate()([inner, inputs]))
        return self.call(keras.Model(inputs, outputs), x)

    def fork(self, x, j):
        """A model with several inputs and outputs, in dicts."""
        x, y = self.two(x, j)
        a, b = (keras.Input(x.shape[1:], name=name) for name in "ab")
        c = layers.Dense(3, activation="tanh")(a)
        model = keras.Model(
            {"a": a, "b": b}, {"sum": layers.Dense(3)(a + b) + c, "c": c}
        )
        made = model({"a": x, "b": y})
        return [made["sum"], made["c"]]

    def add(self, x, j):
        return layers.Add()(self.two(x, j))

    def plus(self, x, j):
        x, y = self.two(x, j)
        return x + 0.5 * y

    def concatenate(self, x, j):
        if x.shape[-1] + self.ago(j).shape[-1] > MAX_WIDTH:
            return self.add(x, j)
        return layers.Concatenate()([x, self.ago(j)])

    def product(self, x, j):
        # One factor is bounded, so that no chain of products explodes.
        x, y = self.two(x, j)
        return layers.Multiply()([x, keras.ops.tanh(y)])

    def slice(self, x, j):
        return x[:, 1:] if x.shape[-1] > 2 else x[:, ::-1]

    def split(self, x, j):
        at = 1 + j % (x.shape[-1] - 1) if x.shape[-1] > 1 else 1
        return keras.ops.split(x, [at], axis=-1) if x.shape[-1] > 1 else -x

    def compare(self, x, j):
        self.masks.append(keras.ops.sum(x, axis=-1, keepdims=True) > 0)
        return []

    def where(self, x, j):
        if not self.masks:
            self.compare(self.ago(j), 0)
        mask = self.masks[j % len(self.masks)]
        return keras.ops.where(mask, x, keras.ops.tanh(x))

    def again(self, x, j):
        """A layer that was used before, with weights or without."""
        if not self.reusable:
            return self.drop(x, j)
        layer, width = self.reusable[-1 - j % len(self.reusable)]
        if x.shape[-1] != width:
            x = layers.Dense(width)(x)
        return layer(x)


def arranged(tensors, structure):
    if len(tensors) == 1 and structure != "dict":
        return tensors[0]
    if structure == "dict":
        return {f"n{i}": tensor for i, tensor in enumerate(tensors)}
    if structure == "nested":
        return tensors[0], {"more": tuple(tensors[1:])}
    return {"list": list, "tuple": tuple}[structure](tensors)


def build(program):
    keras.utils.set_random_seed(program.choice)
    return Builder(program).model


def data(tensors, num_examples, seed):
    """Nest of arrays like a nest of `keras.KerasTensor`."""
    rng = np.random.default_rng(seed)

    def of(tensor):
        shape = (num_examples, *tensor.shape[1:])
        if tensor.dtype == "int32":
            return rng.integers(0, CLASSES, shape, dtype=np.int32)
        return rng.normal(size=shape)

    return keras.tree.map_structure(of, tensors)


def most_modules(model):
    """The largest K that `partition` allows."""
    with pytest.raises(ValueError, match="must be at most") as error:
        fr_keras.partition(model, 1000)
    return int(re.search(r"at most (\d+)", str(error.value)).group(1))


def assert_same(ours, theirs):
    keras.tree.assert_same_structure(ours, theirs)
    for a, b in zip(keras.tree.flatten(ours), keras.tree.flatten(theirs)):
        np.testing.assert_array_equal(a, b)


def check_cuts(program):
    model = build(program)
    x = data(model.input, 3, program.choice)
    expected = model(x, training=False)
    variables = [v.numpy() for v in model.variables]
    config = json.dumps(model.get_config(), default=str)

    for num_modules in range(1, most_modules(model) + 1):
        modules = fr_keras.partition(model, num_modules)
        assert len(modules) == num_modules
        outputs = x
        for module in modules:
            outputs = module(outputs, training=False)
        assert_same(outputs, expected)
        # State of random numbers, too; shared weights belong to one module.
        owned = [{id(v) for v in module.variables} for module in modules]
        assert set().union(*owned) == {id(v) for v in model.variables}
        assert sum(map(len, owned)) == len(set().union(*owned))

    assert_same(model(x, training=False), expected)
    assert_same([v.numpy() for v in model.variables], variables)
    assert json.dumps(model.get_config(), default=str) == config


def check_training(program):
    model = build(program)
    hypothesis.assume(model.weights)  # What made the output may have none.
    most = most_modules(model)
    y = data(model.output, NUM_EXAMPLES, program.choice + 1)

    def loss(outputs, y):
        return sum(
            tf.reduce_mean((a - b) ** 2)
            for a, b in zip(keras.tree.flatten(outputs), keras.tree.flatten(y))
        )

    num_modules = most - program.choice % most
    check(
        model, data(model.input, NUM_EXAMPLES, program.choice), (y,), loss,
        num_modules, steps=(1, 4)[program.choice // 10 % 2], rate=2.0**-7,
        fit={"y": y}, loss=keras.tree.map_structure(lambda _: "mse", y),
    )


def sample(max_examples, **options):
    """Settings for always the same examples."""
    return hypothesis.settings(
        max_examples=max_examples, derandomize=True, deadline=None,
        database=None, suppress_health_check=list(hypothesis.HealthCheck),
        **options,
    )


# To shrink an example would take minutes.
as_drawn = {"phases": [hypothesis.Phase.generate]}


@sample(25, **as_drawn)
@hypothesis.given(programs)
def test_cutting_changes_nothing(float64, program):
    check_cuts(program)


@sample(4, **as_drawn)
@hypothesis.given(programs)
def test_training_is_the_reference(float64, program):
    check_training(program)


@pytest.mark.slow
@sample(1000, **as_drawn)
@hypothesis.given(programs)
def test_cutting_changes_nothing_in_a_large_sample(float64, program):
    check_cuts(program)


@pytest.mark.slow
@sample(60, **as_drawn)
@hypothesis.given(programs)
def test_training_is_the_reference_in_a_large_sample(float64, program):
    check_training(program)
