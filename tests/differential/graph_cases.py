"""Graphs made by hand: nested, shared, frozen, in other orders."""

import keras

from tests.differential.harness import Case, compile_arguments, fit_arguments

layers = keras.layers


def dense(units=6, **kwargs):
    return layers.Dense(units, activation="tanh", **kwargs)


def chain(*parts):
    return keras.Sequential([keras.Input((6,)), *parts])


def residual(width=6):
    """A Functional model with a skip, and a Sequential model in it."""
    inputs = keras.Input((width,))
    x = keras.Sequential([dense(5), layers.BatchNormalization(), dense(width)])(
        inputs
    )
    return keras.Model(inputs, layers.Add()([x, inputs]))


def nested():
    return chain(dense(), residual(), dense(), residual(), layers.Dense(3))


def deeply_nested():
    inputs = keras.Input((6,))
    block = keras.Sequential([dense(), residual(), layers.Dropout(0.3, seed=3)])
    outputs = block(inputs)
    inner = keras.Model(inputs, [outputs, dense(4)(outputs)])
    outer = keras.Input((6,))
    one, two = inner(dense()(outer))
    return keras.Model(
        outer, layers.Dense(3)(layers.Concatenate()([dense()(one), two]))
    )


def nested_dicts():
    """A nested model with dicts at both ends."""
    a, b = (keras.Input((6,), name=name) for name in "ab")
    c = dense()(a)
    inner = keras.Model(
        {"a": a, "b": b}, {"c": dense()(c + b), "d": [c, dense(4)(b)]}
    )
    inputs = keras.Input((6,))
    made = inner({"b": dense()(inputs), "a": inputs})
    x = layers.Concatenate()([made["c"], *made["d"]])
    return keras.Model(inputs, layers.Dense(3)(dense()(x)))


def inference_nested():
    """A nested model that is called with training=False."""
    inputs = keras.Input((6,))
    inner = chain(
        dense(), layers.BatchNormalization(), layers.Dropout(0.5, seed=3)
    )
    x = inner(dense()(inputs), training=False)
    return keras.Model(inputs, layers.Dense(3)(dense()(dense()(x))))


def training_nested():
    inputs = keras.Input((6,))
    inner = chain(
        dense(), layers.BatchNormalization(), layers.Dropout(0.5, seed=3)
    )
    x = inner(dense()(inputs), training=True)
    return keras.Model(inputs, layers.Dense(3)(dense()(dense()(x))))


def fine_tuned():
    """The usual recipe: a frozen base, called for inference, and a head."""
    base = chain(dense(), layers.BatchNormalization(), dense())
    base.trainable = False
    inputs = keras.Input((6,))
    x = base(inputs, training=False)
    for _ in range(3):
        x = dense()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def frozen_nested():
    """One nested model is frozen, of another the first layer."""
    one, two = residual(), residual()
    one.trainable = False
    two.layers[1].layers[0].trainable = False
    return chain(dense(), one, dense(), two, layers.Dense(3))


def nested_twice():
    """A nested model that is called twice."""
    shared = residual()
    inputs = keras.Input((6,))
    x = shared(dense()(shared(dense()(inputs))))
    return keras.Model(inputs, layers.Dense(3)(dense()(x)))


def shared_inside_and_outside():
    """A layer of a nested model that is called outside of it as well."""
    shared = dense()
    inner = chain(shared, dense())
    inputs = keras.Input((6,))
    x = shared(dense()(inner(inputs)))
    return keras.Model(inputs, layers.Dense(3)(dense()(x)))


def siamese():
    """One tower for two inputs."""
    tower = chain(dense(), layers.BatchNormalization(), dense(4))
    a, b = keras.Input((6,)), keras.Input((6,))
    x = layers.Subtract()([tower(a), tower(b)])
    return keras.Model([a, b], layers.Dense(3)(dense()(dense()(x))))


def tied_autoencoder():
    embedding = layers.ReversibleEmbedding(9, 4, name="tied")
    inputs = keras.Input((5,), dtype="int32")
    x = embedding(inputs)
    for _ in range(3):
        x = dense(4)(x)
    return keras.Model(inputs, embedding(x, reverse=True))


def output_of_the_middle():
    """Outputs that appear early, one of them an input of what follows."""
    inputs = keras.Input((6,))
    x = dense(3)(inputs)
    y = dense(3)(dense()(x))
    return keras.Model(inputs, [x, layers.Dense(3)(dense()(y)), y])


def same_names():
    """Two nested models whose layers are called alike."""

    def block():
        return chain(dense(name="same"), layers.Dense(6, name="other"))

    return chain(dense(name="first"), block(), block(), layers.Dense(3))


def operations():
    """What is computed without layers."""
    inputs = keras.Input((6,))
    x = dense()(inputs)
    x = keras.ops.relu(x[:, ::-1] - 0.1 * inputs)
    y = dense()(keras.ops.concatenate([x, x**2], axis=-1))
    gate, value = keras.ops.split(dense()(y), 2, axis=-1)
    return keras.Model(inputs, layers.Dense(3)(gate * value))


