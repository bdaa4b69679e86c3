"""Orders of work against the drawings and formulas of the literature."""

import re

import pytest

from fr_keras import schedules
from fr_keras.planning import simulation
from fr_keras.profiling.module_times import ModuleTimes
from fr_keras.schedules.work import BACKWARD, FORWARD, KINDS, WEIGHTS, Work

NAMES = [name for name in schedules.SCHEDULES if name != schedules.INTERLEAVED]
SIZES = [(K, M) for K in (1, 2, 3, 4, 8) for M in (1, 3, 4, 16)]


@pytest.mark.parametrize("name", NAMES)
def test_all_work_is_done_once(name):
    kinds = KINDS if name.startswith("zb") else (FORWARD, BACKWARD)
    for K, M in SIZES:
        order = schedules.SCHEDULES[name](K, M)
        for k, of_module in enumerate(order):
            assert sorted(of_module) == sorted(
                Work(kind, k, m) for kind in kinds for m in range(M)
            )
        sequence = schedules.in_sequence(order)
        assert len(sequence) == K * M * len(kinds)
        # Each module in its order, and nothing before what it needs.
        assert [
            [work for work in sequence if work.module == k] for k in range(K)
        ] == order
        done = set()
        for work in sequence:
            assert done.issuperset(schedules.needed(work, K))
            done.add(work)


@pytest.mark.parametrize(
    ("name", "in_flight"),
    [
        ("gpipe", lambda K, M, k: M),
        ("1f1b", lambda K, M, k: min(M, K - k)),
        ("zb-h1", lambda K, M, k: min(M, K)),
        ("zb-h2", lambda K, M, k: min(M, 2 * K - 1)),
    ],
)
def test_activations_in_flight(name, in_flight):
    """Of modules k from 0: PipeDream-Flush; Qi et al., table 2."""
    for K, M in SIZES:
        found = schedules.in_flight(schedules.SCHEDULES[name](K, M))
        assert found == [in_flight(K, M, k) for k in range(K)], (K, M)


@pytest.mark.parametrize(
    ("name", "fewest", "cost"),
    [
        ("gpipe", lambda K: 1, lambda K, M: 3 + 3 * (K - 1) / M),
        ("1f1b", lambda K: 1, lambda K, M: 3 + 3 * (K - 1) / M),
        ("zb-h1", lambda K: K, lambda K, M: 3 + (K - 1) / M),
        ("zb-h2", lambda K: 2 * K - 1, lambda K, M: 3),
    ],
)
def test_time_of_an_iteration(name, fewest, cost):
    """Bubbles of 3 (K - 1) / M, (K - 1) / M and 0, in forward passes."""
    for K, M in SIZES:
        if M < fewest(K):
            continue
        seconds = simulation.seconds_per_step(
            name, [ModuleTimes(1.0, 2.0)] * K, num_microbatches=M,
            recompute=False,
        )
        assert seconds == pytest.approx(cost(K, M)), (K, M)


INTERLEAVED_SIZES = [
    (D, turns, M)
    for D in (1, 2, 3, 4, 8) for turns in (1, 2, 4) for M in (D, 2 * D, 4 * D)
]


def interleaved(D, turns, M):
    return schedules.order(schedules.INTERLEAVED, D * turns, M, D)


def test_interleaved():
    """All work is done; bubble and memory of Narayanan et al., section 2.2."""
    for D, turns, M in INTERLEAVED_SIZES:
        order = interleaved(D, turns, M)
        for device, of_one in enumerate(order):
            assert sorted(of_one) == sorted(
                Work(kind, k, m) for kind in (FORWARD, BACKWARD)
                for k in range(device, D * turns, D) for m in range(M)
            )
        assert len(schedules.in_sequence(order)) == 2 * D * turns * M
        seconds = simulation.seconds_per_step(
            "interleaved-1f1b",
            [
                ModuleTimes(1 / turns, 2 / turns, device=k % D)
                for k in range(D * turns)
            ],
            num_microbatches=M,
        )
        assert seconds == pytest.approx(3 + 3 * (D - 1) / (M * turns))
        # Not more than that many modules' activations of a micro-batch.
        most = D if turns == 1 else 2 * (D - 1) + (turns - 1) * D + 1
        assert schedules.in_flight(order)[0] == min(most, M * turns)


def test_drawing_of_interleaved():
    D, turns, M = 2, 2, 4
    lines = drawing(schedules.SCHEDULES["interleaved-1f1b"])
    events = simulation.simulate(
        "interleaved-1f1b",
        [ModuleTimes(1.0, 2.0, device=k % D) for k in range(D * turns)], 1,
        num_microbatches=M,
    )
    for device, of_one in enumerate(interleaved(D, turns, M)):
        timed = [
            e for e in events if e.module % D == device and e.kind != "update"
        ]
        line = ""
        for event, work in zip(timed, of_one, strict=True):
            assert event.module == work.module
            line = line.ljust(round(M * event.start), ".")
            line += str(work.microbatch + 1 + event.module // D * M) * round(
                M * (event.stop - event.start)
            )
        assert line == lines[device]


def drawing(function):
    """The lines of a docstring's picture, without spaces."""
    lines = re.findall(r"(?:module|device) \d+ +(.*)", function.__doc__)
    return [line.replace(" ", "").rstrip(".") for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_drawings(name):
    function = schedules.SCHEDULES[name]
    lines = drawing(function)
    M = max(int(letter) for letter in lines[0] if letter.isdigit())
    is_split = name.startswith("zb")
    letters = {
        "play": "123456", "backward": "abcdef" if is_split else "123456",
        "weights": "ABCDEF",
    }
    events = simulation.simulate(
        name, [ModuleTimes(1.0, 2.0)] * len(lines), 1, num_microbatches=M,
        recompute=False,
    )
    found = []
    for k, of_module in enumerate(function(len(lines), M)):
        timed = [e for e in events if e.module == k and e.kind != "update"]
        line = ""
        for event, work in zip(timed, of_module, strict=True):
            line = line.ljust(round(M * event.start), ".")
            line += letters[event.kind][work.microbatch] * round(
                M * (event.stop - event.start)
            )
        found.append(line.strip("."))
    assert found == [line.strip(".") for line in lines]


def test_modules_that_wait_forever():
    order = [
        [Work(BACKWARD, 0, 0), Work(FORWARD, 0, 0)],
        [Work(FORWARD, 1, 0), Work(BACKWARD, 1, 0)],
    ]
    with pytest.raises(ValueError, match="wait for each other forever"):
        schedules.in_sequence(order)


def test_weights_need_the_gradient_of_the_input():
    assert schedules.needed(Work(WEIGHTS, 1, 2), 3) == [Work(BACKWARD, 1, 2)]
    assert schedules.needed(Work(BACKWARD, 1, 2), 3) == [Work(BACKWARD, 2, 2)]
    assert schedules.needed(Work(BACKWARD, 2, 2), 3) == [Work(FORWARD, 2, 2)]
    assert schedules.needed(Work(FORWARD, 0, 2), 3) == []
