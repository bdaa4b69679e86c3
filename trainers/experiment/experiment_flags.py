"""The flags that describe an experiment."""

import re

from absl import flags

import fr_keras
from fr_keras.engine.casts import DTYPES as LINK_DTYPES
from fr_keras.schedules import SCHEDULES
from trainers.command.validation import is_positive
from trainers.experiment import data_flags, network_flags

# More than anyone intends, so that a typo is reported before it costs time.
_MANY = MAX_EPOCHS = 1_000_000

flags.DEFINE_enum(
    "algorithm", "features_replay", sorted(fr_keras.ALGORITHMS),
    "Training algorithm.",
)
flags.DEFINE_float(
    "gradient_shrink", 1.0,
    "Factor that multiplies error gradients at each module boundary on the way "
    "down; for features_replay and ddg.",
)
flags.DEFINE_bool(
    "weight_prediction", None,
    "Whether modules compute with weights predicted from their last updates, "
    "to counter the delay of gradients; for features_replay (default: on; the "
    "paper's algorithm needs --noweight_prediction) and ddg (default: off).",
)
flags.DEFINE_integer(
    "num_microbatches", 4,
    "Number of micro-batches per batch, whose size must be divisible by it; "
    "for pipeline and gpipe.",
    lower_bound=1, upper_bound=_MANY,
)
# (Not `num_microbatches`, which is in the flag files of all methods, and meant
# nothing for this one.)
flags.DEFINE_integer(
    "replay_microbatches", None,
    "Number of micro-batches per batch, sent while others are computed; its "
    "size must be divisible by it; for features_replay. Default: 1.",
    lower_bound=1, upper_bound=_MANY,
)
flags.DEFINE_enum(
    "schedule", None, list(SCHEDULES),
    "In which order devices work on micro-batches; for pipeline. Default: "
    "1f1b.",
)
flags.DEFINE_bool(
    "recompute", None,
    "Whether to recompute activations instead of keeping them; for gpipe "
    "(default: yes) and pipeline (default: no).",
)
flags.DEFINE_integer(
    "synthesizer_width", None,
    "Channels of the synthesizers of error gradients; for dni. Default: as "
    "many as the features have.",
    lower_bound=1, upper_bound=_MANY,
)
flags.DEFINE_float(
    "synthesizer_learning_rate", 1e-4,
    "Learning rate of Adam, which trains the synthesizers; for dni.",
)
flags.DEFINE_integer(
    "num_modules", 4,
    "K, the number of modules that the network is split into.",
    lower_bound=1, upper_bound=1000,
)
flags.DEFINE_integer(
    "replicas", 1,
    "r, the number of pipelines of K modules, each of which trains on its "
    "share of every batch.",
    lower_bound=1, upper_bound=1000,
)
flags.DEFINE_enum(
    "link_dtype", None, list(LINK_DTYPES),
    "Dtype in which features and error gradients are sent from module to "
    "module. Default: their own.",
)
flags.DEFINE_list(
    "devices", None,
    "Devices of the modules, for example GPU:0,GPU:1 or CPU:0,CPU:1, one "
    "pipeline after the other; shared round-robin if there are fewer than "
    "modules. Default: all GPUs or, without a GPU, one logical CPU device per "
    "module.",
)
flags.DEFINE_enum(
    "balance", "estimated", ["estimated", "measured"],
    "How to balance the modules: by estimated multiply-adds, or by the time of "
    "each layer, measured on the first device at startup.",
)
flags.DEFINE_integer(
    "batch_size", 128, "Examples per iteration.", lower_bound=1,
    upper_bound=_MANY,
)
flags.DEFINE_bool(
    "drop_remainder", False,
    "Drop the last batch of an epoch if it is smaller than the others.",
)
flags.DEFINE_integer(
    "epochs", 300, "Passes over the training set.", lower_bound=1,
    upper_bound=_MANY,
)
flags.DEFINE_string(
    "finish_with", "",
    "An exact algorithm and the number of last epochs that it trains, for "
    "example backprop:10; weights are kept, momentum starts from zero.",
)
flags.DEFINE_float("learning_rate", 0.01, "Initial learning rate.")
flags.DEFINE_enum(
    "learning_rate_schedule", "drops", ["drops", "cosine"],
    "How the learning rate falls: at --learning_rate_drops, or to 0 at the end "
    "of --epochs, like half a cosine.",
)
flags.DEFINE_list(
    "learning_rate_drops", [],
    "Epochs after which the learning rate drops, for example 150,225.",
)
flags.DEFINE_float(
    "learning_rate_factor", 0.1,
    "Factor that multiplies the learning rate at each drop, at most 1.",
)
flags.DEFINE_float(
    "warmup_epochs", 0.0,
    "Epochs over which the learning rate rises from 0; may be fractional.",
)
flags.DEFINE_float(
    "label_smoothing", 0.0,
    "Share of the target probability that is spread over all classes, from 0 "
    "to below 1.",
)
flags.DEFINE_enum(
    "optimizer", "sgd", ["sgd", "adam"],
    "Optimizer; --momentum and --nesterov are for sgd.",
)
flags.DEFINE_float("momentum", 0.9, "Momentum of SGD, from 0 to below 1.")
flags.DEFINE_bool("nesterov", True, "Nesterov momentum.")
flags.DEFINE_float(
    "weight_decay", 5e-4,
    "Weight decay: added to the gradient before momentum with sgd, as in the "
    "paper; decoupled with adam, as in AdamW.",
)
flags.DEFINE_float(
    "global_clipnorm", None,
    "Norm to which the gradient of each module is clipped; less for delayed "
    "gradients (docs/delays.md). Default: no clipping.",
)
flags.DEFINE_integer(
    "steps_per_execution", 8,
    "Iterations per call of the graph; with more than one, they overlap across "
    "modules.",
    lower_bound=1, upper_bound=_MANY,
)
flags.DEFINE_integer(
    "seed", 0, "Seed of initialization, shuffling and augmentation.",
    lower_bound=0, upper_bound=2**31 - 1,
)

