"""One-dimensional signals to classify, as a TFDS builder."""

import numpy as np
import tensorflow_datasets as tfds

_CLASSES, _LENGTH, _POINTS = 10, 40, 8


class Signals(tfds.core.GeneratorBasedBuilder):
    """6,000 synthetic signals of 40 values in ten classes.

    Each class is a shape of eight points, stretched, moved, sheared and hidden
    in smooth noise, like the digits of [MNIST-1D](
    https://arxiv.org/abs/2011.14439), which distinguish training methods even
    if the eye cannot distinguish the digits.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "signal": tfds.features.Tensor(
                        shape=(_LENGTH,), dtype=np.float32
                    ),
                    "label": tfds.features.ClassLabel(num_classes=_CLASSES),
                }
            ),
            supervised_keys=("signal", "label"),
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 4000),
            "validation": self._generate_examples(1, 1000),
            "test": self._generate_examples(2, 1000),
        }

    def _generate_examples(self, seed, number):
        shapes = np.random.default_rng(0).normal(size=(_CLASSES, _POINTS))
        points = np.linspace(0, 1, _POINTS)
        time = np.linspace(0, 1, _LENGTH)
        random = np.random.default_rng([1, seed])
        for i in range(number):
            label = int(random.integers(_CLASSES))
            duration = random.uniform(0.35, 0.7)
            start = random.uniform(0, 1 - duration)
            signal = random.uniform(0.6, 1.4) * np.interp(
                (time - start) / duration, points, shapes[label],
                left=0, right=0,
            )
            signal += random.uniform(-1, 1) * (time - 0.5)
            noise = random.normal(size=_LENGTH + 4)
            signal += 0.3 * np.convolve(noise, np.ones(5) / 5**0.5, "valid")
            yield i, {"signal": signal.astype(np.float32), "label": label}
