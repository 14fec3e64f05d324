"""A word of warning where tasks are too few to learn how they differ."""

from sklearn_meta.exceptions import FewTasksWarning, warn_user
from sklearn_meta.tasks import TaskRows

# with fewer, intervals of new tasks may hold hardly any of their rows, and classes may
# be predicted worse than by tossing a coin
MIN_TASKS_TO_TRUST = 5


def are_few_tasks(rows: TaskRows) -> bool:
    """Return whether tasks are too few; one table is no collection of them.

    A table is learned from and predicted at once.
    """
    return rows.names is not None and len(rows.sizes) < MIN_TASKS_TO_TRUST


def warn_of_few_tasks(rows: TaskRows, expect: str) -> None:
    """Warn that errors on new tasks will be larger than they are said to be.

    ``expect`` says what to expect on new tasks, beside poor predictions.
    """
    if not are_few_tasks(rows):
        return
    n_tasks = len(rows.sizes)
    said = "so few tasks say little" if n_tasks > 1 else "a single task says nothing"
    warn_user(
        f"Expected at least {MIN_TASKS_TO_TRUST} tasks, got {n_tasks}: {said} of "
        f"how tasks differ. On new tasks expect {expect}, and "
        "perhaps predictions worse than of a model of the support alone. Bring "
        "more tasks.",
        FewTasksWarning,
    )
