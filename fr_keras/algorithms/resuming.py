"""Base class of callbacks that restore a training before `fit` begins."""

import keras


class ResumingCallback(keras.callbacks.Callback):
    """A callback that resumes a training and runs after all others.

    `fit` moves callbacks of this class behind the others, whose state they
    save and restore.
    """

    def before_fit(self, model, others):
        """Called by `fit` before anything else.

        Args:
            model: algorithm.
            others: list of the callbacks that are not of this class.
        """

    def after_fit(self):
        """Called at the end of `fit`, even after an error."""
