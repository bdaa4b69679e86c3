"""Layers as users write them, for `custom_layer_cases.py`."""

import keras
import tensorflow as tf

layers = keras.layers
ops = keras.ops


# What is assigned while a layer is called.


class Counted(layers.Layer):
    """A metric that the layer itself updates."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean(name="mean_activation")

    def call(self, x):
        self.mean.update_state(ops.mean(x))
        return 2.0 * x


@keras.saving.register_keras_serializable("differential")
class RunningMean(layers.Layer):
    """State that is assigned, and read again in the same call."""

    def build(self, shape):
        self.mean = self.add_weight(
            shape=shape[-1:], initializer="zeros", trainable=False, name="mean"
        )

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.5 * self.mean + 0.5 * ops.mean(x, axis=0))
        return x - self.mean

    def compute_output_shape(self, shape):
        return shape


class Halved(layers.Layer):
    def call(self, x):
        return 0.5 * x

    def compute_output_shape(self, shape):
        return shape


class Renormalized(layers.Layer):
    """A trainable weight that is assigned in every call."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x):
        norm = ops.sqrt(ops.sum(ops.square(self.kernel), axis=0))
        self.kernel.assign(self.kernel / norm)
        return ops.matmul(x, self.kernel)


class ReadBefore(layers.Layer):
    """Trainable state that is used before and after it is assigned."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        before = x * self.scale
        self.scale.assign(0.5 * self.scale + 0.25 * ops.mean(x))
        between = x * self.scale
        self.scale.assign_add(0.125)
        return before + between * self.scale


class Codebook(layers.Layer):
    """Vector quantization, by moving averages; gradients pass straight."""

    def build(self, shape):
        width = shape[-1]
        self.codes = self.add_weight(
            shape=(5, width), initializer="glorot_uniform", trainable=False,
            name="codes",
        )
        self.counts = self.add_weight(
            shape=(5,), initializer="ones", trainable=False, name="counts"
        )
        self.sums = self.add_weight(
            shape=(5, width), initializer="zeros", trainable=False, name="sums"
        )

    def call(self, x, training=False):
        distances = ops.sum(
            ops.square(x[:, None, :] - self.codes[None]), axis=-1
        )
        chosen = ops.one_hot(
            ops.argmin(distances, axis=-1), 5, dtype=x.dtype
        )
        if training:
            self.counts.assign(
                0.9 * self.counts + 0.1 * ops.sum(chosen, axis=0)
            )
            self.sums.assign(
                0.9 * self.sums
                + 0.1 * ops.matmul(ops.transpose(chosen), x)
            )
            self.codes.assign(self.sums / self.counts[:, None])
        quantized = ops.matmul(chosen, self.codes)
        self.add_loss(
            0.25 * ops.mean(ops.square(x - ops.stop_gradient(quantized)))
        )
        return x + ops.stop_gradient(quantized - x)


class Annealed(layers.Layer):
    """An integer that counts calls, and what depends on it."""

    def build(self, shape):
        self.calls = self.add_weight(
            shape=(), dtype="int64", initializer="zeros", trainable=False,
            name="calls",
        )

    def call(self, x, training=False):
        if training:
            self.calls.assign_add(1)
        return x / (1.0 + ops.cast(self.calls, x.dtype))


class Branching(layers.Layer):
    """State that is assigned in one of two branches."""

    def build(self, shape):
        self.state = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="state"
        )

    def call(self, x):
        def count():
            self.state.assign_add(1.0)
            return 2.0 * x

        return ops.cond(ops.mean(x) > 0.48, count, lambda: x)


class RandomBranch(layers.Layer):
    """Random numbers that are drawn in one of two branches."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)

    def call(self, x):
        return ops.cond(
            ops.mean(x) > 0.48,
            lambda: x + keras.random.normal(ops.shape(x), seed=self.generator),
            lambda: x,
        )


class PlainVariable(layers.Layer):
    """State that TensorFlow knows, but not Keras."""

    def build(self, shape):
        self.state = tf.Variable(tf.zeros([], self.dtype), trainable=False)

    def call(self, x):
        self.state.assign_add(0.25)
        return x + self.state


