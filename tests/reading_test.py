"""How datasets are read."""

import numpy as np
import tensorflow as tf

from fr_keras.batches.reading import Reading
from tests.small_net import compiled


def autotune(dataset):
    read = Reading().experimental_distribute_dataset(dataset)
    return read.options().autotune.enabled


def test_autotuner_is_off_unless_asked_for():
    dataset = tf.data.Dataset.range(3)
    assert autotune(dataset) is False
    for enabled in (True, False):
        options = tf.data.Options()
        options.autotune.enabled = enabled
        assert autotune(dataset.with_options(options)) is enabled


def test_other_options_are_kept():
    options = tf.data.Options()
    options.threading.private_threadpool_size = 3
    dataset = Reading().experimental_distribute_dataset(
        tf.data.Dataset.range(3).with_options(options)
    )
    assert dataset.options().threading.private_threadpool_size == 3
    assert list(dataset.as_numpy_iterator()) == [0, 1, 2]


def test_all_is_read_like_that(monkeypatch):
    """Arrays and datasets; in `fit`, validation, `evaluate`, `predict`."""
    seen = []
    read = Reading.experimental_distribute_dataset
    monkeypatch.setattr(
        Reading, "experimental_distribute_dataset",
        lambda self, dataset: seen.append(read(self, dataset)) or seen[-1],
    )
    model = compiled()
    x = np.ones([8, *model.modules[0].input_shape[1:]], "float32")
    y = model.predict(x, verbose=0)
    dataset = tf.data.Dataset.from_tensors((x, y))
    model.fit(x, y, validation_data=dataset, verbose=0)
    model.evaluate(x, y, verbose=0)
    assert len(seen) == 4
    assert {dataset.options().autotune.enabled for dataset in seen} == {False}
