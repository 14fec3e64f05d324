"""Ridge regression of many tasks, against scikit-learn and the definition."""

import pytest
import torch
from sklearn.linear_model import Ridge

from sklearn_meta.functional import fit_ridge, ridge_leverage

N_TASKS, N_SUPPORT = 3, 6


@pytest.fixture(params=[2, 6, 11], ids=["tall", "square", "wide"])
def problem(request):
    """Rows, targets and penalties; one task has padding."""
    generator = torch.Generator().manual_seed(0)
    shape = (N_TASKS, N_SUPPORT, request.param)
    rows = torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = torch.randn(
        N_TASKS, N_SUPPORT, 2, generator=generator, dtype=torch.float64
    )
    rows[0, 4:], targets[0, 4:] = 0, 0
    return rows, targets, torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)


def test_weights_of_either_form_are_those_of_sklearn(problem):
    # rows fewer than features (Woodbury), or not
    rows, targets, penalty = problem
    fit = fit_ridge(*problem)
    for task in range(N_TASKS):
        model = Ridge(alpha=penalty[task].item(), fit_intercept=False)
        model.fit(rows[task].numpy(), targets[task].numpy())
        expected = torch.tensor(model.coef_.T)
        torch.testing.assert_close(fit.weights[task], expected, rtol=1e-9, atol=1e-10)
    assert (fit.rows is None) == (rows.shape[2] <= N_SUPPORT)


def test_leverage_of_either_form_is_the_definition(problem):
    # z' (Z'Z + penalty I)^-1 z, written out
    rows, _, penalty = problem
    query = torch.linspace(-2, 2, N_TASKS * 4 * rows.shape[2], dtype=torch.float64)
    query = query.reshape(N_TASKS, 4, -1)
    eye = torch.eye(rows.shape[2], dtype=torch.float64)
    inverse = torch.linalg.inv(rows.mT @ rows + penalty[:, None, None] * eye)
    expected = torch.einsum("tqi,tij,tqj->tq", query, inverse, query)
    torch.testing.assert_close(ridge_leverage(fit_ridge(*problem), query), expected)


def test_gradient_through_either_form_is_right(problem):
    # the outer loop learns features and penalty through the solution
    rows, targets, penalty = (part.clone().requires_grad_() for part in problem)

    def outputs(rows, targets, penalty):
        fit = fit_ridge(rows, targets, penalty)
        return fit.weights, ridge_leverage(fit, rows[:, :2].sin())

    assert torch.autograd.gradcheck(outputs, (rows, targets, penalty), fast_mode=True)


def test_fit_when_features_are_huge_is_finite(problem):
    # a penalty that is lost in rounding must not give NaN
    rows, targets, penalty = problem
    fit = fit_ridge(1e8 * rows, targets, 1e-3 * penalty)
    leverage = ridge_leverage(fit, 1e8 * rows)
    assert fit.weights.isfinite().all() and leverage.isfinite().all()


def test_fit_without_rows_knows_nothing(problem):
    # before any support, weights are zero and the prior is all there is
    rows, targets, penalty = problem
    fit = fit_ridge(rows[:, :0], targets[:, :0], penalty)
    assert fit.weights.abs().max() == 0
    expected = rows.square().sum(-1) / penalty[:, None]
    torch.testing.assert_close(ridge_leverage(fit, rows), expected)
