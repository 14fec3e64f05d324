"""Stacked networks equal the module run task by task."""

import pytest
import torch
from torch import nn

from sklearn_meta.functional import (
    ACTIVATIONS,
    apply_rows,
    build_mlp,
    check_row_independent,
    networks,
    output_size,
    stackable_layers,
    stacked_forward,
    vmap_forward,
    zero_padding,
)


class _Residual(nn.Module):
    """A network that no sequence of layers can express."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, X):
        return X + self.layer(X)


NETWORKS = {
    "mlp": lambda: build_mlp(3, (5, 4), 2, "tanh"),
    "linear": lambda: nn.Sequential(nn.Linear(3, 2, bias=False)),
    "norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ELU()),
    "nested": lambda: nn.Sequential(build_mlp(3, (5,), 4), nn.GELU(), nn.Linear(4, 2)),
}


def _random_parameters(network, n_tasks=4):
    """Different parameters for every task, float64."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(n_tasks, *p.shape, generator=generator, dtype=p.dtype)
        for name, p in network.named_parameters()
    }


def _loop(network, params, X):
    """One task at a time: the independent answer."""
    tasks = [{name: p[i] for name, p in params.items()} for i in range(len(X))]
    outputs = [
        torch.func.functional_call(network, task, (rows,))
        for task, rows in zip(tasks, X, strict=True)
    ]
    return torch.stack(outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_stacked_and_vmap_forward_equal_task_loop(name):
    # Law 1: vectorised equals the loop, on both paths.
    network = NETWORKS[name]().double()
    params = _random_parameters(network)
    X = torch.randn(4, 6, 3, dtype=torch.float64)
    expected = _loop(network, params, X)
    stacked = stacked_forward(stackable_layers(network), params, X)
    torch.testing.assert_close(stacked, expected, rtol=1e-12, atol=1e-12)
    mapped = vmap_forward(network, params, X)
    torch.testing.assert_close(mapped, expected, rtol=1e-12, atol=1e-12)


def test_stacked_forward_without_a_layers_parameters_uses_shared_ones():
    # ANIL stacks the head only; the body stays one product for all tasks.
    network = build_mlp(3, (5,), 2).double()
    X = torch.randn(4, 6, 3, dtype=torch.float64)
    outputs = stacked_forward(stackable_layers(network), {}, X)
    torch.testing.assert_close(outputs, apply_rows(network, X))


def test_stackable_layers_of_anything_unknown_is_none():
    # A wrong guess would silently compute another function.
    shared = nn.Linear(3, 3)
    hooked = build_mlp(3, (4,), 2)
    hooked[0].register_forward_hook(lambda module, args, output: output + 1)
    for network in (
        _Residual(),
        nn.Sequential(shared, nn.ReLU(), shared),
        nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1)),
        nn.Sequential(_Residual()),
        hooked,
    ):
        assert stackable_layers(network) is None


def test_stackable_layers_with_one_activation_twice_keeps_both():
    # named_modules drops duplicates unless told otherwise.
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 4), relu)
    assert len(stackable_layers(network)) == 4


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.SyncBatchNorm(3)])
def test_check_row_independent_with_batch_norm_says_what_to_use(layer):
    # Law 4: no batch statistics; the message names the way out.
    with pytest.raises(ValueError, match="at '1'.*Use nn.LayerNorm or nn.GroupNorm"):
        check_row_independent(nn.Sequential(nn.Linear(3, 3), layer))


def test_check_row_independent_with_row_norms_passes():
    # LayerNorm and GroupNorm look at one row only.
    check_row_independent(nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(2, 4)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_build_mlp_with_any_activation_has_asked_shape(activation):
    # All documented names work and are stackable.
    network = build_mlp(3, (4, 4), 2, activation)
    assert network(torch.zeros(5, 3)).shape == (5, 2)
    assert stackable_layers(network) is not None
    assert output_size(network) == 2


def test_build_mlp_with_unknown_activation_lists_known_ones():
    # A typo must not end in a KeyError.
    with pytest.raises(ValueError, match="'relu'.*got 'swish'"):
        build_mlp(3, (4,), 2, "swish")


def test_output_size_without_linear_layer_is_none():
    # The caller then asks the user for it.
    assert output_size(nn.ReLU()) is None


def test_zero_padding_removes_nan():
    # 0 * NaN is NaN, so masks must not be multiplied.
    values = torch.full((1, 2, 3), torch.nan)
    assert zero_padding(values, torch.tensor([[False, False]])).abs().sum() == 0


def test_apply_rows_when_there_are_many_then_in_parts_and_the_same(monkeypatch):
    # hidden layers of a million rows would take gigabytes
    network, X = build_mlp(3, (8,), 2), torch.randn(4, 5, 3)
    expected = network(X)
    monkeypatch.setattr(networks, "MAX_ROWS_AT_ONCE", 7)
    sizes, forward = [], network.forward
    monkeypatch.setattr(
        network, "forward", lambda X: sizes.append(len(X)) or forward(X)
    )
    with torch.no_grad():
        torch.testing.assert_close(apply_rows(network, X), expected)
    assert sizes == [7, 7, 6]
    assert apply_rows(network, X).requires_grad
