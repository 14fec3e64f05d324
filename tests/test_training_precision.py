"""A fit under torch.autocast: who follows it, and who says that it does not."""

import numpy as np
import pytest
import torch
from small_estimators import regression_tasks

from sklearn_meta import DeepKernelRegressor, MAMLRegressor, ModelBasedMetaRegressor
from sklearn_meta.exceptions import DeviceWarning

FEW_STEPS = {"max_iter": 30, "random_state": 0}


def loss_curves(estimator):
    """Return the losses of a fit, and of one under autocast."""
    tasks = regression_tasks(12)
    usual = estimator.fit(tasks).loss_curve_
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return np.array(usual), np.array(estimator.fit(tasks).loss_curve_)


def test_fit_under_autocast_when_all_is_layers_learns_in_bfloat16():
    """Losses differ by rounding: a stale copy of the weights would not learn at all."""
    usual, mixed = loss_curves(ModelBasedMetaRegressor(**FEW_STEPS))
    assert not np.array_equal(usual, mixed)
    np.testing.assert_allclose(mixed, usual, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "estimator",
    [
        DeepKernelRegressor(**FEW_STEPS),
        DeepKernelRegressor(hidden_layer_sizes=(), **FEW_STEPS),
        MAMLRegressor(variant="imaml", **FEW_STEPS),
    ],
    ids=["kernel", "shallow kernel", "imaml"],
)
def test_fit_under_autocast_when_precision_matters_is_the_usual_one(estimator):
    """Inner steps and factors in bfloat16 would lose what they learn."""
    with pytest.warns(DeviceWarning, match="learns in full precision"):
        usual, mixed = loss_curves(estimator)
    np.testing.assert_array_equal(mixed, usual)


def test_adapt_and_predict_under_autocast_are_in_float64():
    """What is served does not depend on the context it is asked in."""
    X, y = regression_tasks(1, seed=1)[0]
    model = ModelBasedMetaRegressor(**FEW_STEPS).fit(regression_tasks(12))
    expected = model.adapt(X, y).predict(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(model.adapt(X, y).predict(X), expected)
