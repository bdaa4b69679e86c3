"""Numbers that are not finite."""

from tests.faults.base import fault


@fault
def nan_in_data(base, folder):
    """A NaN in the third mini-batch of each epoch."""
    return base.injected(folder, "nan_in_data")


@fault
def nan_in_gradient(base, folder):
    """A NaN in the gradient of module 2."""
    return base.injected(folder, "nan_in_gradient")


@fault
def nan_skipped(base, folder):
    """The same with --on_nan=skip."""
    return base.injected(folder, "nan_in_gradient", "--on_nan=skip")
