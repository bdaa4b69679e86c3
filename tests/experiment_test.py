"""Flags of an experiment: what is refused, before anything is started."""

import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import fr_keras
from tests.command_line import ROOT
from trainers.command import errors
from trainers.experiment import (
    building,
    data_flags,
    experiment_flags,
    flag_file,
    network_flags,
    networks,
    reliability,
    sampling,
)
from trainers.results import observation

FLAGS = flags.FLAGS


@pytest.fixture(autouse=True)
def restored_flags():
    with flagsaver.flagsaver():
        yield


def parse(*arguments):
    errors.parse_flags(["program", *map(str, arguments)])


NONSENSE = [
    "--algorithm=", "--algorithm=magic",
    "--model=vgg", "--model=applications.", "--model=mine:3",
    "--model_args=depth", "--model_args=[1]", "--dtype_policy=int8",
    "--depth=21", "--depth=",
    "--num_modules=0", "--num_modules=100000000000", "--replicas=0",
    "--link_dtype=float16",
    "--mean=a", "--mean=,,", "--mean=nan", "--mean=1e300",
    "--std=0", "--std=-1", "--std=inf", "--std=1e-50",
    "--crop_padding=-1",
    "--flip=perhaps",
    "--batch_size=0", "--batch_size=many", "--batch_size=1000000000000",
    "--epochs=0", "--epochs=99999999999",
    "--learning_rate=0", "--learning_rate=nan", "--learning_rate=inf",
    "--learning_rate_drops=5,3", "--learning_rate_drops=a",
    "--learning_rate_drops=0",
    "--warmup_epochs=-1", "--warmup_epochs=nan", "--warmup_epochs=inf",
    "--finish_with=backprop", "--finish_with=backprop:0",
    "--finish_with=ddg:5", "--finish_with=backprop:5:5",
    "--learning_rate_factor=0", "--learning_rate_factor=-1",
    "--learning_rate_factor=nan", "--learning_rate_factor=2",
    "--gradient_shrink=0", "--gradient_shrink=2", "--gradient_shrink=nan",
    "--num_microbatches=0", "--replay_microbatches=0", "--synthesizer_width=0",
    "--synthesizer_learning_rate=0", "--synthesizer_learning_rate=nan",
    "--momentum=-0.1", "--momentum=1", "--momentum=nan",
    "--global_clipnorm=0", "--global_clipnorm=nan",
    "--weight_decay=-1", "--weight_decay=nan", "--weight_decay=inf",
    "--steps_per_execution=0", "--steps_per_execution=1000000000000",
    "--seed=-1", "--seed=4294967296",
    "--nesterov=perhaps", "--weight_prediction=2", "--drop_remainder=2",
    "--recompute=x", "--schedule=fast",
    "--deterministic=sometimes", "--exact_gradient=x", "--histograms=x",
    "--graph=x",
    "--balance=good", "--optimizer=magic",
    "--dropout=1", "--dropout=-0.1", "--dropout=nan",
    "--diagnostics_every=-1", "--diagnostics_every=often",
    "--profile_steps=5", "--profile_steps=7,5", "--profile_steps=a,b",
    "--checkpoint_steps=-1", "--checkpoint_epochs=-1",
    "--checkpoint_epochs=1.5", "--checkpoint_minutes=-1",
    "--checkpoint_minutes=nan", "--checkpoint_minutes=inf",
    "--keep_checkpoints=1", "--keep_checkpoints=99999",
    "--on_nan=ignore",
    "--tokenizer=words", "--tokenizer=keras_hub:",
    "--sequence_length=0", "--sequence_length=many",
    "--learning_rate_schedule=linear",
    "--label_smoothing=-0.1", "--label_smoothing=1", "--label_smoothing=nan",
    "--sample_tokens=-1", "--temperature=0", "--temperature=nan",
]

# What is nonsense for them is found out later; see input_pipeline_test.py,
# placement_test.py and train_mistakes_test.py.
FREE_TEXT = {
    "data_dir", "dataset", "devices", "prompt", "restore_weights_from"
}


def test_every_flag_is_tried_with_nonsense():
    tried = {flag.lstrip("-").split("=")[0] for flag in NONSENSE}
    flags_of = FLAGS.flags_by_module_dict()
    names = {
        flag.name for module in (
            data_flags, experiment_flags, network_flags, observation,
            reliability, sampling,
        )
        for flag in flags_of[module.__name__]
    }
    assert tried | FREE_TEXT == names


@pytest.mark.parametrize("flag", NONSENSE)
def test_nonsense_is_refused(flag):
    name = flag.split("=")[0]
    with pytest.raises(errors.UsageError, match=f"^flag {name}="):
        parse(flag)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--colour=red", "colour"),
        ("stray", "stray"),
        ("--flagfile=nowhere.cfg", "nowhere.cfg"),
    ],
)
def test_unknown_is_refused(argument, message):
    with pytest.raises(errors.UsageError, match=message):
        parse(argument)


