"""What `compile` and `fit` can do, a `Case` for each feature.

To add a feature, add a row to `ROWS` of one of these modules. The network has
two inputs and two outputs; which structures they come in is up to the row.
"""

from tests.differential.fit_cases import callbacks, calls, feeding, losses

CASES = {
    **losses.ROWS,
    **feeding.ROWS,
    **callbacks.ROWS,
    **calls.ROWS,
}
