"""A text that a trained language model continues."""

import numpy as np
import tensorflow as tf
from absl import flags

from trainers.command.errors import UsageError
from trainers.command.validation import is_positive
from trainers.data.text_data import TextData

FLAGS = flags.FLAGS

FLAG_NAMES = ("prompt", "sample_tokens", "temperature")

flags.DEFINE_string(
    "prompt", "", "The text that a trained language model continues."
)
flags.DEFINE_integer(
    "sample_tokens", 200,
    "Tokens that a trained language model adds to --prompt; 0: none.",
    lower_bound=0, upper_bound=1_000_000,
)
flags.DEFINE_float(
    "temperature", 0.8,
    "Divides the logits before a token is drawn: the lower, the likelier are "
    "the tokens.",
)
flags.register_validator(
    "temperature", is_positive, "must be positive and finite"
)


def check(data):
    """Refuses flags that do not apply to a dataset.

    Args:
        data: `trainers.data.data.Data`.

    Raises:
        UsageError: if there is a prompt and no language to model.
    """
    if FLAGS.prompt and not _is_language(data):
        raise UsageError(
            f"--prompt does not apply to --dataset={FLAGS.dataset}. Received: "
            f"{FLAGS.prompt}"
        )


def _is_language(data):
    return isinstance(data, TextData) and data.is_language


def sample(network, data):
    """Continues `--prompt`, or begins a text if there is none.

    Args:
        network: `keras.Model`, trained on `data`.
        data: `trainers.data.data.Data`.

    Returns:
        str, the prompt and what follows, up to the end of the text or
        `--sample_tokens` tokens; or `None` if this is no language model.
    """
    if not FLAGS.sample_tokens or not _is_language(data):
        return None
    logits_of = tf.function(
        lambda tokens: network(data.inputs(tokens), training=False)
    )
    tokenizer = data.tokenizer
    # Every text follows the end of another.
    tokens = [tokenizer.end, *tokenizer.encode(FLAGS.prompt).numpy().tolist()]
    begin = len(tokens)
    random = np.random.default_rng(FLAGS.seed)
    for _ in range(FLAGS.sample_tokens):
        seen = tokens[-data.length:]
        # What follows is not seen, since the network is causal.
        window = np.zeros([1, data.length], "int32")
        window[0, :len(seen)] = seen
        logits = logits_of(tf.constant(window))[0, len(seen) - 1]
        scaled = np.float64(logits) / FLAGS.temperature
        likelihoods = np.exp(scaled - scaled.max())
        tokens.append(int(random.choice(
            len(likelihoods), p=likelihoods / likelihoods.sum()
        )))
        if tokens[-1] == tokenizer.end:
            break
    return FLAGS.prompt + tokenizer.decode(tokens[begin:])
