"""Copies: by the graph, with state and flags, seen to compute the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fr_keras.cutting import copying
from tests.kinds import (
    Unserializable,
    assert_equal,
    devices_of,
    full,
    layers_of_all_kinds,
    nested,
    residual,
    values,
)

layers = keras.layers


def copied(model):
    copy, kept, _ = copying.copy_model(model)
    assert not kept
    return copy


@pytest.mark.parametrize(
    "make", [layers_of_all_kinds, residual, nested]
)
def test_copy_has_the_state_of_the_original(make):
    model = make()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    for _ in range(3):
        model(x, training=True)  # Moves statistics and random state.
    before = values(model)
    original_devices = devices_of(model)

    copy = copied(model)

    assert type(copy) is type(model)
    assert copy.name == model.name
    assert devices_of(copy) == {full(0)}
    assert devices_of(model) == original_devices
    assert [v.name for v in copy.variables] == [v.name for v in model.variables]
    assert_equal(values(copy), before)
    assert len(copy.trainable_variables) == len(model.trainable_variables)
    original = {id(v) for v in model.variables}
    assert not original & {id(v) for v in copy.variables}

    # The same random numbers next; training one leaves the other alone.
    expected = np.array(model(x, training=True))
    after = values(model)
    np.testing.assert_allclose(copy(x, training=True), expected, rtol=1e-6)
    assert_equal(values(model), after)
    for variable in copy.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
    assert_equal(values(model), after)


def test_copy_is_made_on_the_host():
    with tf.device(full(2)):
        model = layers_of_all_kinds()
    assert devices_of(model) == {full(2)}
    assert devices_of(copied(model)) == {full(0)}


def test_copy_keeps_what_is_frozen_and_regularized():
    model = layers_of_all_kinds()
    copy = copied(model)
    assert [layer.trainable for layer in copy.layers] == [
        True, True, True, False
    ]
    assert copy.get_layer("dense").kernel_regularizer is not None


def test_copy_of_lambda_layer():
    factor = 3.0
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: factor * x)]
    )
    copy = copied(model)
    np.testing.assert_array_equal(copy(np.ones([2, 4])), np.full([2, 4], 3.0))


def test_copy_of_lambda_layer_in_nested_model():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Lambda(lambda x: 3.0 * x)]
    )
    model = keras.Sequential([keras.Input((4,)), inner])
    copy = copied(model)
    np.testing.assert_array_equal(copy(np.ones([2, 4])), np.full([2, 4], 3.0))


def test_subclassed_model_that_cannot_be_copied():
    model = Unserializable(lambda x: x + 1, name="stubborn")
    model(np.ones([2, 4], "float32"))
    with pytest.raises(ValueError, match="'stubborn'.*get_config.*Received"):
        copying.copy_model(model)


def test_copy_of_a_dropout_that_was_turned_off():
    """Made without dropout, the copy has no random state."""
    model = layers_of_all_kinds()
    model.get_layer("dropout").rate = 0.0
    copy = copied(model)
    assert_equal([np.array(v) for v in copy.weights], [
        np.array(v) for v in model.weights
    ])


def test_copy_of_adapted_preprocessing():
    """What layers learn in `adapt` is partly in no variable."""
    normalize = keras.layers.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(3.0, 2.0, (100, 4)))
    model = keras.Sequential([keras.Input((4,)), normalize])
    x = np.ones([2, 4], "float32")
    np.testing.assert_array_equal(copied(model)(x), model(x))

    words = keras.layers.StringLookup()
    words.adapt(["a", "b", "b"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), words])
    x = tf.constant([["b"], ["c"], ["a"]])
    np.testing.assert_array_equal(copied(model)(x), model(x))

    bins = keras.layers.Discretization(num_bins=4, output_mode="one_hot")
    bins.adapt(np.arange(40.0)[:, np.newaxis])
    model = keras.Sequential([keras.Input((1,)), bins])
    x = np.array([[2.0], [38.0]])
    np.testing.assert_array_equal(copied(model)(x), model(x))


def test_vocabulary_that_keras_cannot_load():
    words = keras.layers.TextVectorization(output_mode="tf_idf")
    words.adapt(["a b", "b c", "c"])
    model = keras.Sequential([
        keras.Input((), dtype="string"), words, layers.Dense(2)
    ])
    copy, kept, _ = copying.copy_model(model)
    assert list(kept) == [words]
    assert "cannot reload its vocabulary" in kept[words]
    assert copy.layers[0] is words


# By the graph.


@keras.saving.register_keras_serializable("copying_test")
class Backwards(keras.Model):
    """Has its layers in another order than it calls them."""

    def __init__(self, **kwargs):
        inputs = keras.Input((4,))
        last = layers.Dense(4, activation="tanh", name="last")
        first = layers.Dense(4, activation="tanh", name="first")
        super().__init__(inputs, last(first(inputs)), **kwargs)

    def get_config(self):
        return {"name": self.name}


@keras.saving.register_keras_serializable("copying_test")
class Attributes(keras.Model):
    """The same, as KerasHub writes it: layers are attributes first."""

    def __init__(self, **kwargs):
        self.last = layers.Dense(4, activation="tanh", name="last")
        self.first = layers.Dense(4, activation="tanh", name="first")
        inputs = keras.Input((4,))
        super().__init__(inputs, self.last(self.first(inputs)), **kwargs)

    def get_config(self):
        return {"name": self.name}


class Unregistered(Attributes):
    """Cannot be made again: what it is given is no configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def get_config(self):
        raise NotImplementedError


