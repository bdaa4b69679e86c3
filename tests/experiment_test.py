"""Flags of an experiment: what is refused, before anything is started."""

import pathlib
import re

import pytest
from absl import flags
from absl.testing import flagsaver

from trainers import errors, experiment

FLAGS = flags.FLAGS


@pytest.fixture(autouse=True)
def restored_flags():
    with flagsaver.flagsaver():
        yield


def parse(*arguments):
    errors.parse_flags(["program", *map(str, arguments)])


@pytest.mark.parametrize(
    "flag",
    [
        "--algorithm=", "--algorithm=magic",
        "--model=vgg",
        "--depth=21", "--depth=",
        "--num_modules=0", "--num_modules=100000000000",
        "--mean=a", "--mean=,,", "--mean=nan", "--mean=1e300",
        "--std=0", "--std=-1", "--std=inf", "--std=1e-50",
        "--crop_padding=-1",
        "--flip=perhaps",
        "--batch_size=0", "--batch_size=many", "--batch_size=1000000000000",
        "--epochs=0", "--epochs=99999999999",
        "--learning_rate=0", "--learning_rate=nan", "--learning_rate=inf",
        "--learning_rate_drops=5,3", "--learning_rate_drops=a",
        "--learning_rate_drops=0",
        "--learning_rate_factor=0", "--learning_rate_factor=-1",
        "--learning_rate_factor=nan", "--learning_rate_factor=2",
        "--momentum=-0.1", "--momentum=1", "--momentum=nan",
        "--weight_decay=-1", "--weight_decay=nan", "--weight_decay=inf",
        "--steps_per_execution=0", "--steps_per_execution=1000000000000",
        "--seed=-1", "--seed=4294967296",
    ],
)
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


@pytest.mark.parametrize("name", experiment.EXPERIMENT_FLAGS)
def test_every_flag_is_read(name):
    trainers = pathlib.Path(experiment.__file__).parent
    code = "".join(file.read_text() for file in trainers.glob("*.py"))
    assert re.search(rf"\bFLAGS\.{name}\b", code)


def test_drops_beyond_the_last_epoch_do_not_matter():
    parse(
        "--epochs=5", "--num_modules=1", "--devices=CPU:0",
        "--learning_rate=0.5", "--learning_rate_drops=2,4,99999999999999999999",
    )
    network = experiment.build_network((8, 8, 1), num_classes=3)
    model = experiment.build_algorithm(network, steps_per_epoch=10)
    rates = []
    for iteration in (0, 19, 20, 39, 40, 49):
        model.optimizer.iterations.assign(iteration)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
