"""Scores of models that adapt: each task on its own support and query rows."""

from sklearn_meta.metrics._comparison import paired_comparison
from sklearn_meta.metrics._few_shot import few_shot_score, few_shot_scorer

__all__ = ["few_shot_score", "few_shot_scorer", "paired_comparison"]
