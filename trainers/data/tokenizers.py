"""Tokenizers: texts as sequences of integers, and back."""

import os

import tensorflow as tf

from trainers.command.errors import UsageError


class Bytes:
    """The bytes of UTF-8 as tokens, which needs no vocabulary.

    Attributes:
        vocabulary_size: int, the number of different tokens.
        padding: int, the token after the end of a text, which is no byte.
        end: int, the token at the end of a text.
    """

    vocabulary_size = 258
    padding = 0
    end = 257

    def encode(self, text):
        """The tokens of a text.

        Args:
            text: string tensor, a scalar.

        Returns:
            int32 tensor `(length,)`, without `end`.
        """
        return tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int32) + 1

    def decode(self, tokens):
        """The text of tokens, a str, up to the first `end`.

        Args:
            tokens: list of int.
        """
        found = bytearray()
        for token in tokens:
            if token == self.end:
                break
            if token != self.padding:
                found.append(token - 1)
        return found.decode(errors="replace")


class KerasHub:
    """A tokenizer of KerasHub, with the attributes of `Bytes`.

    Args:
        preset: str, a directory to which `save_to_preset` of a model and its
            tokenizer wrote, or the name of a preset, which is downloaded.

    Raises:
        UsageError: if KerasHub is missing or has no such tokenizer.
    """

    def __init__(self, preset):
        name = f"--tokenizer=keras_hub:{preset}"
        try:
            import keras_hub
        except ImportError as error:
            raise UsageError(
                f"{name} needs KerasHub: pip install keras-hub"
            ) from error
        try:
            self._tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(
                os.path.expanduser(preset)
            )
        # Presets may be missing, damaged or of a newer version.
        except Exception as error:
            raise UsageError(
                f"{name} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        self.vocabulary_size = self._tokenizer.vocabulary_size()
        special = (
            getattr(self._tokenizer, attribute, None)
            for attribute in ("pad_token_id", "end_token_id")
        )
        self.padding, self.end = special
        if self.end is None:
            raise UsageError(
                f"{name} must have a token for the end of a text "
                f"(`end_token_id`). Received: {type(self._tokenizer).__name__}"
            )

    def encode(self, text):
        """As `Bytes.encode`."""
        return tf.cast(self._tokenizer(text), tf.int32)

    def decode(self, tokens):
        """As `Bytes.decode`."""
        if self.end in tokens:
            tokens = tokens[:tokens.index(self.end)]
        text = self._tokenizer.detokenize(tf.constant(tokens, tf.int32))
        if isinstance(text, str):
            return text
        return tf.convert_to_tensor(text).numpy().decode(errors="replace")


def tokenizer(name):
    """The tokenizer of that name.

    Args:
        name: str, `bytes` or `keras_hub:` and a preset.

    Returns:
        `Bytes` or `KerasHub`.

    Raises:
        UsageError: if there is none.
    """
    kind, _, preset = name.partition(":")
    return KerasHub(preset) if kind == "keras_hub" else Bytes()
