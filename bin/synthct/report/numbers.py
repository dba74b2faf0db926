"""How numbers and metrics are written in the page."""

import math


def number(value, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none.

    >>> number(3.14159, 2), number(math.nan, 2)
    ('3.14', '–')
    """
    return "–" if value is None or math.isnan(value) else "∞" if math.isinf(value) else f"{value:.{decimals}f}"


def titled(metric) -> str:
    """A metric's name with its unit."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label
