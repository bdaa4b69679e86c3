"""Recording: what the iterations of a training show of themselves."""

import abc


class Played:
    """What the modules played in an iteration.

    Attributes:
        made: list of K - 1 `features.Features`, what each module but
            the last made of h_k.
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
    """Selects what a recorder wants of a call of the training function.

    Hashable, and equal where it does the same, as it is traced into the call.

    Attributes:
        timed: bool, whether the clock is to run.
    """

    timed = False

    @abc.abstractmethod
    def __call__(self, plays, calls):
        """Selects.

        Args:
            plays: list of `Played`, of the iterations of the call, or `None`.
            calls: list of `clock.Timed`, if the clock is to run.

        Returns:
            Nest of tensors.
        """


class Recorder(abc.ABC):
    """Who looks at iterations; for `ModuleTrainer.recorders`.

    Attributes:
        fit: object, what call of `fit` it is for, set by `attach`.
    """

    @abc.abstractmethod
    def begin(self, num_steps):
        """Called before each call of the training function.

        Args:
            num_steps: int, the iterations of the call.

        Returns:
            `Selection`, or `None` if nothing is wanted of it.
        """

    @abc.abstractmethod
    def end(self, batches, selected):
        """Called after each call.

        Args:
            batches: list of tuples `(x, y, sample_weight)`.
            selected: what was selected, or `None`.
        """


def attach(model, recorder, fit):
    """Lets a recorder look at a call of `fit`.

    Recorders of other calls, which an error has ended, are let go.

    Args:
        model: `ModuleTrainer`.
        recorder: `Recorder`.
        fit: object that callbacks have in common in one call of `fit` only,
            their `params`.
    """
    recorder.fit = fit
    model.recorders = (
        *(r for r in model.recorders if r.fit is fit), recorder
    )


def detach(model, recorder):
    """Ends what `attach` began."""
    model.recorders = tuple(r for r in model.recorders if r is not recorder)


def check_is_algorithm(model, callback):
    """Refuses models whose training cannot be looked into.

    Args:
        model: what a callback is given.
        callback: the callback.

    Raises:
        ValueError: if the model is not one of this library.
    """
    if not hasattr(model, "modules_at_work"):
        raise ValueError(
            f"{type(callback).__name__} needs a model of fr_keras, like "
            f"fr_keras.FeaturesReplay. Received: {type(model).__name__}"
        )
