"""Pictures of models that learn across tasks, as scikit-learn's displays."""

from sklearn_meta.inspection._adaptation import AdaptationDisplay
from sklearn_meta.inspection._shot_curve import ShotCurveDisplay
from sklearn_meta.inspection._task_scores import TaskScoreDisplay

__all__ = ["AdaptationDisplay", "ShotCurveDisplay", "TaskScoreDisplay"]
