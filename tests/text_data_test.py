"""Texts as tokens: windows, labels, tokenizers."""

import json
from pydoc_data import topics

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

import fr_keras
from tests.command_line import command, complaint
from trainers.command.errors import UsageError
from trainers.data import own_data, text_data, tokenizers
from trainers.experiment import networks
from trainers.experiment.perplexity import Perplexity
from trainers.experiment.smoothed_loss import SmoothedCrossentropy

TEXTS = ["good", "a much longer text", "", "näh"]
LABELS = [1, 0, 1, 0]


class Reviews(tfds.core.GeneratorBasedBuilder):
    """Four labelled texts."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(num_classes=2),
            }),
            supervised_keys=("text", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._examples(), "test": self._examples()}

    _generate_examples = None

    def _examples(self):
        for i, (text, label) in enumerate(zip(TEXTS, LABELS)):
            yield i, {"text": text, "label": label}


def tokens_of(text):
    """Tokens as docs/command_line.md describes them."""
    return [byte + 1 for byte in text.encode()]


@given(st.text())
def test_bytes_come_back(text):
    found = tokenizers.Bytes()
    tokens = found.encode(tf.constant(text.encode())).numpy().tolist()
    assert tokens == tokens_of(text)
    assert found.decode([*tokens, found.end, 66]) == text


def test_a_tokenizer_of_keras_hub(tmp_path):
    """Of a directory that a model was saved to."""
    keras_hub = pytest.importorskip("keras_hub")
    words = ["<|endoftext|>", *"abcdefg", "\u0120", "ab", "\u0120ab"]
    saved = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary={word: i for i, word in enumerate(words)},
        merges=["a b", "\u0120 ab"],
    )
    saved.save_to_preset(tmp_path)
    keras_hub.models.GPT2Backbone(
        vocabulary_size=len(words), num_layers=1, num_heads=1, hidden_dim=4,
        intermediate_dim=4,
    ).save_to_preset(tmp_path)
    found = tokenizers.tokenizer(f"keras_hub:{tmp_path}")
    tokens = found.encode(tf.constant("abc ab")).numpy().tolist()
    assert [words[t] for t in tokens] == ["ab", "c", "\u0120ab"]
    assert (found.vocabulary_size, found.end) == (11, 0)
    assert found.decode([*tokens, found.end, 1]) == "abc ab"


def test_every_token_is_predicted_once(data_dir):
    data = text_data.load("python_manual", str(data_dir), length=50)
    names = sorted(topics.topics)
    held_out = {*names[::10], *names[1::10]}
    expected = {
        "train": [n for n in names if n not in held_out], "test": names[::10],
    }
    for split, dataset in (("train", data.train), ("test", data.test)):
        builder = tfds.builder("python_manual", data_dir=str(data_dir))
        order = [
            e["topic"].decode()
            for e in builder.as_dataset(split=split).as_numpy_iterator()
        ]
        assert sorted(order) == expected[split]
        text = [
            token for name in order
            for token in [*tokens_of(topics.topics[name]), 257]
        ]
        x, y = (np.concatenate(a) for a in zip(*dataset.as_numpy_iterator()))
        assert len(x) == len(y) == (len(text) - 1) // 50 * 50
        np.testing.assert_array_equal(x, text[:len(x)])
        np.testing.assert_array_equal(y, text[1:len(y) + 1])
    assert data.num_train == len(data.train)
    assert data.num_classes == data.vocabulary_size == 258


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """The directory in which they are prepared."""
    folder = str(tmp_path_factory.mktemp("reviews"))
    Reviews(data_dir=folder).download_and_prepare()
    return folder


def test_labelled_texts_are_cut_off_or_padded(reviews):
    data = text_data.load("reviews", reviews, length=8)
    assert data.num_classes == 2
    found = {
        tuple(x): int(y) for x, y in data.train.as_numpy_iterator()
    }
    expected = {}
    for text, label in zip(TEXTS, LABELS):
        tokens = [*tokens_of(text), 257][:8]
        expected[tuple(tokens + [0] * (8 - len(tokens)))] = label
    assert found == expected


@pytest.mark.parametrize("name", ["python_manual", "reviews"])
@pytest.mark.parametrize("unknown", [-1, 258])
def test_unknown_characters_are_told(
    name, unknown, data_dir, reviews, monkeypatch
):
    """Tokenizers of KerasHub return -1 for what their vocabulary lacks."""
    encode = tokenizers.Bytes.encode
    monkeypatch.setattr(
        tokenizers.Bytes, "encode", lambda self, text: tf.where(
            encode(self, text) == ord("g") + 1, unknown, encode(self, text)
        ),
    )
    folder = {"python_manual": str(data_dir), "reviews": reviews}[name]
    with pytest.raises(UsageError, match=f"from 0 to 257.*Received: {unknown}"):
        text_data.load(name, folder, length=8)


def test_texts_must_be_longer_than_an_example(data_dir):
    with pytest.raises(UsageError, match="less than .* Received: 10000000"):
        text_data.load("python_manual", str(data_dir), length=10_000_000)


def test_damaged_texts_are_told(tmp_path):
    text_data.load("python_manual", str(tmp_path))
    (file,) = tmp_path.rglob("*train.tfrecord*")
    content = bytearray(file.read_bytes())
    content[1000] ^= 255
    file.write_bytes(content)
    with pytest.raises(UsageError, match="damaged; delete them.*Received"):
        text_data.load("python_manual", str(tmp_path))


def _language_model(layer):
    small = keras.initializers.RandomNormal(stddev=0.02)
    tokens = keras.Input((10,), dtype="int32")
    x = layer(keras.layers.Embedding(258, 8, small)(tokens))
    return keras.Model(
        tokens, keras.layers.Dense(258, kernel_initializer=small)(x)
    )


def _attention(x, **options):
    return x + keras.layers.MultiHeadAttention(1, 8)(x, x, **options)


def _lstm():
    return keras.layers.LSTM(8, return_sequences=True)


@pytest.fixture
def manual(data_dir):
    flags.FLAGS.mark_as_parsed()
    return text_data.load("python_manual", str(data_dir), length=10)


@pytest.mark.parametrize("layer", [
    _lstm(), lambda x: _attention(x, use_causal_mask=True),
    keras.layers.Conv1D(8, 3, padding="causal"),
], ids=["LSTM", "attention", "convolution"])
def test_causal_networks(layer, manual):
    networks.check("it", _language_model(layer), manual)


@pytest.mark.parametrize("layer", [
    keras.layers.Bidirectional(_lstm()), _attention,
    keras.layers.Conv1D(8, 3, padding="same"),
    # Each of two halves is seen by itself; then, each pair.
    lambda x: keras.layers.Reshape((10, 8))(
        keras.layers.Dense(40)(keras.layers.Reshape((2, 40))(x))
    ),
    lambda x: keras.layers.Reshape((10, 8))(
        keras.layers.Dense(16)(keras.layers.Reshape((5, 16))(x))
    ),
], ids=["LSTM", "attention", "convolution", "halves", "pairs"])
def test_networks_must_not_see_what_they_predict(layer, manual):
    with pytest.raises(UsageError, match="it must be causal"):
        networks.check("it", _language_model(layer), manual)


def test_a_language_model_of_keras_hub_is_checked(manual):
    keras_hub = pytest.importorskip("keras_hub")
    network = keras_hub.models.GPT2CausalLM(
        keras_hub.models.GPT2Backbone(
            vocabulary_size=258, num_layers=1, num_heads=1, hidden_dim=4,
            intermediate_dim=4,
        ), preprocessor=None,
    )
    manual.suit(networks.inputs(network))
    networks.check("it", network, manual)


def test_inputs_of_keras_hub(reviews):
    data = text_data.load("reviews", reviews, length=8)
    data.suit({"token_ids": None, "padding_mask": None})
    inputs, _ = data.prepare(tf.constant([[7, 257, 0, 0, 0, 0, 0, 0]]), None)
    assert inputs["token_ids"].numpy().tolist() == [[7, 257] + 6 * [0]]
    assert inputs["padding_mask"].numpy().tolist() == [[1, 1] + 6 * [0]]
    assert set(data.input_spec) == {"token_ids", "padding_mask"}


def test_perplexity_is_the_exponential_of_the_mean_of_all_batches():
    metric = Perplexity()
    random = np.random.default_rng(0)
    losses = []
    for size in (3, 1):
        logits = random.normal(size=(size, 5, 7))
        labels = random.integers(7, size=(size, 5))
        metric.update_state(labels, logits)
        likelihoods = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        losses.append(-np.log(
            np.take_along_axis(likelihoods, labels[..., None], -1)
        ).ravel())
    assert float(metric.result()) == pytest.approx(
        np.exp(np.concatenate(losses).mean()), rel=1e-5
    )
    again = Perplexity.from_config(metric.get_config())
    assert again.name == "perplexity"


def test_classifiers_do_not_see_padding():
    options = {
        "depth": 2, "width": 8, "num_heads": 2, "vocabulary_size": 258,
        "num_classes": 3, "padding": 5,
    }
    network = fr_keras.models.transformer(length=10, **options)
    short = fr_keras.models.transformer(length=6, **options)
    for layer in network.layers:
        weights = layer.get_weights()
        if layer.name == "positions":
            weights = [weights[0][:6]]
        if weights:
            short.get_layer(layer.name).set_weights(weights)
    tokens = np.random.default_rng(0).integers(6, 258, (4, 10))
    tokens[:, 6:] = 5
    found = network(tokens).numpy()
    assert found.shape == (4, 3)
    np.testing.assert_allclose(short(tokens[:, :6]), found, atol=1e-7)


def test_modules_of_a_classifier_are_trained_as_by_keras(reviews):
    data = text_data.load("reviews", reviews, length=8)

    def trained(split):
        keras.utils.set_random_seed(0)
        model = split(fr_keras.models.transformer(
            depth=2, width=8, num_heads=2, length=8,
            vocabulary_size=data.vocabulary_size, num_classes=2,
        ))
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        model.fit(data.test_batches(2), epochs=3, verbose=0)
        return model

    plain = trained(lambda network: network)
    split = trained(lambda network: fr_keras.Backprop(network, 3)).to_keras()
    for one, other in zip(plain.get_weights(), split.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_smoothed_labels():
    """Against equation 11 of Szegedy et al. (2015)."""
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(4, 5)), np.array([0, 4, 2, 2])
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = 0.8 * np.eye(5)[labels] + 0.2 / 5
    loss = SmoothedCrossentropy(0.2)
    assert float(loss(labels, logits)) == pytest.approx(
        -(targets * logs).sum(-1).mean(), rel=1e-5
    )
    again = SmoothedCrossentropy.from_config(loss.get_config())
    assert float(again(labels, logits)) == float(loss(labels, logits))


JOB = [
    "trainers.train", "--dataset=python_manual", "--sequence_length=512",
    "--model=transformer", "--depth=2", "--num_modules=2",
    '--model_args={"width": 8, "num_heads": 1}', "--batch_size=16",
    "--optimizer=adam", "--learning_rate=0.003", "--sample_tokens=5",
    "--steps_per_execution=4", "--deterministic",
]


def test_a_language_model_ends_with_perplexity_and_a_sample(data_dir, tmp_path):
    """And is extended as if it had been longer from the beginning."""
    def train(epochs, name):
        done = command(
            *JOB, f"--workdir={tmp_path / name}", f"--data_dir={data_dir}",
            f"--epochs={epochs}", "--prompt=The",
        )
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / name / "results.json").read_text())
        return done.stdout, results

    said, first = train(1, "run")
    assert f", perplexity {first['test_perplexity']:.2f} after 1" in said
    assert first["test_perplexity"] == pytest.approx(
        np.exp(first["test_loss"]), rel=1e-3
    )
    sample = (tmp_path / "run" / "sample.txt").read_text()
    assert sample.startswith("The") and sample in said
    assert "ckpt" in train(2, "run")[0]  # What it resumes from.
    said, whole = train(2, "whole")
    extended = json.loads((tmp_path / "run" / "results.json").read_text())
    for name in ("test_loss", "train_loss", "test_perplexity", "epochs"):
        assert extended[name] == whole[name]
    models = (
        keras.saving.load_model(tmp_path / name / "model.keras", compile=False)
        for name in ("run", "whole")
    )
    for one, other in zip(*(model.get_weights() for model in models)):
        np.testing.assert_array_equal(one, other)
    done = command(
        "trainers.evaluate", f"--workdir={tmp_path / 'run'}"
    )
    assert f"perplexity {extended['test_perplexity']:.2f} on" in done.stdout
    fewer = command(
        *JOB, f"--workdir={tmp_path / 'run'}", f"--data_dir={data_dir}",
        "--epochs=1",
    )
    assert "--epochs=1 (it was: --epochs=2)" in complaint(fewer)


@pytest.mark.parametrize("flags, message", [
    (["--flip"], "--flip does not apply to --dataset=python_manual"),
    (["--tokenizer=words"], "must be bytes or keras_hub:PRESET"),
    (["--tokenizer=keras_hub:./nowhere"], "--tokenizer=keras_hub:./nowhere"),
    (["--dataset=digits", "--sequence_length=9"],
     "--sequence_length does not apply to --dataset=digits"),
    (["--dataset=digits", "--prompt=What", "--sequence_length=64"],
     "--prompt does not apply to --dataset=digits"),
    (["--learning_rate_schedule=cosine", "--learning_rate_drops=3"],
     "cannot be combined"),
    (["--dataset=./nowhere"], "--dataset="),
])
@pytest.mark.quick_cases("flip", "prompt", "nowhere")
def test_mistakes(flags, message, data_dir, tmp_path):
    data = [] if flags[-1] == "--dataset=./nowhere" else [
        f"--data_dir={data_dir}"
    ]
    done = command(*JOB, *data, f"--workdir={tmp_path / 'run'}", *flags)
    said = complaint(done)
    assert message in said
    assert not (tmp_path / "run" / "flags.cfg").exists()


def test_saved_datasets(tmp_path):
    random = np.random.default_rng(0)
    arrays = {
        name: (
            random.normal(size=(size, 3)).astype("float32"),
            random.integers(0, 5, size),
        )
        for name, size in (("train", 30), ("test", 7))
    }
    for name, pair in arrays.items():
        tf.data.Dataset.from_tensor_slices(pair).save(str(tmp_path / name))
    data = own_data.load("./it", own_data.saved(str(tmp_path)))
    assert data.num_classes == 1 + max(y.max() for _, y in arrays.values())
    assert (data.num_train, data.num_test) == (30, 7)
    x, y = zip(*data.test.as_numpy_iterator())
    np.testing.assert_array_equal(x, arrays["test"][0])
    np.testing.assert_array_equal(y, arrays["test"][1])
