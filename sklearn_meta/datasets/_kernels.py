"""Covariance functions on the line, and draws from the processes they define."""

import numpy as np

# Entries of the covariances held at a time: 32 MiB in float64.
_CHUNK_ENTRIES = 2**22

# Relative to the variance: smooth kernels have eigenvalues below rounding error.
_JITTER = 1e-9


def rbf_kernel(distance, *, length_scale, output_scale):
    """Squared exponential covariance of an array of distances."""
    return output_scale**2 * np.exp(-0.5 * (distance / length_scale) ** 2)


def matern_kernel(distance, *, length_scale, output_scale):
    """Matern covariance of smoothness 5/2 of an array of distances."""
    r = np.sqrt(5) * distance / length_scale
    return output_scale**2 * (1 + r + r**2 / 3) * np.exp(-r)


def periodic_kernel(distance, *, length_scale, output_scale, period):
    """Periodic covariance of an array of distances."""
    wave = np.sin(np.pi * distance / period) / length_scale
    return output_scale**2 * np.exp(-2 * wave**2)


def sample_gaussian_process(kernel, x, white, parameters):
    """Turn white noise into one draw of a Gaussian process per task.

    Parameters
    ----------
    kernel : callable
        Covariance of an array of distances, given `parameters`.
    x : ndarray of shape (n_tasks, n_samples)
        Inputs.
    white : ndarray of shape (n_tasks, n_samples)
        Independent standard normal draws.
    parameters : dict of str to ndarray of shape (n_tasks, 1, 1)
        Keyword arguments of `kernel`, one value per task; ``output_scale`` is one.

    Returns
    -------
    ndarray of shape (n_tasks, n_samples)
        The functions' values at `x`, without noise.
    """
    n_tasks, n_samples = x.shape
    n_chunk = max(1, _CHUNK_ENTRIES // n_samples**2)
    values = np.empty_like(x)
    for start in range(0, n_tasks, n_chunk):
        part = slice(start, start + n_chunk)
        chunk = {name: value[part] for name, value in parameters.items()}
        distance = np.abs(x[part, :, None] - x[part, None, :])
        covariance = kernel(distance, **chunk)
        jitter = _JITTER * chunk["output_scale"] ** 2 * np.eye(n_samples)
        factor = np.linalg.cholesky(covariance + jitter)
        values[part] = (factor @ white[part, :, None])[..., 0]
    return values
