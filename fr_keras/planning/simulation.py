"""Simulation: the timing of a schedule on devices, without the work."""

import collections
import functools
import heapq
import itertools
import typing

from fr_keras import schedules
from fr_keras.schedules.work import BACKWARD, FORWARD, WEIGHTS, needed

KINDS = ("play", "replay", "backward", "weights", "update")


class Event(typing.NamedTuple):
    """A completed piece of work.

    Attributes:
        module: int, the number of the module, from 0.
        kind: str, one of `KINDS`; a forward pass without replay is a play, and
            gradients of weights are a part of the backward pass if they are not
            computed separately. In real training a replay contains its backward
            pass, and `learn` is the work of the last module: play, loss and
            backward pass.
        start: float, seconds.
        stop: float, seconds.
    """

    module: int
    kind: str
    start: float
    stop: float


class _Task(typing.NamedTuple):
    """A piece of work: identity, share of a mini-batch, dependencies.

    It takes a portion of the time that its kind takes for that share.
    """

    kind: str
    module: int
    step: int
    part: int
    share: float
    after: list  # Identities: (kind, module, step, part).
    portion: float = 1.0


# A schedule lists the work of an iteration in the order of priority on a
# device. Below, k is a module from 0, K their number, t the iteration. (An
# iteration t < 0 is over, and is not waited for.)


def _backprop(num_modules, t):
    """One device busy at a time: backward locking.

    module 1   P           B B U
    module 2     P     B B U
    module 3       P B B U
    """
    K = num_modules
    for k in range(K):
        yield _Task("play", k, t, 0, 1, [
            ("play", k - 1, t, 0), ("update", k, t - 1, 0)
        ])
    for k in reversed(range(K)):
        above = "backward" if k < K - 1 else "play"
        yield _Task("backward", k, t, 0, 1, [
            (above, min(k + 1, K - 1), t, 0), ("play", k, t, 0)
        ])
    for k in range(K):
        yield _Task("update", k, t, 0, 1, [("backward", k, t, 0)])


def _features_replay(num_modules, t, replays=True, num_microbatches=1):
    """Every device always busy: modules wait for plays and old gradients.

    module 1   P R B B U P R B B U
    module 2     P R B B U P R B B U
    module 3       P B B U   P B B U

    With micro-batches, modules do the same for one after the other.
    """
    K, M = num_modules, num_microbatches
    for k in range(K):
        before = ("update", k, t - 1, 0)
        for m in range(M):
            yield _Task("play", k, t, m, 1 / M, [("play", k - 1, t, m), before])
            received = [("play", k, t, m)]
            if k < K - 1:
                received.append(("backward", k + 1, t - 1, m))
                if replays:
                    yield _Task("replay", k, t, m, 1 / M, received)
                    received = [("replay", k, t, m)]
            yield _Task("backward", k, t, m, 1 / M, received)
            before = ("backward", k, t, m)
        yield _Task("update", k, t, 0, 1, [before])


def _ddg(num_modules, t):
    """Like Features Replay, but activations are kept, not recomputed."""
    return _features_replay(num_modules, t, replays=False)


def _synchronous(num_modules, t):
    """The paper's program: modules synchronize after play and backward.

    module 1   P     R B B U
    module 2     P   R B B U
    module 3       P   B B U
    """
    K = num_modules
    played = [("play", k, t, 0) for k in range(K)]
    updated = [("update", k, t - 1, 0) for k in range(K)]
    for task in _features_replay(num_modules, t):
        meet = updated if task.kind == "play" else played
        yield task._replace(after=[*task.after, *meet])