class Norms(layers.Layer):
    """Normalization inside of a layer, which hands down `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.BatchNormalization() for _ in range(2)]
        self.dense = {"a": layers.Dense(6), "b": layers.Dense(6)}
        self.dropout = layers.Dropout(0.4, seed=5)

    def build(self, shape):
        for part in (*self.blocks, *self.dense.values()):
            part.build(shape)

    def call(self, x, training=False):
        a = self.blocks[0](self.dense["a"](x), training=training)
        b = self.blocks[1](self.dense["b"](x), training=training)
        return self.dropout(a * b, training=training)


# Losses and random numbers.


class Penalized(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(
            shape=shape[-1:], initializer="ones", name="scale"
        )

    def call(self, x, training=False):
        self.add_loss(0.1 * ops.sum(ops.square(self.scale)))
        if training:
            self.add_loss(ops.mean(ops.abs(x)))
        return self.scale * x


class Noise(layers.Layer):
    """Several draws from one generator, and from a number."""

    def __init__(self, seed=3, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        if not training:
            return x
        shape = ops.shape(x)
        x += 0.1 * keras.random.normal(shape, seed=self.generator)
        x *= keras.random.uniform(shape, 0.5, 1.5, seed=self.generator)
        return x + 0.1 * keras.random.normal(shape, seed=17)


class SharedSeed(layers.Layer):
    """Sub-layers that draw from one generator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(3)
        self.parts = [Noise(), Noise()]
        for part in self.parts:
            part.generator = self.generator

    def call(self, x, training=False):
        for part in self.parts:
            x = part(x, training=training)
        return x


class Sampling(layers.Layer):
    """The middle of a variational autoencoder."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.log_variance = layers.Dense(3), layers.Dense(3)
        self.generator = keras.random.SeedGenerator(3)

    def build(self, shape):
        self.log_variance.build(shape)
        self.mean.build(shape)

    def call(self, x):
        mean, log_variance = self.mean(x), self.log_variance(x)
        divergence = ops.exp(log_variance) + mean**2 - log_variance - 1
        self.add_loss(0.05 * ops.mean(divergence))
        noise = keras.random.normal(
            ops.shape(mean), dtype=mean.dtype, seed=self.generator
        )
        return mean + ops.exp(0.5 * log_variance) * noise


# What goes in and comes out.


class Structured(layers.Layer):
    """Takes and gives dicts, tuples and numbers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape["a"])

    def call(self, inputs, power=1, offset=None):
        x = self.dense(inputs["a"]) ** power
        if offset is not None:
            x = x + offset
        return {"x": x, "more": (ops.tanh(x), inputs["b"][0])}


class Integers(layers.Layer):
    """An integer tensor, a mask and a float cross the next boundary."""

    def call(self, x):
        return ops.argmax(x, axis=-1), x > 0.5, x


class UsesIntegers(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(6, 6)

    def build(self, shapes):
        self.embedding.build(shapes[0])

    def call(self, inputs):
        chosen, mask, x = inputs
        return ops.where(mask, x, self.embedding(chosen))


class MaskMaker(layers.Layer):
    """Makes a mask of its own and passes on that of its input."""

    supports_masking = True

    def call(self, x, mask=None):
        return x if mask is None else x * ops.cast(mask[..., None], x.dtype)

    def compute_mask(self, x, previous_mask=None):
        own = ops.any(x > 0, axis=-1)
        return own if previous_mask is None else own & previous_mask


class Weighted(layers.Layer):
    """A trained number that multiplies the mask of the input."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x, mask=None):
        assert mask is not None
        return x * self.scale * ops.cast(mask[..., None], x.dtype)


# Configurations.


class Forgetful(layers.Layer):
    """Its configuration leaves out an argument."""

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, shape):
        self.scale = self.add_weight(
            shape=shape[-1:], initializer="ones", name="scale"
        )

    def call(self, x):
        return self.scale * x**self.power

    def get_config(self):
        return layers.Layer.get_config(self)


class NoConfig(layers.Layer):
    """Keras cannot write down its arguments."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.function(self.dense(x))


class BrokenConfig(NoConfig):
    def get_config(self):
        raise NotImplementedError("no configuration")


class OtherOrder(layers.Layer):
    """Weights of one shape, made in another order than they are used."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.second = layers.Dense(6, activation="tanh")
        self.first = layers.Dense(6)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x):
        return self.second(self.first(x))


class Tied(layers.Layer):
    """Uses the weights of another layer, transposed."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))
