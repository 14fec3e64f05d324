"""A compiled forward pass: the same losses, and a fit that survives the compiler."""

import numpy as np
import pytest
import torch
from small_estimators import regression_tasks

from sklearn_meta import ModelBasedMetaRegressor

FEW_STEPS = {"architecture": "cnp", "hidden_size": 4, "n_layers": 1, "max_iter": 4}


@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_compiled_fit_has_the_losses_of_the_plain_one():
    """Only the order of sums differs."""
    tasks, model = regression_tasks(12), ModelBasedMetaRegressor(**FEW_STEPS)
    plain = model.set_params(random_state=0).fit(tasks)
    losses, shown = plain.loss_curve_, plain.learner_
    compiled = model.set_params(compile=True).fit(tasks)
    np.testing.assert_allclose(compiled.loss_curve_, losses, rtol=1e-4)
    # nothing of the compiler is left in what is kept
    assert type(compiled.learner_) is type(shown)


def test_fit_when_the_compiler_fails_goes_on_with_a_warning(monkeypatch):
    """A machine without a C++ compiler must not lose a fit."""

    def broken(learner):
        def forward(*episodes):
            raise torch._dynamo.exc.TorchDynamoException("no compiler\nand much more")

        return forward

    tasks = regression_tasks(12)
    model = ModelBasedMetaRegressor(**FEW_STEPS, random_state=0)
    losses = model.fit(tasks).loss_curve_
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(RuntimeWarning, match="goes on without it: no compiler It needs"):
        model.set_params(compile=True).fit(tasks)
    assert model.loss_curve_ == losses


def test_compile_with_a_latent_variable_says_what_to_do():
    """Its loss is no forward pass."""
    model = ModelBasedMetaRegressor(latent_size=2, compile=True)
    with pytest.raises(ValueError, match="Set one of them to its default"):
        model.fit(regression_tasks(12))
