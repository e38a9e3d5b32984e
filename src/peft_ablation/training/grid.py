"""Where a rate stands in the grid that was tried; tables need it without what training needs."""

from collections.abc import Sequence


def edge_of(rate: float, rates: Sequence[float]) -> str:
    """Say where `rate` stands among those tried: `no` (inside), `smallest`, `largest` or `only`.

    At an edge a better rate may lie beyond.
    """
    if len(rates) == 1:
        return "only"
    return {min(rates): "smallest", max(rates): "largest"}.get(rate, "no")
