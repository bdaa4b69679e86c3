"""The handwritten digits that scikit-learn ships, as a TFDS builder."""

import numpy as np
import tensorflow_datasets as tfds
from sklearn import datasets, model_selection


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 images of digits, 8×8 pixels; prepared without a network."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description=(
                "The test set of the Optical Recognition of Handwritten "
                "Digits, as shipped by scikit-learn, 16 grey values scaled to "
                "0-255; a fixed split stratified by class, a fifth for testing."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        digits = datasets.load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        parts = model_selection.train_test_split(
            images[..., None],
            digits.target,
            test_size=0.2,
            random_state=0,
            stratify=digits.target,
        )
        x_train, x_test, y_train, y_test = parts
        return {
            "train": self._generate_examples(x_train, y_train),
            "test": self._generate_examples(x_test, y_test),
        }

    def _generate_examples(self, images, labels):
        for i, (image, label) in enumerate(zip(images, labels)):
            yield i, {"image": image, "label": label}
