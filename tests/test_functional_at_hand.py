"""Numbers are looked at where that costs nothing."""

import pytest
import torch

from sklearn_meta.functional.at_hand import is_at_hand, is_whole


def test_numbers_on_the_cpu_are_at_hand_and_others_are_not():
    """Another device than the CPU would have to be waited for."""
    assert is_at_hand(torch.zeros(2))
    assert not is_at_hand(torch.zeros(2, device="meta"))


@pytest.mark.parametrize(
    ("rows", "expected"), [([True, True], True), ([True, False], False), ([], True)]
)
def test_mask_on_the_cpu_is_whole_when_every_row_is_real(rows, expected):
    """No row at all is no padding."""
    assert is_whole(torch.tensor([rows], dtype=torch.bool)) is expected


def test_mask_elsewhere_is_not_asked():
    """On the meta device there is no number to read: a look would raise."""
    assert not is_whole(torch.ones(1, 2, dtype=torch.bool, device="meta"))
