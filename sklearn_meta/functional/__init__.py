"""Pure functions on tensors, tasks first: the mathematics of the learners.

Nothing here keeps state, draws randomness or knows scikit-learn; device and dtype
follow the inputs.
"""

from sklearn_meta.functional.attention import attend, masked_mean_pool
from sklearn_meta.functional.backtracking import descend_with_backtracking
from sklearn_meta.functional.derivatives import (
    InnerLoss,
    cross_entropy_loss,
    squared_error_loss,
)
from sklearn_meta.functional.descent import adapt_without_graph
from sklearn_meta.functional.factors import stable_cholesky
from sklearn_meta.functional.gaussian_process import (
    condition_on_support,
    inverse_factor,
    log_marginal_likelihood,
)
from sklearn_meta.functional.implicit import conjugate_gradients, solve_implicitly
from sklearn_meta.functional.inner_loop import descend, inner_loop, stack_parameters
from sklearn_meta.functional.laplace import (
    LaplacePosterior,
    laplace_logits,
    laplace_posterior,
)
from sklearn_meta.functional.likelihoods import (
    STD_FLOOR,
    Gaussian,
    bounded_std,
    categorical_nll,
    gaussian_nll,
    mask_absent,
    masked_task_mean,
    mean_per_task,
    squared_error,
    squared_error_with_noise,
    unbounded_std,
)
from sklearn_meta.functional.logistic import softmax_coefficients, squared_exponential
from sklearn_meta.functional.mixtures import (
    gaussian_moments,
    mean_probabilities,
    mixture_nll,
)
from sklearn_meta.functional.networks import (
    ACTIVATIONS,
    apply_rows,
    build_mlp,
    check_row_independent,
    output_size,
    stackable_layers,
    stacked_forward,
    vmap_forward,
    zero_padding,
)
from sklearn_meta.functional.offsets import add_offset, last_columns
from sklearn_meta.functional.outer_gradient import outer_gradient
from sklearn_meta.functional.perceptron import perceptron_chain, run_perceptron
from sklearn_meta.functional.process_kernel import (
    KernelRows,
    kernel_diagonal,
    kernel_matrix,
)
from sklearn_meta.functional.prototypes import (
    class_counts,
    class_means,
    cosine_similarity,
    covariance_factors,
    mahalanobis,
    squared_euclidean,
)
from sklearn_meta.functional.recursion import adapt_by_recursion
from sklearn_meta.functional.ridge import RidgeFit, fit_ridge, ridge_leverage

__all__ = [
    "ACTIVATIONS",
    "STD_FLOOR",
    "Gaussian",
    "InnerLoss",
    "KernelRows",
    "LaplacePosterior",
    "RidgeFit",
    "adapt_by_recursion",
    "adapt_without_graph",
    "add_offset",
    "apply_rows",
    "attend",
    "bounded_std",
    "build_mlp",
    "categorical_nll",
    "check_row_independent",
    "class_counts",
    "class_means",
    "condition_on_support",
    "conjugate_gradients",
    "cosine_similarity",
    "covariance_factors",
    "cross_entropy_loss",
    "descend",
    "descend_with_backtracking",
    "fit_ridge",
    "gaussian_moments",
    "gaussian_nll",
    "inner_loop",
    "inverse_factor",
    "kernel_diagonal",
    "kernel_matrix",
    "laplace_logits",
    "laplace_posterior",
    "last_columns",
    "log_marginal_likelihood",
    "mahalanobis",
    "mask_absent",
    "masked_mean_pool",
    "masked_task_mean",
    "mean_per_task",
    "mean_probabilities",
    "mixture_nll",
    "outer_gradient",
    "output_size",
    "perceptron_chain",
    "ridge_leverage",
    "run_perceptron",
    "softmax_coefficients",
    "solve_implicitly",
    "squared_error",
    "squared_error_loss",
    "squared_error_with_noise",
    "squared_euclidean",
    "squared_exponential",
    "stable_cholesky",
    "stack_parameters",
    "stackable_layers",
    "stacked_forward",
    "unbounded_std",
    "vmap_forward",
    "zero_padding",
]
