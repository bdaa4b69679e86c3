"""Datasets by name, normalization, augmentation."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn import datasets

from trainers.command.errors import UsageError
from trainers.data import builders, input_pipeline


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return input_pipeline.load("digits", str(tmp_path_factory.mktemp("data")))


def examples(dataset):
    images, labels = zip(*dataset.as_numpy_iterator())
    return np.stack(images), np.array(labels)


def test_digits_are_scikit_learns(digits):
    train, test = examples(digits.train), examples(digits.test)
    assert len(train[1]) == digits.num_train == 1437
    assert len(test[1]) == digits.num_test == 360
    original = datasets.load_digits()

    def count(images, labels):
        return sorted((i.tobytes(), int(y)) for i, y in zip(images, labels))

    images = np.concatenate([train[0], test[0]])[..., 0]
    expected = np.round(original.images * 255 / 16).astype(np.uint8)
    assert count(images, np.concatenate([train[1], test[1]])) == count(
        expected, original.target
    )


def test_split_is_stratified(digits):
    train = np.bincount(examples(digits.train)[1])
    test = np.bincount(examples(digits.test)[1])
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_mean_and_std_are_those_of_the_training_set(digits):
    images = examples(digits.train)[0].astype(np.float64)
    np.testing.assert_allclose(digits.mean, [images.mean()], rtol=1e-6)
    np.testing.assert_allclose(digits.std, [images.std()], rtol=1e-6)


def test_batches_hold_every_example_once(digits):
    batches = list(digits.train_batches(500, seed=1))
    assert [len(labels) for _, labels in batches] == [500, 500, 437]
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32
    normalized = (examples(digits.train)[0] - digits.mean) / digits.std
    np.testing.assert_allclose(
        np.sort(images.sum((1, 2, 3))),
        np.sort(normalized.astype(np.float32).sum((1, 2, 3))),
        rtol=1e-4, atol=1e-3,
    )


def test_epochs_differ_and_the_seed_decides(digits):
    augmented = dataclasses.replace(digits, crop_padding=1, flip=True)

    def epochs(seed):
        dataset = augmented.train_batches(128, seed)
        return [
            np.concatenate([images for images, _ in dataset]) for _ in range(2)
        ]

    first, second = epochs(1)
    assert (first != second).any()
    again = epochs(1)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert (first != epochs(2)[0]).any()


def test_crop_is_a_window_of_the_padded_image():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(50, 5, 6, 2)).astype("float32")
    cropped = input_pipeline._random_crop(
        tf.constant(images), 2, tf.constant([3, 4], tf.int64)
    ).numpy()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    places = set()
    for image, result in zip(padded, cropped):
        found = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if (image[i : i + 5, j : j + 6] == result).all()
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 15


def test_flip_turns_about_half():
    images = np.random.default_rng(0).normal(size=(200, 3, 4, 1))
    flipped = input_pipeline._random_flip(
        tf.constant(images), tf.constant([3, 4], tf.int64)
    ).numpy()
    turned = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == images).all((1, 2, 3))
    assert (turned ^ same).all()
    assert 60 < turned.sum() < 140


@pytest.mark.parametrize(
    "name, shape, classes",
    [
        ("cifar10", (32, 32, 3), 10),
        ("cifar100", (32, 32, 3), 100),
        ("svhn_cropped", (32, 32, 3), 10),
        ("mnist", (28, 28, 1), 10),
    ],
)
def test_any_set_of_tfds(name, shape, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(builders, "_has_network", lambda: True)
    # What TFDS learns about the splits when it prepares a set.
    splits = tfds.core.splits.SplitDict(
        tfds.core.SplitInfo(
            name=split, shard_lengths=[7], num_bytes=0,
            filename_template=None,
        )
        for split in ("train", "test")
    )
    monkeypatch.setattr(
        tfds.core.DatasetInfo, "splits", property(lambda info: splits)
    )
    with tfds.testing.mock_data(num_examples=7):
        data = input_pipeline.load(name, str(tmp_path))
        assert data.image_shape == shape
        assert data.num_classes == classes
        (images, labels), = data.test_batches(10)
    assert images.shape == (7, *shape)
    assert labels.shape == (7,)
    assert data.mean.shape == data.std.shape == (shape[-1],)


def test_two_processes_prepare_at_once(digits, tmp_path, monkeypatch):
    """The other was faster: its dataset is the one that is read."""
    kind = type(tfds.builder("digits", data_dir=tmp_path))
    prepare = kind.download_and_prepare

    def second(self):
        prepare(tfds.builder("digits", data_dir=tmp_path))
        raise OSError("Cannot rename; the destination already exists.")

    monkeypatch.setattr(kind, "download_and_prepare", second)
    data = input_pipeline.load("digits", str(tmp_path))
    assert data.num_train == digits.num_train
    assert len(examples(data.test)[1]) == digits.num_test


def test_not_prepared_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(builders, "_has_network", lambda: False)
    with pytest.raises(UsageError, match="tfds build cifar10"):
        input_pipeline.load("cifar10", str(tmp_path))


@pytest.mark.parametrize(
    "name, message",
    [
        ("nonsense", "Received: nonsense"),
        ("", "Received: $"),
        ("../digits", "Received: ../digits"),
        ("digits/large", "BuilderConfig large not found"),
        ("digits:9.9.9", "cannot be loaded at version 9.9.9"),
        ("imdb_reviews", "images"),
        # Told before a download of 150 GB.
        ("imagenet2012", "one size. Received: shape \\(None, None, 3\\)"),
    ],
)
def test_unfit_datasets(name, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        input_pipeline.load(name, str(tmp_path))


class Marked(tfds.core.GeneratorBasedBuilder):
    """Three images of a split, the second of which has the label -1.

    TFDS marks so what has no label, like the test set of a competition.
    """

    VERSION = tfds.core.Version("1.0.0")
    unlabelled = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(split) for split in ("train", "test")
        }

    def _generate_examples(self, split):
        for i in range(3):
            label = -1 if i == 1 and split == self.unlabelled else i
            yield i, {"image": np.zeros((8, 8, 1), np.uint8), "label": label}


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_outside_of_the_classes(split, tmp_path, monkeypatch):
    monkeypatch.setattr(Marked, "unlabelled", split)
    Marked(data_dir=tmp_path).download_and_prepare()
    message = f"from 0 to 9. Received: -1, in the split '{split}'"
    with pytest.raises(UsageError, match=message):
        input_pipeline.load("marked", str(tmp_path))


def test_empty_split(tmp_path):
    Marked(data_dir=tmp_path).download_and_prepare()
    (file,) = tmp_path.glob("marked/*/dataset_info.json")
    info = json.loads(file.read_text())
    for split in info["splits"]:
        if split["name"] == "test":
            split["shardLengths"] = ["0"]
    file.write_text(json.dumps(info))
    with pytest.raises(UsageError, match="marked: must have .* Received: tr"):
        input_pipeline.load("marked", str(tmp_path))


@pytest.mark.parametrize(
    "file, content",
    [
        ("dataset_info.json", "no JSON"),
        ("dataset_info.json", "{}"),
    ],
)
def test_damaged_description(file, content, tmp_path):
    Marked(data_dir=tmp_path).download_and_prepare()
    (path,) = tmp_path.glob(f"marked/*/{file}")
    path.write_text(content)
    with pytest.raises(UsageError, match="--dataset=marked"):
        input_pipeline.load("marked", str(tmp_path))


def test_damaged_data(tmp_path):
    input_pipeline.load("digits", str(tmp_path))
    for split in ("test", "train"):
        (file,) = tmp_path.glob(f"digits/*/*-{split}.tfrecord-*")
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(UsageError, match="damaged.*: truncated record"):
            input_pipeline.load("digits", str(tmp_path))


def test_crop_must_not_miss_the_image(tmp_path):
    input_pipeline.load("digits", str(tmp_path), crop_padding=7)
    with pytest.raises(UsageError, match="8 and 8. Received: 8"):
        input_pipeline.load("digits", str(tmp_path), crop_padding=8)


def test_empty_means_default(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tfds.core.constants, "DATA_DIR", str(tmp_path / "default")
    )
    monkeypatch.chdir(tmp_path)
    data = input_pipeline.load("digits", "", [], [])
    assert [path.name for path in tmp_path.iterdir()] == ["default"]
    np.testing.assert_array_equal(data.mean, digits.mean)


def test_wrong_number_of_channels(digits, tmp_path):
    with pytest.raises(UsageError, match="1 channels. Received: 1.0,2.0"):
        input_pipeline.load("digits", str(tmp_path), ["1", "2"], ["1"])