def test_binary_flag_file_is_refused(tmp_path):
    (tmp_path / "binary.cfg").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.UsageError, match="--flagfile must be text"):
        parse(f"--flagfile={tmp_path / 'binary.cfg'}")


OF_ALGORITHMS = set().union(*experiment_flags.ALGORITHM_FLAGS.values())


@pytest.mark.parametrize(
    "name", sorted({*experiment_flags.EXPERIMENT_FLAGS} - OF_ALGORITHMS)
)
def test_every_flag_is_read(name):
    code = "".join(file.read_text() for file in ROOT.glob("trainers/**/*.py"))
    assert re.search(rf"\bFLAGS\.{name}\b", code)


def test_optimizers():
    parse("--weight_decay=0.25", "--learning_rate=0.5")
    sgd = building.build_optimizer(0.5)
    assert (sgd.momentum, sgd.nesterov) == (0.9, True)
    assert sgd.coupled_weight_decay == 0.25
    parse("--optimizer=adam")
    adam = building.build_optimizer(0.5)
    assert type(adam).__name__ == "AdamW" and adam.weight_decay == 0.25
    parse("--optimizer=adam", "--momentum=0.5")
    with pytest.raises(
        errors.UsageError, match="--momentum does not apply to"
    ):
        building.build_optimizer(0.5)


def built(*arguments):
    parse("--num_modules=2", "--devices=CPU:0", *arguments)
    network = networks.build({"input_shape": (8, 8, 1), "num_classes": 3})
    costs = building.measure_costs(network)
    return building.build_algorithm(network, 10, costs)


def test_flags_of_algorithms():
    for algorithm, predicts in (("features_replay", True), ("ddg", False)):
        FLAGS.weight_prediction = None
        model = built(f"--algorithm={algorithm}", "--gradient_shrink=0.5")
        assert type(model) is fr_keras.ALGORITHMS[algorithm]
        assert model.gradient_shrink == 0.5
        assert model.weight_prediction is predicts
        model = built(f"--{'no' * predicts}weight_prediction")
        assert model.weight_prediction is not predicts
    parse("--gradient_shrink=1")
    FLAGS.weight_prediction = None
    assert built("--algorithm=features_replay").num_microbatches == 1
    assert built("--replay_microbatches=3").num_microbatches == 3
    FLAGS.replay_microbatches = None
    model = built(
        "--algorithm=gpipe", "--num_microbatches=7", "--norecompute"
    )
    assert (model.num_microbatches, model.recompute) == (7, False)
    parse("--num_microbatches=4")
    FLAGS.recompute = None
    assert built("--algorithm=gpipe").recompute is True
    model = built("--algorithm=pipeline")
    assert (model.schedule, model.recompute) == ("1f1b", False)
    model = built("--algorithm=pipeline", "--schedule=zb-h2", "--recompute")
    assert (model.schedule, model.recompute) == ("zb-h2", True)
    FLAGS.schedule = FLAGS.recompute = None
    model = built(
        "--algorithm=dni", "--synthesizer_width=5",
        "--synthesizer_learning_rate=0.25",
    )
    assert model.synthesizer_width == 5
    assert float(model.synthesizer_optimizer.learning_rate) == 0.25


def test_flag_files_of_the_first_version(tmp_path):
    """They hold --recompute for every algorithm; now its default is `None`."""
    model = built("--algorithm=features_replay", "--recompute")
    assert type(model) is fr_keras.FeaturesReplay
    path = tmp_path / "flags.cfg"
    flag_file.write(path)
    assert "--recompute\n" in path.read_text()
    FLAGS.recompute = None
    flag_file.check(path)
    path.write_text(path.read_text().replace("--recompute", "--norecompute"))
    with pytest.raises(errors.UsageError, match="it was: --norecompute"):
        flag_file.check(path)


def test_measured_balance(monkeypatch):
    """The last layers take all the time, so they are all there is at the end.
    """
    seen = []

    def measure(network, x, device):
        seen.append((x.shape, device))
        return {
            layer.name: (1.0, 1.0) if layer.name == "logits" else (0.001, 0.0)
            for layer in network.layers
        }

    monkeypatch.setattr(fr_keras, "measure_costs", measure)
    model = built("--batch_size=7", "--balance=measured")
    assert seen == [
        ((7, 8, 8, 1), "/job:localhost/replica:0/task:0/device:CPU:0")
    ]
    assert model.modules[1].layers[-1].name == "logits"
    assert len(model.modules[1].layers) < 5


@pytest.mark.parametrize(
    "algorithm, flag",
    [
        ("backprop", "--gradient_shrink=0.5"),
        ("gpipe", "--weight_prediction"),
        ("features_replay", "--num_microbatches=2"),
        ("ddg", "--replay_microbatches=2"),
        ("ddg", "--norecompute"),
        ("gpipe", "--synthesizer_width=3"),
        ("gpipe", "--schedule=1f1b"),
    ],
)
def test_flag_of_another_algorithm(algorithm, flag):
    with pytest.raises(errors.UsageError, match=f"Received: {flag}"):
        built(f"--algorithm={algorithm}", flag)


