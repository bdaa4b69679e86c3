"""Loads text datasets of TensorFlow Datasets, as tokens."""

import dataclasses

import tensorflow as tf
import tensorflow_datasets as tfds

from trainers.command.errors import UsageError
from trainers.data import builders, tokenizers
from trainers.data.data import Data


@dataclasses.dataclass
class TextData(Data):
    """Texts as sequences of tokens of equal length.

    For language modelling, examples are pairs of `length` tokens and, for each
    of them, the next one, and classes are tokens. For classification, they are
    pairs of `length` tokens and a label.

    Attributes:
        length: int, tokens in an example.
        tokenizer: `trainers.data.tokenizers.Bytes` or like it.
        is_language: bool, whether the next token is the label.
        input_names: list of str, names of the inputs of a network of KerasHub,
            or `None` for a network with one input.
    """

    length: int
    tokenizer: tokenizers.Bytes | tokenizers.KerasHub
    is_language: bool
    input_names: list | None = None

    @property
    def vocabulary_size(self):
        """The number of different tokens in the inputs, an int."""
        return self.tokenizer.vocabulary_size

    @property
    def input_spec(self):
        return tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape[1:], tensor.dtype),
            self.inputs(tf.zeros([1, self.length], tf.int32)),
        )

    def suit(self, inputs):
        if isinstance(inputs, dict) and {*inputs} <= {"token_ids", *_MASKS}:
            self.input_names = sorted(inputs)

    def inputs(self, tokens):
        """The inputs of a network.

        Args:
            tokens: int32 tensor `(batch, length)`.

        Returns:
            Tensor, or dict of tensors of the same shape.
        """
        if self.input_names is None:
            return tokens
        found = {"token_ids": tokens} | {
            name: make(self, tokens) for name, make in _MASKS.items()
        }
        return {name: found[name] for name in self.input_names}

    def prepare(self, tokens, labels):
        return self.inputs(tokens), labels

    def _padding_mask(self, tokens):
        if self.is_language:
            return tf.ones_like(tokens)
        return tf.cast(tokens != self.tokenizer.padding, tokens.dtype)


# Inputs that networks of KerasHub may have beside their tokens.
_MASKS = {
    "padding_mask": TextData._padding_mask,
    "segment_ids": lambda data, tokens: tf.zeros_like(tokens),
}


def is_text(builder):
    """Whether a dataset consists of texts, with or without labels.

    Args:
        builder: `tfds.core.DatasetBuilder`.
    """
    return _feature(builder) is not None and (
        "image" not in builder.info.features
    )


def _feature(builder):
    """The name of the feature with the text, or `None`."""
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        return None
    texts = [
        name for name, feature in features.items()
        if isinstance(feature, tfds.features.Text)
    ]
    supervised = builder.info.supervised_keys
    if supervised and supervised[0] in texts:
        return supervised[0]
    return "text" if "text" in texts else None


def load(name, data_dir=None, tokenizer="bytes", length=64, device=None):
    """Loads a dataset, preparing it first if necessary.

    Texts of a dataset without labels are joined, each followed by the
    tokenizer's end token, and the sequence is divided into examples, so that
    every token but the first is predicted once; up to `length` tokens at the
    end are left out. Labelled texts are cut off after `length` tokens, and
    shorter ones are padded.

    Args:
        name: str, a set of TFDS, optionally with configuration and version.
        data_dir: str, directory of prepared datasets; `None` or `""` for
            `~/tensorflow_datasets`.
        tokenizer: str, as for `tokenizers.tokenizer`.
        length: int, tokens in an example.
        device: str, a CPU of the machine on which batches are read, or `None`
            for this one. It must find the prepared dataset at the same path.

    Returns:
        `TextData`.

    Raises:
        UsageError: if the dataset does not exist, has no texts, cannot be
            prepared or is damaged, or is shorter than an example; or if the
            tokenizer does not know a part of it.
    """
    builder = builders.prepared(name, data_dir)
    feature = _feature(builder)
    features = builder.info.features
    label = features["label"] if "label" in features else None
    is_language = builder.info.supervised_keys != (feature, "label")
    if not is_language and not isinstance(label, tfds.features.ClassLabel):
        raise UsageError(
            f"--dataset={name}: texts must have one class label each, or none. "
            f"Received: {' '.join(str(features).split())}"
        )
    tokens = tokenizers.tokenizer(tokenizer)
    if not is_language and tokens.padding is None:
        raise UsageError(
            f"--tokenizer={tokenizer} must have a token for padding to "
            "classify texts. Received: none"
        )
    make = _windows if is_language else _labelled
    with tf.device(device):
        train, test = (
            make(builder, split, feature, tokens, length, device)
            for split in ("train", builders.evaluation_split(name, builder))
        )
    return TextData(
        train, test, int(train.cardinality()), int(test.cardinality()),
        tokens.vocabulary_size if is_language else label.num_classes, device,
        length, tokens, is_language,
    )


def _windows(builder, split, feature, tokens, length, device):
    """Examples for language modelling, a `tf.data.Dataset`."""
    texts = builder.as_dataset(split=split).map(
        lambda example: tf.concat(
            [tokens.encode(example[feature]), [tokens.end]], 0
        )
    )
    with builders.reading(builder, device):
        # One tensor on the machine that reads, for its own memory.
        found = texts.ragged_batch(
            builder.info.splits[split].num_examples
        ).get_single_element().flat_values
    _check_range(tf.reduce_min(found), tf.reduce_max(found), tokens)
    number = (int(tf.size(found)) - 1) // length
    if number < 1:
        raise UsageError(
            f"--sequence_length must be less than the number of tokens in the "
            f"split '{split}' of --dataset={builder.info.full_name}, "
            f"{int(tf.size(found))}. Received: {length}"
        )
    seen, following = (
        tf.reshape(found[start:start + number * length], [number, length])
        for start in (0, 1)
    )
    return tf.data.Dataset.from_tensor_slices((seen, following))


def _labelled(builder, split, feature, tokens, length, device):
    """Examples for classification, a `tf.data.Dataset`."""
    builders.check_labels(builder, split, device)

    def example(text, label):
        # The end, so that no text is empty.
        found = tf.concat([tokens.encode(text), [tokens.end]], 0)[:length]
        found = tf.pad(
            found, [[0, length - tf.size(found)]],
            constant_values=tokens.padding,
        )
        return tf.ensure_shape(found, [length]), label

    examples = builder.as_dataset(split=split, as_supervised=True).map(example)
    with builders.reading(builder, device):
        lowest, highest = examples.batch(1000).reduce(
            (tf.int32.max, tf.int32.min),
            lambda bounds, batch: (
                tf.minimum(bounds[0], tf.reduce_min(batch[0])),
                tf.maximum(bounds[1], tf.reduce_max(batch[0])),
            ),
        )
    _check_range(lowest, highest, tokens)
    return examples


def _check_range(lowest, highest, tokens):
    """Refuses tokens that are none, which some devices would read as zeros."""
    if lowest < 0 or highest >= tokens.vocabulary_size:
        raise UsageError(
            "--tokenizer must return tokens from 0 to "
            f"{tokens.vocabulary_size - 1} for every text, also for characters "
            "that its vocabulary does not have. Received: "
            f"{int(lowest if lowest < 0 else highest)}"
        )