class Changed(keras.Model):
    """Is made again otherwise than it is: its configuration is not all."""

    def __init__(self, units=5, **kwargs):
        inputs = keras.Input((4,))
        self.first = layers.Dense(units, activation="tanh", name="first")
        self.last = layers.Dense(4, name="last")
        super().__init__(inputs, self.last(self.first(inputs)), **kwargs)

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    "make",
    [Backwards, Attributes, lambda: Unregistered(print), lambda: Changed(6)],
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_layers_made_in_another_order_than_called(make, is_nested):
    model = make()
    if is_nested:
        inputs = keras.Input((4,))
        model = keras.Model(inputs, layers.Dense(2)(model(inputs)))
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_array_equal(copied(model)(x), model(x))


def test_layer_inside_and_outside_of_a_class():
    inner = Attributes()
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner.first(inner(inputs)))
    copy = copied(model)
    assert len(copy.variables) == len(model.variables) == 4
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_array_equal(copy(x), model(x))


def test_class_of_a_graph_is_kept():
    assert type(copied(Attributes())) is Attributes


class Holder(layers.Layer):
    """Uses the table of another layer."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def call(self, x):
        return keras.ops.matmul(
            x, keras.ops.transpose(self.embedding.embeddings)
        )

    def get_config(self):
        return {
            "name": self.name,
            "embedding": keras.saving.serialize_keras_object(self.embedding),
        }

    @classmethod
    def from_config(cls, config):
        config["embedding"] = keras.saving.deserialize_keras_object(
            config["embedding"]
        )
        return cls(**config)


def test_variable_that_two_layers_share_is_not_doubled():
    """Made again, `Holder` would have a table of its own."""
    embedding = layers.Embedding(5, 3)
    inputs = keras.Input((2,), dtype="int32")
    model = keras.Model(inputs, Holder(embedding)(embedding(inputs)))
    copy, kept, _ = copying.copy_model(model)
    assert {type(layer) for layer in kept} == {Holder, layers.Embedding}
    assert len({id(v) for v in copy.variables}) == 1
    x = np.array([[1, 2]])
    np.testing.assert_array_equal(copy(x), model(x))


# Flags of single variables.


def test_flags_of_parts_and_variables():
    attention = layers.MultiHeadAttention(2, 3, name="attention")
    inputs = keras.Input((5, 4))
    x = attention(inputs, inputs)
    x = layers.Dense(4, kernel_regularizer="l1", name="dense")(x)
    x = layers.Dense(4, name="late")(x)
    model = keras.Model(inputs, layers.Dense(4, name="last")(x))
    attention._query_dense.trainable = False
    dense, late = model.get_layer("dense"), model.get_layer("late")
    dense.bias.trainable = False
    dense.kernel.constraint = keras.constraints.NonNeg()
    dense.bias.regularizer = keras.regularizers.L2(0.5)
    late.kernel_regularizer = keras.regularizers.L2(0.5)  # For Keras too late.

    copy = copied(model)

    names = [variable.path for variable in model.trainable_variables]
    assert [v.path for v in copy.trainable_variables] == names
    assert not any("query" in name for name in names)
    dense, late = copy.get_layer("dense"), copy.get_layer("late")
    assert isinstance(dense.kernel.constraint, keras.constraints.NonNeg)
    assert isinstance(dense.kernel.regularizer, keras.regularizers.L1)
    assert isinstance(dense.bias.regularizer, keras.regularizers.L2)
    assert late.kernel.regularizer is None


def test_layers_of_a_frozen_model():
    """Frozen as a whole, then one layer unfrozen, as for fine-tuning."""
    inner = residual()
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(2)])
    inner.trainable = False
    inner.layers[1].trainable = True
    names = [variable.path for variable in model.trainable_variables]
    assert len(names) == 4
    copy = copied(model)
    assert [v.path for v in copy.trainable_variables] == names


def test_states_that_keras_does_not_track():
    inputs = keras.Input(batch_shape=(2, 3, 4))
    lstm = layers.LSTM(3, stateful=True)
    model = keras.Model(inputs, lstm(inputs))
    model(np.ones([2, 3, 4]))
    assert np.any(np.array(lstm.states[0]) != 0)
    copy = copied(model)
    assert_equal(
        [np.array(state) for state in copy.layers[1].states],
        [np.array(state) for state in lstm.states],
    )


# What cannot be copied is kept, and said.


class WithoutConfig(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.function = layers.Dense(4), function

    def call(self, x):
        return self.function(self.dense(x))


class Forgetful(layers.Layer):
    """Its configuration does not have all that it computes with."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x, training=None):
        return x * self.factor if training else x

    def get_config(self):
        return {"name": self.name}


class Adding(layers.Layer):
    """Computes with something that is no attribute of a simple type."""

    def __init__(self, terms=(0.0,), **kwargs):
        super().__init__(**kwargs)
        self.terms = np.array(terms)

    def call(self, x):
        return x + float(self.terms.sum())

    def get_config(self):
        return {"name": self.name}


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: WithoutConfig(keras.ops.tanh), "WithoutConfig cannot be re-"),
        (lambda: Forgetful(3.0), "`factor` of .* is 3.0, but 1.0 when re"),
        (lambda: Adding([2.0, 3.0]), "computes something else"),
    ],
)
def test_layer_that_cannot_be_copied_is_kept(layer, reason):
    layer = layer()
    inner = keras.Sequential([keras.Input((4,)), layer, layers.Dense(4)])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), inner])
    copy, kept, _ = copying.copy_model(model)
    assert list(kept) == [layer]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(kept[layer])
    shared = {id(v) for v in copy.variables} & {id(v) for v in model.variables}
    assert shared == {id(variable) for variable in layer.variables}
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_array_equal(copy(x), model(x))
    assert copy.layers[1].layers[0] is layer
