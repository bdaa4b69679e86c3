r"""`model.fit` as a run that may be killed, for tests/survival.py.

    python -m tests.survival_fit accumulation --workdir=... --epochs=10 \
        --steps_per_execution=8

What the command line of trainers.train has no flags for.
"""

import argparse
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers, optimizers  # noqa: E402

import fr_keras  # noqa: E402

OPTIMIZERS = {
    "accumulation": lambda: optimizers.SGD(
        0.02, momentum=0.9, gradient_accumulation_steps=3
    ),
    "ema": lambda: optimizers.AdamW(
        0.002, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7
    ),
    "float16": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.002), dynamic_growth_steps=5
    ),
    "muon": lambda: optimizers.Muon(0.01),
}
NUM_MODULES = 3


def network():
    return keras.Sequential([
        keras.Input([8, 8, 1]),
        layers.RandomTranslation(0.1, 0.1),
        *(
            layer for width in (8, 16, 16) for layer in (
                layers.Conv2D(width, 3, padding="same"),
                layers.BatchNormalization(), layers.ReLU(),
                layers.Dropout(0.2),
            )
        ),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, dtype="float32"),
    ])


def data(seed, examples):
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 10, examples)
    # Each class has a place where it is brighter.
    images = chance.normal(size=(examples, 8, 8, 1)).astype("float32")
    images[np.arange(examples), labels % 8, labels // 2] += 3
    return tf.data.Dataset.from_tensor_slices((images, labels))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=OPTIMIZERS)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--steps_per_execution", type=int, required=True)
    args = parser.parse_args()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * NUM_MODULES,
    )
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)
    if args.name == "float16":
        keras.config.set_dtype_policy("mixed_float16")
    model = fr_keras.FeaturesReplay(network(), NUM_MODULES)
    model.compile(
        OPTIMIZERS[args.name](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"], steps_per_execution=args.steps_per_execution,
    )
    os.makedirs(args.workdir, exist_ok=True)
    model.fit(
        data(0, 1500).shuffle(1500, seed=1).batch(64), epochs=args.epochs,
        validation_data=data(1, 200).batch(100), verbose=0,
        callbacks=[
            keras.callbacks.TensorBoard(args.workdir, write_graph=False),
            keras.callbacks.CSVLogger(
                os.path.join(args.workdir, "history.csv"), append=True
            ),
            fr_keras.Checkpoints(
                os.path.join(args.workdir, "checkpoints"), every_steps=9
            ),
        ],
    )
    _, accuracy = model.evaluate(data(1, 200).batch(100), verbose=0)
    # Last, since it says that the run is over.
    with open(os.path.join(args.workdir, "results.json"), "w") as file:
        json.dump({"test_accuracy": accuracy}, file)


if __name__ == "__main__":
    main()
