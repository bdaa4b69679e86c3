"""Small images of noisy patterns, as a TFDS builder."""

import numpy as np
import tensorflow_datasets as tfds

_CLASSES, _SIZE, _PATTERN = 8, 8, 5


class Patterns(tfds.core.GeneratorBasedBuilder):
    """6,000 synthetic images, 8×8 grey values, in eight classes.

    Each class is a pattern of 5×5 dark and light pixels, placed at random in
    noise, at random contrast, and mirrored in half of the images.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(_SIZE, _SIZE, 1)),
                    "label": tfds.features.ClassLabel(num_classes=_CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, 4000),
            "validation": self._generate_examples(1, 1000),
            "test": self._generate_examples(2, 1000),
        }

    def _generate_examples(self, seed, number):
        patterns = np.random.default_rng(0).choice(
            [-1.0, 1.0], size=(_CLASSES, _PATTERN, _PATTERN)
        )
        random = np.random.default_rng([1, seed])
        for i in range(number):
            label = int(random.integers(_CLASSES))
            image = random.normal(scale=0.6, size=(_SIZE, _SIZE))
            row, column = random.integers(_SIZE - _PATTERN + 1, size=2)
            pattern = patterns[label]
            if random.integers(2):
                pattern = pattern[:, ::-1]
            image[row:row + _PATTERN, column:column + _PATTERN] += (
                random.uniform(0.6, 1.2) * pattern
            )
            pixels = np.clip(np.round(128 + 40 * image), 0, 255)
            yield i, {
                "image": pixels.astype(np.uint8)[..., None], "label": label,
            }
