"""Base class of callbacks that resume training when `fit` begins."""

import keras


class ResumingCallback(keras.callbacks.Callback):
    """A callback that resumes training, and runs after all others.

    `fit` moves callbacks of this class behind the others, because they save and
    restore the state of these.
    """

    def before_fit(self, model, others):
        """Called by `fit` before anything else.

        Args:
            model: algorithm.
            others: list of the callbacks that are not of this class.
        """

    def after_fit(self):
        """Called at the end of `fit`, even after an error."""


def order_callbacks(model, callbacks):
    """Moves callbacks that resume training behind all others.

    Args:
        model: algorithm.
        callbacks: as for `keras.Model.fit`.

    Returns:
        Tuple of the callbacks for `fit`, and the list of those that resume
        training.
    """
    listed = getattr(callbacks, "callbacks", callbacks) or []
    listed = list(keras.tree.flatten(listed))
    resuming = [c for c in listed if isinstance(c, ResumingCallback)]
    if not resuming:
        return callbacks, []
    others = [c for c in listed if not isinstance(c, ResumingCallback)]
    for callback in resuming:
        callback.before_fit(model, others)
    if hasattr(callbacks, "callbacks"):  # A Keras `CallbackList`.
        callbacks.callbacks[:] = others + resuming
        return callbacks, resuming
    return others + resuming, resuming
