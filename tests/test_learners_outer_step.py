"""The loss of an outer step by formulas equals that of autograd."""

import pytest
import torch

from sklearn_meta.functional import (
    build_mlp,
    categorical_nll,
    gaussian_nll,
    masked_task_mean,
    squared_error_with_noise,
)
from sklearn_meta.functional.formulas import FORMULAS
from sklearn_meta.learners import GradientLearner, outer_step

N_FEATURES = 3
CRITERIA = {"gaussian": squared_error_with_noise, "categorical": categorical_nll}


def _rows(sizes, n_out, generator):
    """Ragged rows; padding holds what must not matter."""
    mask = torch.arange(max(sizes)) < torch.tensor(sizes).unsqueeze(1)
    X = torch.randn(*mask.shape, N_FEATURES, generator=generator).double()
    Y = torch.randn(*mask.shape, n_out, generator=generator).double()
    Y = Y.softmax(-1) if n_out > 1 else Y
    nan = torch.tensor(float("nan"))
    return tuple(torch.where(mask.unsqueeze(-1), part, nan) for part in (X, Y)), mask


def _episodes(likelihood, sizes, query_sizes):
    """Support and query of some tasks."""
    generator = torch.Generator().manual_seed(0)
    n_out = 1 if likelihood == "gaussian" else 3
    (X, Y), mask = _rows(sizes, n_out, generator)
    (X_query, Y_query), query_mask = _rows(query_sizes, n_out, generator)
    Y_query = Y_query.nan_to_num(0.0)  # of a criterion, as the sampler gives it
    return X, Y, mask, X_query, Y_query, query_mask


def _learner(likelihood, **options):
    torch.manual_seed(0)
    n_out = 1 if likelihood == "gaussian" else 3
    network = build_mlp(N_FEATURES, (5, 4), n_out, "tanh")
    options = {"inner_steps": 2, "inner_lr": 0.2, "likelihood": likelihood} | options
    return GradientLearner(network, **options).double()


def _on(engine, learner):
    """The learner on an engine; without a compiler there is one less."""
    if engine == "compiled" and learner.engine != engine:
        pytest.skip("the package was built without a compiler")
    learner.engine = engine
    return learner


def _loss_and_gradient(loss, learner):
    gradients = torch.autograd.grad(3 * loss, list(learner.parameters()))
    return [loss, *gradients]


def _by_autograd(learner, episodes, criterion):
    *support, X_query, Y_query, query_mask = episodes
    prediction = learner(*support, X_query.nan_to_num(0.0))
    loss = masked_task_mean(criterion(prediction, Y_query), query_mask)
    return _loss_and_gradient(loss, learner)


@pytest.mark.parametrize(
    "options", [{}, {"second_order": False}, {"learn_inner_lr": True}], ids=str
)
@pytest.mark.parametrize("engine", FORMULAS)
@pytest.mark.parametrize("likelihood", CRITERIA)
@pytest.mark.parametrize("sizes", [[4] * 3, [5, 1, 3, 2, 5, 4, 1, 6, 2, 2, 3, 4, 1]])
def test_training_loss_equals_autograd(likelihood, engine, options, sizes, monkeypatch):
    # In whole and in parts, sorted by size, whatever padding holds.
    monkeypatch.setattr(outer_step, "PART_BYTES", 8000)
    learner = _on(engine, _learner(likelihood, **options))
    episodes = _episodes(likelihood, sizes, [*sizes[1:], 3])
    criterion = CRITERIA[likelihood]
    ours = learner.training_loss(*episodes, criterion=criterion)
    theirs = _by_autograd(learner, episodes, criterion)
    for our, their in zip(_loss_and_gradient(ours, learner), theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("engine", FORMULAS)
@pytest.mark.parametrize("learn_inner_lr", [True, False])
@pytest.mark.parametrize("second_order", [True, False])
def test_training_loss_of_prototypes_equals_autograd(
    engine, second_order, learn_inner_lr
):
    # Through the head of each task to the network and the scale of the logits.
    options = {"second_order": second_order, "learn_inner_lr": learn_inner_lr}
    learner = _on(engine, _learner("categorical", head="prototypes", **options))
    X, _, mask, X_query, _, query_mask = _episodes("categorical", [5, 3, 4], [4, 6, 5])
    of_rows = torch.eye(3).double()[torch.arange(6) % 2]  # the third class is absent
    Y, Y_query = (of_rows[: rows.shape[1]].expand(3, -1, -1) for rows in (X, X_query))
    episodes = X, Y, mask, X_query.nan_to_num(0.0), Y_query, query_mask
    ours = learner.training_loss(*episodes, criterion=categorical_nll)
    theirs = _by_autograd(learner, episodes, categorical_nll)
    for our, their in zip(_loss_and_gradient(ours, learner), theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_bytes", [1, 8000, 10**9])
def test_parts_hold_each_task_once_within_the_bound(n_bytes, monkeypatch):
    # A bound on memory is no bound on what is learned from.
    monkeypatch.setattr(outer_step, "PART_BYTES", n_bytes)
    mask = torch.arange(9) < torch.arange(1, 10).repeat(3).unsqueeze(1)
    episodes = _episodes("gaussian", [4] * 3, [4] * 3)
    support = outer_step.Rows(*episodes[:3])
    learner = _learner("gaussian")
    loop = learner._outer_loop_by_formulas(squared_error_with_noise, support)
    order, parts = outer_step._plan_parts(loop, mask, mask, False)
    seen = torch.cat([order[part.tasks] for part in parts])
    assert sorted(seen.tolist()) == list(range(27))
    assert all(mask[order[p.tasks]].sum(1).max() <= p.n_support for p in parts)
    assert len(parts) == 27 if n_bytes == 1 else len(parts) >= 3


@pytest.mark.parametrize("options", [{"head": "prototypes"}, {"adapted": "head"}])
def test_training_loss_when_a_part_has_no_formula_is_the_criterion_s(options):
    # Shared encoders and prototypes are differentiated by autograd.
    learner = _learner("categorical", **options)
    episodes = _episodes("categorical", [4] * 3, [4] * 3)
    ours = learner.training_loss(*episodes, criterion=categorical_nll)
    theirs = _by_autograd(learner, episodes, categorical_nll)
    torch.testing.assert_close(ours, theirs[0])


def test_training_loss_when_the_criterion_is_another_uses_it():
    # Formulas know one criterion of each likelihood.
    learner = _learner("gaussian")
    episodes = _episodes("gaussian", [4] * 3, [4] * 3)
    ours = learner.training_loss(*episodes, criterion=gaussian_nll)
    torch.testing.assert_close(ours, _by_autograd(learner, episodes, gaussian_nll)[0])


def test_backward_writes_the_gradients_of_autograd():
    # A known gradient needs no walk through a graph.
    learner = _learner("gaussian")
    episodes = _episodes("gaussian", [4] * 3, [4] * 3)
    loss = learner.training_loss(*episodes, criterion=squared_error_with_noise)
    outer_step.backward(loss)
    ours = [p.grad for p in learner.parameters()]
    theirs = _by_autograd(learner, episodes, squared_error_with_noise)[1:]
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(3 * our, their)
        assert our.is_contiguous()