def _exact(
    schedule, num_modules, t, num_microbatches=4, recompute=False,
    num_devices=None,
):
    """Micro-batches in a fixed order on each device: `fr_keras.schedules`."""
    M = num_microbatches
    order = schedules.order(schedule, num_modules, M, num_devices)
    kinds = {FORWARD: "play", BACKWARD: "backward", WEIGHTS: "weights"}
    is_split = any(work.kind == WEIGHTS for work in order[0])
    for of_one in order:
        modules = sorted({work.module for work in of_one})
        # (The updates before the first work; then, one after the other.)
        before = [("update", k, t - 1, 0) for k in modules]
        for work in of_one:
            after = before + [
                (kinds[kind], k, t, m)
                for kind, k, m in needed(work, num_modules)
            ]
            if work.kind == BACKWARD and recompute:
                replay = ("replay", work.module, t, work.microbatch)
                yield _Task(*replay, 1 / M, after)
                after = [replay]
            # Both gradients are assumed to take half of a backward pass.
            portion = 1 / (1 + (is_split and work.kind != FORWARD))
            name = (kinds[work.kind], work.module, t, work.microbatch)
            yield _Task(*name, 1 / M, after, portion)
            before = [name]
        for k in modules:
            yield _Task("update", k, t, 0, 1, before)


SCHEDULES = {
    "backprop": _backprop,
    "ddg": _ddg,
    "features_replay": _features_replay,
    "features_replay_microbatches": functools.partial(
        _features_replay, num_microbatches=4
    ),
    "synchronous": _synchronous,
    **{
        name: functools.partial(_exact, name, recompute=name == "gpipe")
        for name in schedules.SCHEDULES
    },
}

# Those in which all modules but the last compute forward passes twice.
REPLAYING = ("features_replay", "features_replay_microbatches", "synchronous")

# Those whose modules work on `num_microbatches`.
MICROBATCHED = ("features_replay_microbatches", *schedules.SCHEDULES)


