"""Loads the dataset that --dataset names."""

from absl import flags

from trainers.command.errors import UsageError
from trainers.data import builders, input_pipeline, own_data, text_data
from trainers.experiment import networks

FLAGS = flags.FLAGS

# Flags that only some kinds of datasets read.
_OF_BUILDERS = ("data_dir",)
_OF_IMAGES = ("mean", "std", "crop_padding", "flip")
_OF_TEXTS = ("tokenizer", "sequence_length")


def load_data(device=None):
    """Loads the dataset that the flags describe.

    Args:
        device: str, a CPU of the machine on which batches are read, or `None`
            for this one.

    Returns:
        `trainers.data.data.Data`.

    Raises:
        UsageError: if it cannot be loaded, or a flag does not apply to it.
    """
    name = FLAGS.dataset
    if networks.is_function(name) or own_data.is_saved(name):
        _refuse(*_OF_BUILDERS, *_OF_IMAGES, *_OF_TEXTS)
        if networks.is_function(name):
            function = networks.imported("dataset", name)
        else:
            function = own_data.saved(name)
        return own_data.load(name, function, device)
    if text_data.is_text(builders.find(name, FLAGS.data_dir)):
        _refuse(*_OF_IMAGES)
        return text_data.load(
            name, FLAGS.data_dir, FLAGS.tokenizer, FLAGS.sequence_length, device
        )
    _refuse(*_OF_TEXTS)
    return input_pipeline.load(
        name, FLAGS.data_dir, FLAGS.mean, FLAGS.std, device,
        FLAGS.crop_padding, FLAGS.flip,
    )


def _refuse(*names):
    """Refuses flags that the dataset does not read."""
    for name in names:
        if FLAGS[name].value != FLAGS[name].default:
            raise UsageError(
                f"--{name} does not apply to --dataset={FLAGS.dataset}. "
                f"Received: {FLAGS[name].serialize()}"
            )
