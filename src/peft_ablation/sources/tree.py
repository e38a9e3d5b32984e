"""MIMIC-CXR-JPG, from a tree on disk and nowhere else."""

from typing import Any

from peft_ablation.sources.mimic import Mimic


class Tree(Mimic):
    """The tree at the site's `data_root`."""

    @property
    def cloud(self) -> dict[str, Any] | None:
        """None: nothing is read from a cloud."""
        return None


SOURCE = Tree