def simulate(schedule, times, num_steps, steps_per_execution=None, **options):
    """Simulates a training run in which only the scheduled work takes time.

    A device does one thing at a time, and is never idle while work is ready.
    Data are sent while devices work, one after the other in each direction of
    a link.

    Args:
        schedule: str, one of `SCHEDULES`: `"backprop"`, `"features_replay"`
            and `"ddg"` past their warm-up; `"synchronous"`, Features Replay as
            in the program of the paper, where all modules synchronize after
            play and after backward; and those of `fr_keras.schedules`.
        times: list of `ModuleTimes`, from the first module up.
        num_steps: int, iterations.
        steps_per_execution: int, iterations after which all modules
            synchronize; `None` for never.
        **options: `num_microbatches`, for `MICROBATCHED` (4) and
            `"features_replay"` (1); and `recompute`, for those of
            `fr_keras.schedules` (`False`, but for `"gpipe"`).

    Returns:
        List of `Event`s, sorted by start, then by module.

    Raises:
        ValueError: for an unknown schedule.

    Example:

    ```python
    modules = [ModuleTimes(forward=1.0, backward=2.0)] * 4
    events = simulation.simulate("features_replay", modules, num_steps=100)
    events[-1].stop / 100  # About 4: one play, one replay, one backward pass.
    ```
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"`schedule` must be one of {', '.join(SCHEDULES)}. "
            f"Received: {schedule=}"
        )
    per_call = steps_per_execution or num_steps
    if schedule == schedules.INTERLEAVED:
        options["num_devices"] = len({*_devices(times)})
    events, begin = [], 0.0
    for first in range(0, num_steps, per_call):
        tasks = [
            task
            for t in range(first, min(first + per_call, num_steps))
            for task in SCHEDULES[schedule](len(times), t, **options)
        ]
        of_call, begin = _run(tasks, times, begin)
        events += of_call
    return sorted(events, key=lambda event: (event.start, event.module))


def seconds_per_step(
    schedule, times, steps_per_execution=None, filling=4, **options
):
    """Returns the seconds of an iteration in the long run.

    Args:
        schedule: as for `simulate`.
        times: as for `simulate`.
        steps_per_execution: as for `simulate`.
        filling: int, after how many iterations per module devices are taken to
            be as busy as they ever become, if modules do not synchronize. Half
            as many let expect an error of a percent.
        **options: as for `simulate`.

    Returns:
        float.
    """
    # Without synchronization, the first iterations fill the devices. Exact
    # pipelines are filled in each.
    is_exact = schedule in schedules.SCHEDULES
    few = steps_per_execution or (4 if is_exact else filling * len(times))
    fewer, more = (
        simulate(schedule, times, count, steps_per_execution, **options)
        for count in (few, 2 * few)
    )
    last = [max(e.stop for e in events) for events in (fewer, more)]
    return (last[1] - last[0]) / few


def _run(tasks, times, begin):
    """Runs tasks on devices, greedily.

    Returns:
        Tuple of the list of `Event`s, and when the last has ended and all error
        gradients have arrived, also those for later iterations.
    """
    numbers = {task[:4]: i for i, task in enumerate(tasks)}
    missing = []
    followers = collections.defaultdict(list)
    for i, task in enumerate(tasks):
        after = [numbers[name] for name in task.after if name in numbers]
        missing.append(len(after))
        for before in after:
            followers[before].append(i)
    devices = _devices(times)
    ready = {device: [] for device in devices}  # Heaps: first tasks first.
    busy = set()
    links = _Links(times)
    latest = collections.defaultdict(float)
    end = begin
    order = itertools.count()
    # Upcoming events: a task can begin on its device, or has ended there.
    agenda = [
        (begin, next(order), i, False)
        for i, count in enumerate(missing) if not count
    ]
    events = []
    while agenda:
        now = agenda[0][0]
        while agenda and agenda[0][0] == now:
            _, _, i, has_ended = heapq.heappop(agenda)
            device = devices[tasks[i].module]
            if not has_ended:
                heapq.heappush(ready[device], i)
                continue
            busy.discard(device)
            arrivals = {
                to: links.arrival(tasks[i], to, now)
                for to in _receivers(tasks[i], tasks, followers[i])
            }
            end = max(end, now, *arrivals.values())
            for follower in followers[i]:
                missing[follower] -= 1
                arrives = arrivals[tasks[follower].module]
                # The last of several dependencies may come by a shorter way
                # than one before.
                latest[follower] = max(latest[follower], arrives)
                if not missing[follower]:
                    heapq.heappush(
                        agenda,
                        (latest[follower], next(order), follower, False),
                    )
        for device in dict.fromkeys(devices):
            if ready[device] and device not in busy:
                i = heapq.heappop(ready[device])
                task = tasks[i]
                stop = now + _seconds(task, times)
                events.append(Event(task.module, task.kind, now, stop))
                busy.add(device)
                heapq.heappush(agenda, (stop, next(order), i, True))
    return events, end


def _devices(times):
    """The devices of the modules."""
    return [
        ("own", k) if of_module.device is None else of_module.device
        for k, of_module in enumerate(times)
    ]


def _receivers(task, tasks, followers):
    """The modules that need the result of a task, now or later."""
    modules = {tasks[i].module for i in followers}
    if task.kind == "backward" and task.module:
        modules.add(task.module - 1)
    return sorted(modules)


def _seconds(task, times):
    of_module = times[task.module]
    seconds = {
        "play": of_module.forward,
        "replay": of_module.forward,
        "backward": of_module.backward,
        "weights": of_module.backward,
        "update": of_module.update,
    }[task.kind]
    return seconds * task.share * task.portion


class _Links:
    """The links between devices, each sending one thing at a time.

    Args:
        times: list of `ModuleTimes`.
    """

    def __init__(self, times):
        self._times = times
        self._devices = _devices(times)
        self._free = collections.defaultdict(float)

    def arrival(self, task, receiver, now):
        """Returns when the result of a task arrives at a module.

        Args:
            task: `_Task` that has ended.
            receiver: int, the number of the module.
            now: float, seconds.

        Returns:
            float, seconds.
        """
        of_module = self._times[task.module]
        step = receiver - task.module
        if (task.kind, step) == ("play", 1):
            seconds = of_module.send_up
        elif (task.kind, step) == ("backward", -1):
            seconds = of_module.send_down
        else:
            return now
        link = self._devices[task.module], self._devices[receiver]
        if link[0] == link[1]:
            return now
        begin = max(now, self._free[link])
        self._free[link] = begin + (
            (seconds - of_module.latency) * task.share if seconds else 0.0
        )
        return self._free[link] + (of_module.latency if seconds else 0.0)
