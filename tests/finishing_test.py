"""The last epochs by an exact algorithm, as one command."""

import json

import pytest
from absl import flags
from absl.testing import flagsaver

from tests.command_line import command, complaint
from trainers.command import errors
from trainers.experiment import finishing

FLAGS = flags.FLAGS
if "workdir" not in FLAGS:  # Each command has its own.
    flags.DEFINE_string("workdir", None, "Directory for the results.")


@pytest.fixture(autouse=True)
def saved_flags():
    with flagsaver.flagsaver():
        yield


def parse(*arguments):
    errors.parse_flags(["program", *map(str, arguments)])


@pytest.mark.parametrize("drops, rate, left", [
    ([], 0.5, []), ([3], 0.5 * 0.25, []), ([2, 4, 5], 0.5 * 0.25, ["1", "2"]),
    ([4], 0.5, ["1"]),
])
def test_learning_rates_go_on(drops, rate, left):
    """3 epochs, and then 2: a drop after the third is in force at once."""
    parse(
        "--epochs=5", "--finish_with=backprop:2", "--learning_rate=0.5",
        f"--learning_rate_drops={','.join(map(str, drops))}",
        "--learning_rate_factor=0.25", "--warmup_epochs=3", "--workdir=here",
        "--weight_prediction", "--seed=2147483647",
    )
    assert finishing.first_epochs() == 3
    with finishing.flags_of_last_epochs():
        assert FLAGS.algorithm == "backprop" and FLAGS.epochs == 2
        assert FLAGS.learning_rate == rate
        assert FLAGS.learning_rate_drops == left
        assert FLAGS.warmup_epochs == 0 and FLAGS.seed == 0
        assert FLAGS.weight_prediction is None
        assert FLAGS.workdir == "here/finish"
        assert FLAGS.restore_weights_from == "here"
        assert finishing.first_epochs() == 2
    assert FLAGS.algorithm == "features_replay" and FLAGS.epochs == 5
    assert FLAGS.weight_prediction and FLAGS.workdir == "here"


@pytest.mark.parametrize("arguments", [
    ["--epochs=2"], ["--epochs=4", "--warmup_epochs=2.5"],
])
def test_nothing_would_be_left(arguments):
    parse(*arguments, "--finish_with=backprop:2")
    with pytest.raises(errors.UsageError, match="at least one.*Received: back"):
        finishing.first_epochs()


def test_one_command(tmp_path):
    """A run, and another in its directory; the same command ends at once."""
    run = [
        "trainers.train", "--flagfile=configs/digits_fr.cfg", "--epochs=2",
        "--batch_size=300", "--num_modules=2", "--learning_rate_drops=",
        "--finish_with=backprop:1", f"--workdir={tmp_path / 'run'}",
        f"--data_dir={tmp_path / 'data'}",
    ]
    done = command(*run)
    assert done.returncode == 0, done.stderr
    assert "Starting with the weights of" in done.stdout
    first, last = (
        json.loads((tmp_path / folder / "results.json").read_text())
        for folder in ("run", "run/finish")
    )
    assert (first["algorithm"], first["epochs"]) == ("features_replay", 1)
    assert (last["algorithm"], last["epochs"]) == ("backprop", 1)
    # It has gone on, not begun anew.
    assert last["train_loss"] < first["train_loss"]
    again = command(*run)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("Test accuracy") == 2
    assert "epoch" not in again.stdout.split("Test accuracy")[0]


def test_comparisons_have_one_algorithm_each(tmp_path):
    said = complaint(command(
        "trainers.compare", f"--workdir={tmp_path / 'runs'}",
        "--finish_with=backprop:5",
    ))
    assert "--finish_with cannot be used in a comparison" in said
