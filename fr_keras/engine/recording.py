"""Recording: lets observers see the iterations of a training run."""

import abc


class Played:
    """What the modules played in an iteration.

    Attributes:
        made: list of K - 1 `features.Features`, the part of h_k that each
            module but the last computed.
        states: list of K lists of tensors, the values of
            `Module.replayed_state` from which each module was played.
    """

    def __init__(self):
        self.made = []
        self.states = []

    def add(self, made, state):
        """Adds the next module; the last one has `made=None`."""
        if made is not None:
            self.made.append(made)
        self.states.append(state)


class Selection(abc.ABC):
    """Selects what a recorder needs from a call of the training function.

    Hashable, and equal if it selects the same, as it is traced into the call.

    Attributes:
        timed: bool, whether to run the clock.
    """

    timed = False

    @abc.abstractmethod
    def __call__(self, plays, calls):
        """Selects tensors.

        Args:
            plays: list of `Played`, of the iterations of the call, or `None`.
            calls: list of `clock.Timed`, if the clock runs.

        Returns:
            Nest of tensors.
        """


class Recorder(abc.ABC):
    """Observes iterations; for the `recorders` of a model.

    Attributes:
        fit: object that identifies its call of `fit`, set by `attach`.
    """

    @abc.abstractmethod
    def begin(self, num_steps):
        """Called before each call of the training function.

        Args:
            num_steps: int, the number of iterations in the call.

        Returns:
            `Selection`, or `None` if nothing is needed from the call.
        """

    @abc.abstractmethod
    def end(self, batches, selected):
        """Called after each call.

        Args:
            batches: list of tuples `(x, y, sample_weight)`.
            selected: the result of the selection, or `None`.
        """


def attach(model, recorder, fit):
    """Attaches a recorder for one call of `fit`.

    Recorders of other calls, which ended with an error, are dropped.

    Args:
        model: algorithm.
        recorder: `Recorder`.
        fit: object that callbacks share in one call of `fit` only: their
            `params`.
    """
    recorder.fit = fit
    model.recorders = (
        *(r for r in model.recorders if r.fit is fit), recorder
    )


def detach(model, recorder):
    """Detaches a recorder."""
    model.recorders = tuple(r for r in model.recorders if r is not recorder)


def check_is_algorithm(model, callback):
    """Rejects models whose training cannot be observed.

    Args:
        model: the model passed to a callback.
        callback: the callback.

    Raises:
        ValueError: if the model is not one of this library.
    """
    if not hasattr(model, "pipelines"):
        raise ValueError(
            f"{type(callback).__name__} requires a model of fr_keras, such as "
            "fr_keras.FeaturesReplay. "
            f"Received: a model of type {type(model).__name__}"
        )