@pytest.mark.parametrize(
    "flags_given, examples",
    [
        (["--batch_size=64"], 100),
        (["--batch_size=64", "--drop_remainder"], 64),
        (["--algorithm=gpipe", "--batch_size=50"], None),
        (["--algorithm=gpipe", "--batch_size=64"], 100),
        (["--algorithm=gpipe", "--num_microbatches=8"], None),
        (["--algorithm=pipeline", "--num_microbatches=8"], None),
        (["--algorithm=gpipe", "--batch_size=1000"], 100),
        (["--replay_microbatches=4", "--batch_size=50"], None),
        (["--replay_microbatches=2", "--batch_size=50"], 100),
        (["--batch_size=101", "--drop_remainder"], None),
    ],
)
def test_examples_of_an_epoch(flags_given, examples):
    parse(*flags_given)
    if examples:
        assert building.examples_per_epoch(100) == examples
    else:
        with pytest.raises(errors.UsageError, match="--batch_size|every batch"):
            building.examples_per_epoch(100)


@pytest.mark.parametrize("drops, expected", [
    ("", {0: 0.02, 1: 0.04, 23: 0.48, 24: 0.5, 25: 0.5, 49: 0.5}),
    # Warm-up goes on over a drop.
    ("2", {0: 0.02, 19: 0.4, 20: 0.042, 24: 0.05, 30: 0.05}),
])
def test_warm_up(drops, expected):
    parse(
        "--epochs=5", "--num_modules=1", "--devices=CPU:0",
        "--learning_rate=0.5", f"--learning_rate_drops={drops}",
        "--warmup_epochs=2.5",
    )
    network = networks.build({"input_shape": (8, 8, 1), "num_classes": 3})
    model = building.build_algorithm(network, steps_per_epoch=10)
    schedule = model.optimizer.shared._learning_rate
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule)
    )
    for iteration, rate in expected.items():
        model.optimizer.iterations.assign(iteration)
        assert float(model.optimizer.learning_rate) == pytest.approx(rate)
        assert float(again(iteration)) == pytest.approx(rate)
    parse("--warmup_epochs=0")


def test_drops_beyond_the_last_epoch_do_not_matter():
    parse(
        "--epochs=5", "--num_modules=1", "--devices=CPU:0",
        "--learning_rate=0.5", "--learning_rate_drops=2,4,99999999999999999999",
    )
    network = networks.build({"input_shape": (8, 8, 1), "num_classes": 3})
    model = building.build_algorithm(network, steps_per_epoch=10)
    rates = []
    for iteration in (0, 19, 20, 39, 40, 49):
        model.optimizer.iterations.assign(iteration)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_warnings_are_told_in_one_line():
    """Of Python's `warnings` as of the library's logger."""
    code = (
        "import logging, warnings\n"
        "from trainers.command import errors\n"
        "def main():\n"
        "    warnings.warn('two\\nlines')\n"
        "    logging.getLogger('fr_keras').warning('logged')\n"
        "errors.run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
    )
    assert done.stderr.splitlines()[-2:] == ["-c: two lines", "-c: logged"]


def test_cosine():
    parse(
        "--epochs=4", "--num_modules=1", "--devices=CPU:0",
        "--learning_rate=0.5", "--learning_rate_drops=", "--warmup_epochs=0",
        "--learning_rate_schedule=cosine",
    )
    network = networks.build({"input_shape": (8, 8, 1), "num_classes": 3})
    model = building.build_algorithm(network, steps_per_epoch=10)
    for iteration in (0, 10, 20, 39):
        model.optimizer.iterations.assign(iteration)
        assert float(model.optimizer.learning_rate) == pytest.approx(
            # In float32, of which 1 + cos leaves few digits at the end.
            0.25 * (1 + np.cos(np.pi * iteration / 40)), rel=1e-6, abs=1e-7
        )
    parse("--learning_rate_schedule=drops")


def test_label_smoothing_is_in_the_loss():
    parse("--num_modules=1", "--devices=CPU:0", "--label_smoothing=0.3")
    network = networks.build({"input_shape": (8, 8, 1), "num_classes": 3})
    model = building.build_algorithm(network, steps_per_epoch=10)
    assert model.loss.label_smoothing == 0.3
    parse("--label_smoothing=0")
    model = building.build_algorithm(network, steps_per_epoch=10)
    assert isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)


def test_paths_are_settled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preset").mkdir()
    parse("--dataset=./mine", "--tokenizer=keras_hub:preset")
    flag_file.settle_paths()
    assert FLAGS.dataset == str(tmp_path / "mine")
    assert FLAGS.tokenizer == f"keras_hub:{tmp_path / 'preset'}"
    parse("--dataset=digits", "--tokenizer=keras_hub:gpt2_base_en")
    flag_file.settle_paths()
    assert FLAGS.tokenizer == "keras_hub:gpt2_base_en"
    parse("--tokenizer=bytes")
