"""A source of nobody's: points on a noisy line."""

from typing import Any

import numpy as np
import polars as pl

from peft_ablation.sources import Source


class Line(Source):
    """y = 3 x + 1 and a little noise; two points share a group."""

    def read(self) -> tuple[pl.DataFrame, dict[str, Any]]:
        rng = np.random.default_rng(0)
        x = rng.uniform(-1, 1, 120)
        table = pl.DataFrame(
            {
                "example_id": [f"p{i:03d}" for i in range(120)],
                "group": [f"g{i // 2:02d}" for i in range(120)],
                "x": x,
                "y": 3 * x + 1 + rng.normal(0, 0.05, 120),
            }
        )
        return table, {"rows_in": 120, "rows_out": 120, "dropped": {}}


SOURCE = Line