flags.DEFINE_bool(
    "deterministic", False,
    "Make TensorFlow's results reproducible bit for bit, which may be slower.",
)
flags.DEFINE_string(
    "restore_weights_from", None,
    "Working directory of another run, possibly with another algorithm or "
    "number of modules, whose newest checkpoint provides the initial weights.",
)

flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(network_flags)

# Flags that only some algorithms read.
ALGORITHM_FLAGS = {
    "backprop": (),
    "ddg": ("gradient_shrink", "weight_prediction"),
    "dni": ("synthesizer_width", "synthesizer_learning_rate"),
    "features_replay": (
        "gradient_shrink", "weight_prediction", "replay_microbatches"
    ),
    "gpipe": ("num_microbatches", "recompute"),
    "pipeline": ("num_microbatches", "schedule", "recompute"),
}

# In flag files of fr_keras 0.1.0, where they meant what `None` means now.
FORMER_DEFAULTS = {"recompute": True}

EXPERIMENT_FLAGS = (
    "algorithm", "gradient_shrink", "weight_prediction", "num_microbatches",
    "replay_microbatches", "schedule", "recompute", "synthesizer_width",
    "synthesizer_learning_rate",
    "model", "model_args", "depth", "dropout", "dtype_policy", "num_modules",
    "replicas", "link_dtype", "devices", "balance", "dataset", "data_dir",
    "mean", "std", "crop_padding", "flip", "tokenizer", "sequence_length",
    "batch_size", "drop_remainder", "epochs", "finish_with", "learning_rate",
    "learning_rate_schedule", "learning_rate_drops", "learning_rate_factor",
    "warmup_epochs", "label_smoothing", "optimizer", "momentum", "nesterov",
    "weight_decay", "global_clipnorm", "steps_per_execution", "seed",
    "deterministic", "restore_weights_from",
)


def _validate(name, is_valid, message):
    # (absl puts the flag and its value before the message.)
    flags.register_validator(name, is_valid, message)


def _are_increasing_epochs(drops):
    try:
        drops = [int(epoch) for epoch in drops]
    except ValueError:
        return False
    return all(a < b for a, b in zip([0, *drops], drops))


# Comparisons with nan are false, so these validators refuse it.
_validate(
    "gradient_shrink",
    lambda shrink: 0 < shrink <= 1,
    "must be above 0 and at most 1",
)
_validate(
    "synthesizer_learning_rate",
    lambda rate: 0 < rate < float("inf"),
    "must be positive and finite",
)
_validate(
    "learning_rate",
    lambda rate: 0 < rate < float("inf"),
    "must be positive and finite",
)
_validate(
    "learning_rate_drops",
    _are_increasing_epochs,
    "must be increasing epochs, like 150,225",
)
flags.register_multi_flags_validator(
    ["learning_rate_schedule", "learning_rate_drops", "finish_with"],
    lambda values: values["learning_rate_schedule"] == "drops" or not (
        values["learning_rate_drops"] or values["finish_with"]
    ),
    "--learning_rate_schedule=cosine cannot be combined with "
    "--learning_rate_drops or --finish_with",
)
_validate(
    "label_smoothing",
    lambda share: 0 <= share < 1,
    "must be at least 0 and less than 1",
)
_validate(
    "warmup_epochs",
    lambda epochs: 0 <= epochs <= _MANY,
    "must be at least 0 and finite",
)
_validate(
    "finish_with",
    lambda text: re.fullmatch(
        "((backprop|gpipe|pipeline):[1-9][0-9]{0,5})?", text
    ),
    "must be backprop, gpipe or pipeline and a number of epochs, like "
    "backprop:10",
)
_validate(
    "learning_rate_factor",
    lambda factor: 0 < factor <= 1,
    "must be positive and at most 1",
)
_validate(
    "global_clipnorm", lambda norm: norm is None or is_positive(norm),
    "must be positive and finite",
)
_validate(
    "momentum",
    lambda momentum: 0 <= momentum < 1,
    "must be at least 0 and less than 1",
)
_validate(
    "weight_decay",
    lambda decay: 0 <= decay < float("inf"),
    "must be at least 0 and finite",
)
