"""Figures of a study, one module a figure; each is written as SVG, PNG and the CSV behind it."""

from peft_ablation.figures.claims import plot_claims
from peft_ablation.figures.cost import plot_cost
from peft_ablation.figures.loss_curves import plot_loss_curves
from peft_ablation.figures.quality import plot_quality
from peft_ablation.figures.quality_cost import plot_quality_cost
from peft_ablation.figures.split_balance import plot_split_balance
from peft_ablation.figures.suite import plot_suite
from peft_ablation.figures.sweep import plot_sweep

__all__ = [
    "plot_claims",
    "plot_cost",
    "plot_loss_curves",
    "plot_quality",
    "plot_quality_cost",
    "plot_split_balance",
    "plot_suite",
    "plot_sweep",
]
