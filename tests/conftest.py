"""Fixtures that every test file may use."""

import numpy as np
import pytest
import sklearn


@pytest.fixture
def rng():
    """Give a generator of random numbers, the same in every test."""
    return np.random.default_rng(0)


@pytest.fixture
def metadata_routing():
    """Turn on scikit-learn's metadata routing for one test."""
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(autouse=True)
def _unchanged_config():
    """Fail a test that leaves scikit-learn's global configuration changed."""
    before = sklearn.get_config()
    yield
    assert sklearn.get_config() == before
