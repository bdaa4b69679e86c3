"""TensorBoard output: layout, hyperparameters, curves, graph, profile."""

import logging
import math

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams

from fr_keras.callbacks.diagnostics.diagnostic import without_module
from fr_keras.engine import private
from trainers.results.event_files import EventFiles

_logger = logging.getLogger("fr_keras")

# Initial layout of the custom scalars dashboard: titles, and the tags of each
# chart as regular expressions. (The tags of Keras begin with "epoch_".)
_LAYOUT = {
    "Training": {
        "loss": ["^epoch_loss$"],
        "accuracy": ["^epoch_accuracy$"],
    },
    "Direction: 1 is back-propagation's, below 0 is uphill": {
        "sufficient direction constant by module": ["^sigma$", "^sigma_line/"],
        "share of steps that go downhill": ["^downhill$"],
    },
    "Staleness": {
        "residual of δ, relative": ["^relative_residual$"],
        "objective": ["^objective$"],
        "feature drift": ["^feature_drift$"],
    },
    "Norms": {
        "gradient norm": ["^epoch_gradient_norm$"],
        "update-to-weight ratio": ["^epoch_update_ratio$"],
    },
    "Convergence": {
        "bound and the quantity it bounds": ["^bound/left$", "^bound/right$"],
    },
    "Speed": {
        "images per second": ["^epoch_examples_per_second$"],
        "busy shares": ["^busy_share$"],
    },
}


def write_layout(writer):
    """Writes the layout of the custom scalars dashboard.

    Args:
        writer: `tf.summary.SummaryWriter`.
    """
    layout = layout_pb2.Layout(category=[
        layout_pb2.Category(title=title, chart=[
            layout_pb2.Chart(
                title=chart,
                multiline=layout_pb2.MultilineChartContent(tag=tags),
            )
            for chart, tags in charts.items()
        ])
        for title, charts in _LAYOUT.items()
    ])
    with writer.as_default():
        tf.summary.experimental.write_raw_pb(
            custom_scalar.pb(layout).SerializeToString(), step=0
        )


def write_hparams(writer, values, trial_id):
    """Writes the hyperparameters and metrics of the HParams dashboard.

    Args:
        writer: `tf.summary.SummaryWriter` of the directory above those of
            training and validation.
        values: dict from names to values.
        trial_id: str. Runs with the same are shown as one.
    """
    with writer.as_default():
        hparams.hparams_config(
            hparams=[hparams.HParam(name) for name in values],
            metrics=[
                hparams.Metric(
                    f"epoch_{name}", group=group, display_name=title
                )
                for name, group, title in (
                    ("accuracy", "validation", "test accuracy"),
                    ("loss", "validation", "test loss"),
                    ("loss", "train", "training loss"),
                    ("examples_per_second", "train", "images per second"),
                )
            ],
        )
        hparams.hparams(values, trial_id)


def write_image(writer, name, path):
    """Writes a picture.

    Args:
        writer: `tf.summary.SummaryWriter`.
        name: str.
        path: str, a PNG file.
    """
    image = tf.io.decode_png(tf.io.read_file(path), channels=4)
    with writer.as_default():
        tf.summary.image(name, image[tf.newaxis], step=0)


class Curves(keras.callbacks.TensorBoard):
    """Writes the logs of epochs into rotating files.

    Args:
        log_dir: str; files are in its `train` and `validation` directories.
        histograms: bool, whether to write histograms of the weights too.
        files: `RunFiles` for the logs of modules, shared with other callbacks.
        others: list of callbacks. What `fr_keras.diagnostics` among them have
            written for each iteration is not written again for each epoch.
    """

    def __init__(self, log_dir, histograms, files, others=()):
        super().__init__(
            log_dir, write_graph=False, histogram_freq=int(histograms)
        )
        # (`Checkpoints` finds writers in dicts.)
        self._others = files.writers
        self._diagnostics = [
            callback for callback in others if hasattr(callback, "written")
        ]

    @property
    def _train_writer(self):
        directory, _ = private.event_directories(self)
        return self._writers.setdefault("train", EventFiles(directory))

    @property
    def _val_writer(self):
        _, directory = private.event_directories(self)
        return self._writers.setdefault("val", EventFiles(directory))

    def on_epoch_end(self, epoch, logs=None):
        # What was not measured yet would be a card without a curve. (A loss
        # that is not finite is shown.)
        written = set().union(*(of.written for of in self._diagnostics))
        of_model = {}
        for name, value in (logs or {}).items():
            if name in written or "/" in name and not math.isfinite(value):
                continue
            tag, module = without_module(name)
            if module is None:
                of_model[name] = value
                continue
            with self._others[module].as_default():
                tf.summary.scalar(f"epoch_{tag}", value, step=epoch)
        super().on_epoch_end(epoch, of_model)
        for writer in (*self._writers.values(), *self._others.values()):
            writer.flush()


class Graph(keras.callbacks.Callback):
    """Writes the graph of a training call, with the device of each operation.

    Args:
        writer: `tf.summary.SummaryWriter`.
    """

    def __init__(self, writer):
        super().__init__()
        self.writer = writer
        self._is_written = False

    def on_train_batch_end(self, batch, logs=None):
        # The first call belongs to the warm-up, when modules are idle.
        if not self._is_written and (
            self.model.training.num_iterations > self.model.num_warmup_steps
        ):
            with self.writer.as_default():
                tf.summary.graph(self.model.training.graph)
            self._is_written = True


class Profile(keras.callbacks.Callback):
    """Profiles the calls that contain certain iterations.

    Args:
        log_dir: str.
        first: int, the number of the first iteration, from 0.
        last: int, the number of the last.
    """

    def __init__(self, log_dir, first, last):
        super().__init__()
        self.log_dir = log_dir
        self.first, self.last = first, last
        self._runs = False
        self._is_over = False

    def _step(self):
        return self.model.optimizer.global_step

    def on_train_batch_begin(self, batch, logs=None):
        end_of_call = self._step() + self.model.steps_per_execution
        if not self._runs and not self._is_over and (
            self._step() <= self.last and end_of_call > self.first
        ):
            tf.profiler.experimental.start(self.log_dir)
            self._runs = True

    def on_train_batch_end(self, batch, logs=None):
        if self._runs and self._step() > self.last:
            self._stop()

    def on_train_end(self, logs=None):
        if self._runs:
            self._stop()

    def _stop(self):
        try:
            tf.profiler.experimental.stop()
        except (OSError, tf.errors.OpError) as error:
            _logger.warning("The profile cannot be written: %s", error)
        self._runs = False
        self._is_over = True
