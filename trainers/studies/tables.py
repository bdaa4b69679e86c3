"""Tables of a study."""

import statistics

import numpy as np
from scipy import stats

from trainers.studies.methods import METHODS, is_exact
from trainers.studies.tasks import TASKS


def text(found):
    """Returns all tables, as Markdown.

    Args:
        found: list of dicts, as returned by `cases.Case.results`.

    Returns:
        str, a table for each task and optimizer.
    """
    groups = {}
    for results in found:
        key = results["task"], results["optimizer"]
        groups.setdefault(key, []).append(results)
    return "\n".join(
        line for (task, optimizer), cases in groups.items()
        for line in _table(task, optimizer, cases)
    )


def _table(task, optimizer, cases):
    yield f"**{TASKS[task].title}, {optimizer}**"
    yield ""
    yield (
        "| K | method | learning rate | test loss | accuracy, % "
        "| behind, in σ | p |"
    )
    yield "|---|---|---|---|---|---|---|"
    by_method = {c["method"]: c for c in cases if is_exact(c["method"])}
    for case in sorted(cases, key=_order):
        yield "| " + " | ".join([
            "–" if is_exact(case["method"]) else str(case["num_modules"]),
            METHODS[case["method"]].title,
            f"{case['learning_rate']:.2g}",
            _mean_and_std(case["test_loss"], 1, 3),
            _mean_and_std(case["test_accuracy"], 100, 1),
            *_against(by_method.get(_baseline(case["method"])), case),
        ]) + " |"
    yield ""


def _baseline(method):
    """The baseline of a method; that of all exact ones is the plain one."""
    return "backprop" if is_exact(method) else METHODS[method].exact


def _order(case):
    return case["num_modules"], [*METHODS].index(case["method"])


def _mean_and_std(values, factor, digits):
    good = [factor * value for value in values if value is not None]
    if len(good) < 2:
        return f"{len(values) - len(good)} diverged"
    text = (
        f"{statistics.mean(good):.{digits}f} ± "
        f"{statistics.stdev(good):.{digits}f}"
    )
    diverged = len(values) - len(good)
    return f"{text} ({diverged} diverged)" if diverged else text


def behind(exact, case):
    """How far a method is behind back-propagation, in standard deviations.

    Args:
        exact: results of back-propagation.
        case: results of a method, with the same seeds.

    Returns:
        float, the difference of the mean test losses, positive if the method's
        is higher, divided by back-propagation's standard deviation over seeds;
        `None` if a training diverged.
    """
    if None in [*exact["test_loss"], *case["test_loss"]]:
        return None
    difference = np.mean(case["test_loss"]) - np.mean(exact["test_loss"])
    return float(difference / statistics.stdev(exact["test_loss"]))


def _against(exact, case):
    """Cells that compare a case with back-propagation, seed by seed."""
    if exact is None or case is exact or behind(exact, case) is None:
        return ["", ""]
    test = stats.ttest_rel(case["test_loss"], exact["test_loss"])
    p = "< 0.001" if test.pvalue < 0.001 else f"{test.pvalue:.3f}"
    return [f"{behind(exact, case):+.1f}", p]
