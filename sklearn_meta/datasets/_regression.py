"""Generated regression tasks: sines and Gaussian processes."""

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions, validate_params

from sklearn_meta.datasets._draws import (
    COMMON_CONSTRAINTS,
    NON_NEGATIVE,
    check_range,
    collect,
    draw_sizes,
)
from sklearn_meta.datasets._kernels import (
    matern_kernel,
    periodic_kernel,
    rbf_kernel,
    sample_gaussian_process,
)

_KERNELS = {"rbf": rbf_kernel, "matern": matern_kernel, "periodic": periodic_kernel}


@validate_params(
    {
        **COMMON_CONSTRAINTS,
        "amplitude": [tuple],
        "phase": [tuple],
        "x_range": [tuple],
        "noise": NON_NEGATIVE,
    },
    prefer_skip_nested_validation=True,
)
def make_sinusoid_tasks(
    n_tasks=100,
    n_samples=20,
    *,
    amplitude=(0.1, 5.0),
    phase=(0.0, np.pi),
    x_range=(-5.0, 5.0),
    noise=0.0,
    return_X_y_tasks=False,
    random_state=None,
):
    r"""Make regression tasks that are sines of different amplitude and phase.

    Each task is :math:`y = A \sin(x - \varphi) + \varepsilon`, the benchmark on which
    gradient-based meta-learning was introduced.

    Parameters
    ----------
    n_tasks : int, default=100
        Number of tasks.
    n_samples : int or tuple (low, high), default=20
        Rows per task; a pair draws each task's number of rows from
        {low, ..., high}.
    amplitude : tuple (low, high), default=(0.1, 5.0)
        Range of the uniform amplitude :math:`A`.
    phase : tuple (low, high), default=(0, pi)
        Range of the uniform phase :math:`\varphi`, in radians.
    x_range : tuple (low, high), default=(-5.0, 5.0)
        Range of the uniform input.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise :math:`\varepsilon`.
    return_X_y_tasks : bool, default=False
        If True, return flat arrays ``(X, y, tasks)`` instead of a collection.
    random_state : int, RandomState instance or None, default=None
        Seed or generator of all draws.

    Returns
    -------
    TaskCollection of n_tasks tasks
        X has shape (n_samples, 1), y has shape (n_samples,). With
        ``return_X_y_tasks=True``: X, y and the task id of each row.

    Raises
    ------
    ValueError
        If a range is not in order or ``n_samples`` is not positive.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation
    of Deep Networks", ICML 2017, section 5.1.

    Examples
    --------
    >>> from sklearn_meta.datasets import make_sinusoid_tasks
    >>> tasks = make_sinusoid_tasks(n_tasks=3, n_samples=10, random_state=0)
    >>> len(tasks), tasks[0].X.shape
    (3, (10, 1))
    """
    rng = check_random_state(random_state)
    sizes = draw_sizes(n_samples, n_tasks, rng)
    shape = (n_tasks, sizes.max())
    A = rng.uniform(*check_range("amplitude", amplitude), size=(n_tasks, 1))
    shift = rng.uniform(*check_range("phase", phase), size=(n_tasks, 1))
    x = rng.uniform(*check_range("x_range", x_range), size=shape)
    y = A * np.sin(x - shift) + noise * rng.standard_normal(shape)
    return collect(x[:, :, None], y, sizes, return_X_y_tasks)


@validate_params(
    {
        **COMMON_CONSTRAINTS,
        "kernel": [StrOptions({"rbf", "matern", "periodic"})],
        "length_scale": [tuple],
        "output_scale": [tuple],
        "period": [tuple],
        "x_range": [tuple],
        "noise": NON_NEGATIVE,
    },
    prefer_skip_nested_validation=True,
)
def make_gp_tasks(
    n_tasks=100,
    n_samples=50,
    *,
    kernel="rbf",
    length_scale=(0.1, 0.6),
    output_scale=(0.1, 1.0),
    period=(0.1, 0.5),
    noise=0.02,
    x_range=(-2.0, 2.0),
    return_X_y_tasks=False,
    random_state=None,
):
    r"""Make regression tasks drawn from a Gaussian process.

    The hyper-parameters are drawn anew for each task, so the best any learner can do
    on a task is the exact posterior of that task's own process.

    Parameters
    ----------
    n_tasks : int, default=100
        Number of tasks.
    n_samples : int or tuple (low, high), default=50
        Rows per task; a pair draws each task's number of rows from
        {low, ..., high}.
    kernel : {"rbf", "matern", "periodic"}, default="rbf"
        Covariance of the process. With :math:`r = |x - x'| / \ell`:
        "rbf" is :math:`s^2 \exp(-r^2 / 2)`,
        "matern" is :math:`s^2 (1 + \sqrt5 r + 5 r^2 / 3) \exp(-\sqrt5 r)`, and
        "periodic" is :math:`s^2 \exp(-2 \sin^2(\pi |x - x'| / p) / \ell^2)`.
    length_scale : tuple (low, high), default=(0.1, 0.6)
        Range of the uniform length scale :math:`\ell`, positive.
    output_scale : tuple (low, high), default=(0.1, 1.0)
        Range of the uniform standard deviation :math:`s` of the process, positive.
    period : tuple (low, high), default=(0.1, 0.5)
        Range of the uniform period :math:`p`, positive. Used by "periodic" only.
    noise : float, default=0.02
        Standard deviation of the Gaussian noise added to y.
    x_range : tuple (low, high), default=(-2.0, 2.0)
        Range of the uniform input.
    return_X_y_tasks : bool, default=False
        If True, return flat arrays ``(X, y, tasks)`` instead of a collection.
    random_state : int, RandomState instance or None, default=None
        Seed or generator of all draws.

    Returns
    -------
    TaskCollection of n_tasks tasks
        X has shape (n_samples, 1), y has shape (n_samples,). With
        ``return_X_y_tasks=True``: X, y and the task id of each row.

    Raises
    ------
    ValueError
        If a range is not in order or not positive where it must be.

    References
    ----------
    J. Lee, Y. Lee, J. Kim, E. Yang, S. J. Hwang, Y. W. Teh, "Bootstrapping Neural
    Processes", NeurIPS 2020, section 5.1.

    Examples
    --------
    >>> from sklearn_meta.datasets import make_gp_tasks
    >>> X, y, tasks = make_gp_tasks(
    ...     n_tasks=4, n_samples=10, return_X_y_tasks=True, random_state=0
    ... )
    >>> X.shape, y.shape, tasks.shape
    ((40, 1), (40,), (40,))
    """
    rng = check_random_state(random_state)
    sizes = draw_sizes(n_samples, n_tasks, rng)
    shape = (n_tasks, sizes.max())
    # (n_tasks, 1, 1): one value per task, against (n_tasks, n, n) distances.
    ranges = {"length_scale": length_scale, "output_scale": output_scale}
    if kernel == "periodic":
        ranges["period"] = period
    parameters = {
        name: rng.uniform(*check_range(name, bounds, positive=True), (n_tasks, 1, 1))
        for name, bounds in ranges.items()
    }
    x = rng.uniform(*check_range("x_range", x_range), size=shape)
    white = rng.standard_normal(shape)
    y = sample_gaussian_process(_KERNELS[kernel], x, white, parameters)
    y += noise * rng.standard_normal(shape)
    return collect(x[:, :, None], y, sizes, return_X_y_tasks)
