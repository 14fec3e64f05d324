"""The parameters that all meta-estimators share, and those of their parts."""

import os
from numbers import Integral, Real
from typing import Any, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
)
from torch import nn

from sklearn_meta.training import CUDA_GRAPHS, Checkpoint

COMMON_CONSTRAINTS: dict = {
    "hidden_layer_sizes": [tuple, list],
    "activation": [StrOptions({"relu", "tanh", "gelu", "silu"})],
    "module": [callable, nn.Module, None],
    "module_params": [dict, None],
    "n_shots": [Interval(Integral, 1, None, closed="left"), tuple, list],
    "order": [StrOptions({"random", "first"})],
    "n_queries": [Interval(Integral, 1, None, closed="left")],
    "meta_batch_size": [Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions({"one_cycle", "constant"})],
    "optimizer": [callable, None],
    "optimizer_params": [dict, None],
    "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "early_stopping": ["boolean", StrOptions({"auto"})],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "standardize": ["boolean"],
    "pooled_estimator": [HasMethods(["fit", "predict"]), StrOptions({"auto"}), None],
    "callbacks": [list, None],
    "checkpoint": [str, os.PathLike, Checkpoint, None],
    "warm_start": ["boolean"],
    "compile": [Options(bool, {False}), StrOptions({CUDA_GRAPHS})],
    "device": [str, torch.device],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def check_callbacks(callbacks: list | None) -> None:
    """Raise unless all are callbacks as skorch has them, or pairs of a name and one."""
    for given in callbacks or []:
        callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if not hasattr(callback, "initialize"):
            raise TypeError(
                f"Expected callbacks of skorch, got {type(callback).__name__}. Write a "
                "subclass of skorch.callbacks.Callback with on_epoch_end(self, net, "
                "**kwargs), or another of its methods."
            )


class NestedParametersMixin(BaseEstimator):
    """``module__x`` and ``optimizer__x`` as entries of two dicts, as skorch names them.

    scikit-learn wants every parameter in the signature; what a user's module takes is
    not known there.
    """

    def get_params(self, deep: bool = True) -> dict:
        """Get parameters, those of ``module`` and ``optimizer`` under their prefix.

        Parameters
        ----------
        deep : bool, default=True
            Whether ``module__x`` and ``optimizer__x`` are included.

        Returns
        -------
        params : dict
            Parameter names and values.
        """
        params = super().get_params(deep=deep)
        for prefix in ("module", "optimizer") if deep else ():
            nested = params.get(f"{prefix}_params")
            if isinstance(nested, dict):
                params |= {f"{prefix}__{name}": v for name, v in nested.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``module__x`` sets an entry of ``module_params``.

        Parameters
        ----------
        **params : dict
            Parameter names and values.

        Returns
        -------
        self : object
            The estimator.
        """
        for prefix in ("module", "optimizer"):
            start = f"{prefix}__"
            nested = {k: params.pop(k) for k in list(params) if k.startswith(start)}
            if nested:
                entries = {k.removeprefix(start): v for k, v in nested.items()}
                before = params.get(
                    f"{prefix}_params", getattr(self, f"{prefix}_params")
                )
                params[f"{prefix}_params"] = (before or {}) | entries
        return super().set_params(**params)
