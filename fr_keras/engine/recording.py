"""Recording: lets observers see the iterations of a training run."""

import abc


class PlayRecord:
    """Results of the modules' play in one iteration.

    Attributes:
        outputs: list of K - 1 `features.Features`, the part of h_k that each
            module but the last computed.
        states: list of K lists of tensors, the values of
            `Module.replayed_state` before each module's play.
    """

    def __init__(self):
        self.outputs = []
        self.states = []

    def add(self, outputs, state):
        """Adds the next module; the last one has `outputs=None`."""
        if outputs is not None:
            self.outputs.append(outputs)
        self.states.append(state)


class Selection(abc.ABC):
    """Selects what a recorder needs from a call of the training function.

    It must be hashable, and equal to selections of the same tensors, because
    the training function is traced for it.

    Attributes:
        timed: bool, whether to run the clock.
    """

    timed = False

    @abc.abstractmethod
    def __call__(self, plays, calls):
        """Selects tensors.

        Args:
            plays: list of `PlayRecord` or `None`, one for each iteration of the
                call.
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

    Recorders left over from calls that ended with an error are dropped.

    Args:
        model: algorithm.
        recorder: `Recorder`.
        fit: object that identifies the call of `fit`: the callbacks' `params`.
    """
    recorder.fit = fit
    model.recorders = (
        *(r for r in model.recorders if r.fit is fit), recorder
    )


def detach(model, recorder):
    """Detaches a recorder."""
    model.recorders = tuple(r for r in model.recorders if r is not recorder)


def check_has_no_replicas(model, callback):
    """Rejects models of which an observer would see one pipeline only.

    Args:
        model: algorithm.
        callback: the callback.

    Raises:
        ValueError: if the model has replicas.
    """
    if model.replicas > 1:
        raise ValueError(
            f"{type(callback).__name__} compares the gradients of one "
            "pipeline with true ones, so it requires `replicas=1`. "
            f"Received: a model with replicas={model.replicas}"
        )


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
