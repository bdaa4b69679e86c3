"""The largest stable step for a late gradient, for one curvature."""

import numpy as np


def largest_step(delay, momentum, ahead=0.0):
    """The largest stable γλ / (1 - μ) on a quadratic.

    With curvature λ, w converges to 0 by

        w_{t+1} = (1 + μ) w_t - μ w_{t-1} - γλ ŵ_{t-s},
        ŵ_t = w_t + f (w_t - w_{t-1}),

    as long as all roots of the characteristic polynomial lie within the unit
    circle.

    Args:
        delay: int, s, delay of the gradient in updates.
        momentum: float, μ.
        ahead: float, f, how far ahead of w the gradient is computed.

    Returns:
        float.
    """
    low, high = 0.0, 4.0 / (1 - momentum) ** 2
    while high - low > 1e-5 * high:
        middle = (low + high) / 2
        if _is_stable(middle * (1 - momentum), delay, momentum, ahead):
            low = middle
        else:
            high = middle
    return low


def _is_stable(step, delay, momentum, ahead):
    # Coefficients of z^(s+2) … z^0.
    polynomial = np.zeros(delay + 3)
    polynomial[:3] = 1, -(1 + momentum), momentum
    polynomial[-2:] += step * (1 + ahead), -step * ahead
    return np.all(np.abs(np.roots(polynomial)) < 1)
