"""The base class of all meta-estimators."""

from sklearn_meta.base._meta_estimator import BaseMetaEstimator, HeldOut

__all__ = ["BaseMetaEstimator", "HeldOut"]