def output_nobody_needs():
    """Keras runs all of a nested model: its statistics and penalties, too."""
    inputs = keras.Input((6,))
    x = dense()(inputs)
    not_needed = layers.BatchNormalization(momentum=0.5)(x)
    not_needed = layers.Dense(3, kernel_regularizer="l2")(not_needed)
    inner = keras.Model(
        inputs, {"not needed": not_needed, "needed": dense()(x)}
    )
    # What skips over the modules is led around them.
    outer = keras.Input((6,))
    x = inner(dense()(outer))["needed"]
    x = layers.Concatenate()([outer, dense()(x)])
    return keras.Model(outer, layers.Dense(3)(dense()(x)))


class Positive(layers.Layer):
    """Makes booleans, but Keras takes them for numbers."""

    def call(self, x):
        return x > 0

    def compute_output_shape(self, shape):
        return shape


class Scaled(layers.Layer):
    """Makes numbers, of other shape and dtype than it says."""

    def call(self, x):
        return 2.0 * x

    def compute_output_spec(self, x):
        return keras.KerasTensor((None, x.shape[-1] + 1), "int32")


class Chosen(layers.Layer):
    """One or the other of two tensors."""

    def call(self, condition, x, y):
        return keras.ops.where(condition, x, y)

    def compute_output_spec(self, condition, x, y):
        return keras.KerasTensor(y.shape, y.dtype)


def declared_otherwise():
    """What crosses is not what layers say."""
    inputs = keras.Input((6,))
    x = dense()(inputs)
    positive, scaled = Positive()(x), Scaled()(x)
    for _ in range(2):
        x = dense()(x)
    x = Chosen()(positive, scaled, x)
    return keras.Model(inputs, layers.Dense(3)(dense()(x)))


class OtherOrder(keras.Model):
    """Layers are attributes in another order than they are called.

    This is how KerasHub makes its models.
    """

    def __init__(self, width=6, **kwargs):
        self.b, self.a = dense(width), dense(width)
        inputs = keras.Input((width,))
        super().__init__(inputs, self.b(self.a(inputs)), **kwargs)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Backbone(keras.Model):
    """The same with another such model inside, and a layer more."""

    def __init__(self, **kwargs):
        self.head = layers.Dense(3)
        self.last = dense()
        self.inner = OtherOrder()
        self.first = dense()
        inputs = keras.Input((6,))
        x = self.last(self.inner(self.first(inputs)))
        super().__init__(inputs, self.head(x), **kwargs)

    def get_config(self):
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Composite(layers.Layer):
    """A layer that makes its parts in another order than it calls them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.second, self.first = dense(), dense()
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.first.build(shape)
        for part in (self.norm, self.second):
            part.build((*shape[:-1], 6))

    def call(self, x, training=False):
        return self.second(self.norm(self.first(x), training=training))


def with_data(make, x=None, y=None):
    """A `Case` on other shapes than usual."""

    def fit():
        arguments = fit_arguments()
        model_x, model_y = arguments["x"], arguments["y"]
        return {
            "x": x(model_x) if x else model_x,
            "y": y(model_y) if y else model_y,
        }

    return Case(make, fit=fit)


def tokens(x):
    return (abs(x[:, :5]) * 4).astype("int32") % 9


CASES = {
    "nested": Case(nested),
    "deeply nested": Case(deeply_nested),
    "nested dicts": Case(nested_dicts),
    "nested, training=False": Case(inference_nested),
    "nested, training=True": Case(training_nested),
    "fine-tuned": Case(fine_tuned),
    "nested and frozen": Case(frozen_nested),
    "nested twice": Case(nested_twice),
    "shared inside and outside": Case(shared_inside_and_outside),
    "siamese": with_data(siamese, lambda x: [x, x[::-1]]),
    "tied embedding": Case(
        tied_autoencoder,
        fit=lambda: {
            "x": tokens(fit_arguments()["x"]), "y": tokens(fit_arguments()["x"])
        },
        compile=lambda: {
            **compile_arguments(),
            "loss": keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            ),
        },
    ),
    "output of the middle": with_data(
        output_of_the_middle, y=lambda y: [y, 2 * y, -y]
    ),
    "same names": Case(same_names),
    "output that nobody needs": Case(output_nobody_needs),
    "operations": Case(operations),
    "declared otherwise": Case(declared_otherwise),
    "other order": Case(
        lambda: chain(dense(), OtherOrder(), dense(), layers.Dense(3))
    ),
    "other order, alone": Case(Backbone),
    "other order, two": Case(
        lambda: chain(OtherOrder(), OtherOrder(), layers.Dense(3))
    ),
    "other order in a layer": Case(
        lambda: chain(dense(), Composite(), dense(), layers.Dense(3))
    ),
    "model in a model in a model": Case(
        lambda: chain(chain(chain(dense(), chain(dense())), dense()),
                      layers.Dense(3))
    ),
}
