"""Small trainings with checkpoints that are killed and resumed."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import fr_keras
from fr_keras.callbacks.checkpoints import training_state

_chance = np.random.default_rng(0)
X = _chance.normal(size=(150, 8)).astype("float32")
Y = _chance.integers(0, 4, 150)


class Killed(Exception):
    """What ends a training in its middle."""


class Kill(keras.callbacks.Callback):
    """Ends training after so many calls of the training function."""

    def __init__(self, after):
        super().__init__()
        self.left = iter(range(after - 1))  # No state that would be kept.

    def on_train_batch_end(self, batch, logs=None):
        if next(self.left, None) is None:
            raise Killed


class Seen(keras.callbacks.Callback):
    """Notes the logs of epochs, and where calls begin."""

    def __init__(self):
        super().__init__()
        self.epochs = {}
        self.batches = set()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.batches |= {(self.epoch, batch)}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = {k: float(v) for k, v in logs.items()}

    def get_state(self):  # It is not part of the training.
        return {}

    def set_state(self, state):
        del state


def network(activation="relu", rate=0.3, **options):
    keras.utils.set_random_seed(7)
    return keras.Sequential([
        keras.Input([8]),
        layers.Dense(16, activation, **options), layers.BatchNormalization(),
        layers.Dropout(rate), layers.Dense(16, activation),
        layers.Dropout(rate), layers.Dense(4),
    ])


def build(algorithm="FeaturesReplay", num_modules=3, steps=4, optimizer=None,
          net=network, **options):
    if algorithm in ("GPipe", "Pipeline"):
        options["num_microbatches"] = 2
    if algorithm == "Pipeline":
        options["schedule"] = "zb-h1"
    model = getattr(fr_keras, algorithm)(net(), num_modules, **options)
    model.compile(
        optimizer() if optimizer else keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
    )
    return model


def shuffled():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(
        150, seed=3
    ).batch(10)


DATA = {
    "dataset": lambda: {"x": shuffled()},
    "unknown length": lambda: {"x": shuffled().filter(lambda *_: True)},
    "repeated": lambda: {"x": shuffled().repeat(), "steps_per_epoch": 13},
    "arrays": lambda: {
        "x": X, "y": Y, "batch_size": 10, "validation_data": (X[:30], Y[:30]),
    },
}


def killed_and_continued(folder, make, data, kills, callbacks=list, **options):
    """Trains with kills; returns the model, what was seen, the restores."""
    seen, restored = Seen(), []
    for after in [*kills, None]:
        model = make()
        kept = fr_keras.Checkpoints(folder, every_steps=4, **options)
        late = [Kill(after)] if after else []
        try:
            model.fit(
                **data(), epochs=4, verbose=0,
                callbacks=[kept, *callbacks(), seen, *late],
            )
        except Killed:
            pass
        restored.append(kept.restored)
    return model, seen, restored


def trained(make, data, callbacks=list):
    model, seen = make(), Seen()
    model.fit(**data(), epochs=4, verbose=0, callbacks=[*callbacks(), seen])
    return model, seen


def assert_equal_models(one, other):
    state = [training_state.variables(model) for model in (one, other)]
    for group in state[0]:
        for a, b in zip(state[0][group], state[1][group], strict=True):
            if a.dtype != tf.variant:
                np.testing.assert_array_equal(a, b, err_msg=f"{group} {a.name}")
