"""Checks for the values of flags."""

import re


def are_numbers(values, lowest):
    """Whether strings are distinct decimal numbers of at least `lowest`."""
    return (
        bool(values)
        and len({*values}) == len(values)
        and all(re.fullmatch("0|[1-9][0-9]{0,8}", v) for v in values)
        and all(int(value) >= lowest for value in values)
    )


def is_positive(number):
    """Whether a number, or a string, is a finite number above 0."""
    try:
        # Comparisons with nan are false.
        return 0 < float(number) < float("inf")
    except ValueError:
        return False
