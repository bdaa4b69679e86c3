"""The command line that predicts."""

import json
import re

import keras
import pytest

from tests.command_line import command, complaint


def rows_of(table):
    """The cells of a table's rows that begin with a number."""
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if line.startswith("| ") and line[2].isdigit()
    ]


def test_plan():
    done = command(
        "trainers.plan", "--batch_size=2", "--numbers_of_modules=1,2,3"
    )
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first.startswith(
        # Of which 1,376 are statistics of batch normalization.
        "resnet20, 271,098 parameters, batches of 2, on one device: forward "
    )
    rows = [line for line in done.stdout.splitlines() if line[2:3].isdigit()]
    assert [row.split("|")[1].strip() for row in rows] == ["1", "2", "3"]
    assert rows[0].split("|")[3].strip() == "1.00"


def test_plan_of_what_is_not_at_hand():
    """12 · 256² multiply-adds per token in each block, and the rest."""
    done = command(
        "trainers.plan", "--model=transformer", "--depth=4",
        '--model_args={"width": 256, "vocabulary_size": 1000, "length": 32}',
        "--batch_size=2", "--teraflops=1", "--numbers_of_modules=2,4",
        "--gbits_per_second=1,1000",
    )
    assert done.returncode == 0, done.stderr
    forward = float(re.search(r"forward ([\d.]+) ms", done.stdout)[1])
    blocks, head = 4 * 12 * 256**2, 256 * 1000
    products = 2 * 64 * (blocks + head) / 1e12 * 1e3
    assert products < forward < 1.5 * products
    rows = [
        re.findall(r"[\d.]+", line) for line in done.stdout.splitlines()
        if line[2:3].isdigit()
    ]
    assert [row[0] for row in rows] == ["2", "4"]
    for _, _, _, slow, _, fast, _ in rows:
        assert float(slow) < float(fast) <= 3.5


def test_plan_of_devices():
    """All K x r = 4, of which the fastest that fits is named."""
    flags = [
        "--model=transformer", "--depth=4", "--batch_size=8", "--teraflops=1",
        '--model_args={"width": 256, "vocabulary_size": 1000, "length": 32}',
        "--num_devices=4",
    ]
    done = command("trainers.plan", *flags, "--gbits_per_second=1,10000")
    assert done.returncode == 0, done.stderr
    slow, fast = done.stdout.split("Links of ")[1:]
    for of_link in (slow, fast):
        rows = rows_of(of_link)
        assert [row[:2] for row in rows] == [["1", "4"], ["2", "2"], ["4", "1"]]
        # Eight examples cannot be divided into eight micro-batches for each of
        # several pipelines.
        assert [row.count("-") for row in rows] == [6, 6, 0]
        # Without a pipeline, all gradients cross; with one copy, none do.
        assert float(rows[0][13]) > float(rows[1][13]) > float(rows[2][13]) == 0
        most = max(
            float(cell.replace(",", "")) for row in rows for cell in row[2:11]
            if cell != "-"
        )
        assert re.search(
            rf"Fastest: --algorithm=.* {most:,.0f} examples/s\.", of_link
        )
    # Exchanging gradients is as quick as the link.
    assert "--num_modules=4 --replicas=1" in slow
    assert "Fastest: --algorithm=backprop --num_modules=1 --replicas=4" in fast

    assert "Fastest with exact gradients: --algorithm=pipeline" in slow

    done = command("trainers.plan", *flags, "--exact")
    assert done.returncode == 0, done.stderr
    assert "Features Replay" not in done.stdout and "DDG" not in done.stdout
    assert "Fastest: " not in done.stdout
    assert "Fastest with exact gradients: --algorithm=" in done.stdout
    done = command(
        "trainers.plan", *flags[:-1], "--exact", "--numbers_of_modules=2"
    )
    assert "GPipe: examples/s" in done.stdout

    done = command("trainers.plan", *flags, "--device_memory=0.001")
    assert done.stdout.endswith("Nothing fits.\n")
    assert "In brackets: needs more than 0.001 GB." in done.stdout
    for row in rows_of(done.stdout):
        assert all(cell == "-" or cell.startswith("(") for cell in row[2:11])
    assert "--device_memory needs --num_devices" in complaint(
        command("trainers.plan", "--device_memory=1")
    )


@pytest.mark.parametrize(
    ("width", "batch_size", "stays", "crosses"),
    [
        # A cut between blocks sends 32 tokens of 16 floats for 32 examples,
        # there and back, in each of two pipelines: 0.26 MB. Instead, each of
        # two copies of all 8,704 parameters sends as many gradients.
        (16, 64, "modules", 2 * 4 * 8_704),
        # Gradients of 413,696 parameters stay. The residual crosses with what
        # is to be added to it: 2 x 32 x 128 floats, there and back, twice.
        (128, 2, "copies", 2 * 2 * 2 * 32 * 128 * 4),
    ],
)
def test_plan_of_machines(width, batch_size, stays, crosses):
    done = command(
        "trainers.plan", "--model=transformer", "--depth=2",
        "--model_args=" + json.dumps({
            "width": width, "vocabulary_size": 50, "length": 32, "num_heads": 2
        }),
        f"--batch_size={batch_size}", "--teraflops=1", "--num_devices=4",
        "--num_machines=2",
    )
    assert done.returncode == 0, done.stderr
    between = {tuple(row[:2]): row[14:] for row in rows_of(done.stdout)}
    assert between["2", "2"] == [stays, f"{crosses / 1e6:.2f}"]
    # There is no choice: a boundary is crossed, from one machine to the other.
    assert between["4", "1"][0] == "modules"


def test_devices_that_do_not_divide():
    for flags in ([], ["--num_devices=3"]):
        assert "--num_devices must be a multiple of --num_machines" in (
            complaint(command("trainers.plan", "--num_machines=2", *flags))
        )


def test_heads_that_do_not_divide():
    done = command(
        "trainers.plan", "--model=transformer",
        '--model_args={"num_heads": 7}',
    )
    assert "divisible by `num_heads`" in complaint(done)


def test_plan_of_a_file(tmp_path):
    """A Sequential model, whose `input` Keras does not define."""
    keras.Sequential([
        keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2),
    ]).save(tmp_path / "mine.keras")
    done = command(
        "trainers.plan", f"--model={tmp_path / 'mine.keras'}",
        "--numbers_of_modules=1,2",
    )
    assert done.returncode == 0, done.stderr
    assert "46 parameters" in done.stdout  # 8 · 4 + 4 and 4 · 2 + 2.


def test_size_of_images_is_for_images():
    done = command("trainers.plan", "--model=transformer", "--image_size=64")
    assert "--image_size does not apply" in complaint(done)
