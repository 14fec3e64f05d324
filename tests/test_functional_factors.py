"""Cholesky factors that survive features of any size."""

import pytest
import torch

from sklearn_meta.functional import stable_cholesky


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_stable_cholesky_of_a_sound_matrix_is_its_cholesky_factor(scale):
    # the jitter must not be seen on data of ordinary condition, whatever its unit
    rows = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    matrices = scale * (rows.mT @ rows).double()
    torch.testing.assert_close(
        stable_cholesky(matrices), torch.linalg.cholesky(matrices), rtol=1e-11, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stable_cholesky_when_the_identity_is_lost_in_rounding_is_finite(dtype):
    # huge features: K + I equals K in floating point, and K has rank one
    rows = torch.linspace(1, 2, 8, dtype=dtype).unsqueeze(1) * 1e12
    matrix = rows @ rows.mT + torch.eye(8, dtype=dtype)
    assert stable_cholesky(matrix).isfinite().all()
