"""Figures of a study, one module a figure; each is written as SVG, PNG and the CSV behind it."""

from peft_ablation.figures.by_group import plot_by_group
from peft_ablation.figures.claims import plot_claims
from peft_ablation.figures.cost import plot_cost
from peft_ablation.figures.critical_difference import plot_critical_difference
from peft_ablation.figures.forgetting import plot_forgetting
from peft_ablation.figures.likelihoods import plot_likelihoods
from peft_ablation.figures.loss_curves import plot_loss_curves
from peft_ablation.figures.memory import plot_memory
from peft_ablation.figures.pareto import plot_pareto_fronts
from peft_ablation.figures.quality import plot_quality
from peft_ablation.figures.quality_cost import plot_quality_cost
from peft_ablation.figures.split_balance import plot_split_balance
from peft_ablation.figures.suite import plot_suite
from peft_ablation.figures.sweep import plot_sweep
from peft_ablation.figures.tuning import plot_tuning
from peft_ablation.figures.views import plot_views

__all__ = [
    "plot_by_group",
    "plot_claims",
    "plot_cost",
    "plot_critical_difference",
    "plot_forgetting",
    "plot_likelihoods",
    "plot_loss_curves",
    "plot_memory",
    "plot_pareto_fronts",
    "plot_quality",
    "plot_quality_cost",
    "plot_split_balance",
    "plot_suite",
    "plot_sweep",
    "plot_tuning",
    "plot_views",
]
