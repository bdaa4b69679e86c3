"""Loads image datasets of TensorFlow Datasets, as normalized batches."""

import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from trainers.command.errors import UsageError
from trainers.data import builders
from trainers.data.data import Data


@dataclasses.dataclass
class ImageData(Data):
    """A prepared image-classification set.

    Examples are pairs of a uint8 image and an int label; the test set is the
    split `test`, or else `validation`.

    Attributes:
        image_shape: tuple `(height, width, channels)`.
        mean: float32 array, mean of each channel, for pixels from 0 to 255.
        std: float32 array, standard deviation of each channel.
        crop_padding: int, pixels of padding before a random crop in training.
        flip: bool, whether to flip left-right at random in training.
    """

    image_shape: tuple
    mean: np.ndarray
    std: np.ndarray
    crop_padding: int = 0
    flip: bool = False

    @property
    def input_spec(self):
        return tf.TensorSpec(self.image_shape, tf.float32)

    def prepare(self, images, labels):
        return (tf.cast(images, tf.float32) - self.mean) / self.std, labels

    def augment(self, images, labels, seed):
        images, labels = self.prepare(images, labels)
        if self.crop_padding:
            images = _random_crop(images, self.crop_padding, seed)
        if self.flip:
            images = _random_flip(images, seed + 1)
        return images, labels


def load(
    name, data_dir=None, mean=None, std=None, device=None, crop_padding=0,
    flip=False,
):
    """Loads a dataset, preparing it first if necessary.

    Args:
        name: str, `"digits"` or any image-classification set of TFDS,
            optionally with configuration and version.
        data_dir: str, directory of prepared datasets; `None` or `""` for
            `~/tensorflow_datasets`.
        mean: list of floats for each channel; `None` or `[]` to measure them
            on the training set.
        std: like `mean`.
        device: str, a CPU of the machine on which batches are read, or `None`
            for this one. It must find the prepared dataset at the same path.
        crop_padding: int, as for `ImageData`.
        flip: bool, the same.

    Returns:
        `ImageData`.

    Raises:
        UsageError: if the dataset does not exist, does not consist of
            labelled images of one size, cannot be prepared or is damaged, or
            if a crop could miss the image.
    """
    builder = builders.find(name, data_dir)
    _check_features(name, builder)
    builder = builders.prepared(name, data_dir)
    features = builder.info.features
    image, label = features["image"], features["label"]
    splits = builder.info.splits
    test_split = builders.evaluation_split(name, builder)
    if crop_padding >= min(image.shape[:2]):
        raise UsageError(
            "--crop_padding must be less than the height and width of the "
            f"images, {image.shape[0]} and {image.shape[1]}. Received: "
            f"{crop_padding}"
        )
    measured = None, None
    with tf.device(device):
        for split in ("train", test_split):
            builders.check_labels(builder, split, device)
        train, test = (
            builder.as_dataset(split=split, as_supervised=True)
            for split in ("train", test_split)
        )
        if not mean or not std:
            measured = _mean_and_std(train)
    channels = image.shape[-1]
    return ImageData(
        train,
        test,
        splits["train"].num_examples,
        splits[test_split].num_examples,
        label.num_classes,
        device,
        image.shape,
        _per_channel("mean", mean, measured[0], channels),
        _per_channel("std", std, measured[1], channels),
        crop_padding,
        flip,
    )


def _random_crop(images, padding, seed):
    """Pads with zeros and crops each image at its own random position."""
    shape = tf.shape(images)
    offsets = tf.random.stateless_uniform(
        [2, shape[0], 1], seed, maxval=2 * padding + 1, dtype=tf.int32
    )
    border = [padding, padding]
    images = tf.pad(images, [[0, 0], border, border, [0, 0]])
    rows = offsets[0] + tf.range(shape[1])
    columns = offsets[1] + tf.range(shape[2])
    images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _random_flip(images, seed):
    flipped = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed)
    return tf.where(flipped < 0.5, tf.reverse(images, [2]), images)


def _check_features(name, builder):
    """Refuses what does not consist of labelled images of one size."""
    features = builder.info.features
    if not (
        isinstance(features, tfds.features.FeaturesDict)
        and {"image", "label"} <= set(features)
        and isinstance(features["image"], tfds.features.Image)
        and isinstance(features["label"], tfds.features.ClassLabel)
        and builder.info.supervised_keys == ("image", "label")
    ):
        raise UsageError(
            f"--dataset={name}: must consist of images with one class label "
            "each, or of texts. Received: "
            f"{' '.join(str(features).split())}"
        )
    if None in features["image"].shape:
        raise UsageError(
            f"--dataset={name}: images must all have one size. Received: "
            f"shape {features['image'].shape}"
        )


def _mean_and_std(dataset):
    """Mean and standard deviation of each channel, in float64."""

    def add(sums, images):
        # Sums of whole numbers, exact in any order.
        images = tf.cast(images, tf.float64)
        channels = tf.reshape(images, [-1, tf.shape(images)[-1]])
        return (
            sums[0] + tf.cast(tf.shape(channels)[0], tf.float64),
            sums[1] + tf.reduce_sum(channels, 0),
            sums[2] + tf.reduce_sum(channels**2, 0),
        )

    zeros = tf.zeros(dataset.element_spec[0].shape[-1], tf.float64)
    count, total, squares = (
        dataset.map(lambda image, _: image).batch(1000)
        .reduce((tf.zeros([], tf.float64), zeros, zeros), add)
    )
    mean = total.numpy() / count.numpy()
    std = np.sqrt(np.maximum(squares.numpy() / count.numpy() - mean**2, 0.0))
    return mean, np.where(std > 0, std, 1.0)


def _per_channel(name, given, measured, channels):
    values = [float(value) for value in given or measured]
    if len(values) not in (1, channels):
        raise UsageError(
            f"--{name} must have one value for each of the {channels} "
            f"channels. Received: {','.join(map(str, values))}"
        )
    return np.broadcast_to(np.array(values, np.float32), [channels])
