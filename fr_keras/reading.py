"""Reading: how batches come to training, evaluation and prediction."""

import tensorflow as tf


class Reading:
    """The default `tf.distribute.Strategy`, but for how it reads datasets.

    It turns the autotuner of tf.data off, whose thread sleeps for up to 5
    seconds at a time, and for which the end of every iterator, and so of
    `fit`, waits. `AUTOTUNE` in a dataset then is TensorFlow's fixed default.
    Datasets that set `options.autotune.enabled` themselves are left as they
    are.
    """

    def experimental_distribute_dataset(self, dataset, options=None):
        """What Keras calls with every dataset that it is going to read.

        Args:
            dataset: `tf.data.Dataset`.
            options: not used.

        Returns:
            `tf.data.Dataset`.
        """
        del options
        if dataset.options().autotune.enabled is not None:
            return dataset
        without = tf.data.Options()
        without.autotune.enabled = False
        return dataset.with_options(without)

    def __getattr__(self, name):
        return getattr(tf.distribute.get_strategy(), name)
