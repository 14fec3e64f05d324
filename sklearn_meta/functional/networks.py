"""Networks applied to all tasks' rows at once, with shared or stacked parameters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from sklearn_meta.functional.called_layers import Layers, called_layers

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "identity": nn.Identity,
}

# rows that go through a shared network at once where no gradient is asked for
MAX_ROWS_AT_ONCE = 2**16

_ELEMENTWISE = (*ACTIVATIONS.values(), nn.LeakyReLU, nn.Softplus, nn.Dropout)


def build_mlp(
    n_in: int,
    hidden_layer_sizes: Sequence[int],
    n_out: int,
    activation: str = "relu",
) -> nn.Sequential:
    """A multi-layer perceptron with a linear last layer.

    Parameters
    ----------
    n_in : int
        Number of inputs.
    hidden_layer_sizes : sequence of int
        Width of each hidden layer; empty for a linear model.
    n_out : int
        Number of outputs.
    activation : str, default="relu"
        One of `ACTIVATIONS`: "relu", "tanh", "logistic", "gelu", "silu", "elu",
        "identity".

    Returns
    -------
    nn.Sequential
        Maps rows (n, n_in) to (n, n_out).

    Raises
    ------
    ValueError
        If the activation is not known.

    Examples
    --------
    >>> from sklearn_meta.functional import build_mlp
    >>> [type(layer).__name__ for layer in build_mlp(4, (8,), 2)]
    ['Linear', 'ReLU', 'Linear']
    """
    if activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation must be one of {known}; got {activation!r}.")
    layers: list[nn.Module] = []
    for width in hidden_layer_sizes:
        layers += [nn.Linear(n_in, width), ACTIVATIONS[activation]()]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))


def check_row_independent(module: nn.Module) -> None:
    """Reject a network whose output for one row depends on the other rows.

    Parameters
    ----------
    module : nn.Module
        The user's network.

    Raises
    ------
    ValueError
        If it holds a batch normalisation layer of any kind.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_meta.functional import check_row_independent
    >>> check_row_independent(nn.LayerNorm(3))
    """
    for name, layer in module.named_modules():
        if isinstance(layer, _BatchNorm):
            raise ValueError(
                f"expected a network that treats every row on its own; got "
                f"{type(layer).__name__} at {name or 'the top'!r}. Batch normalisation "
                "mixes the rows of a batch, so a prediction would depend on the other "
                "query rows and on the other tasks. Use nn.LayerNorm or nn.GroupNorm."
            )


def output_size(module: nn.Module) -> int | None:
    """Width of a network's output, read from its last linear layer.

    Parameters
    ----------
    module : nn.Module
        Maps rows (n, n_features) to (n, n_outputs).

    Returns
    -------
    int or None
        ``n_outputs``; None if there is no linear layer to read it from.

    Examples
    --------
    >>> from sklearn_meta.functional import build_mlp, output_size
    >>> output_size(build_mlp(4, (8,), 2))
    2
    """
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features if linear else None


def zero_padding(values: Tensor, mask: Tensor) -> Tensor:
    """Rows with zeros where there is padding, whatever it held, NaN included.

    Parameters
    ----------
    values : Tensor of shape (n_tasks, n_rows, n_columns)
        Any row values.
    mask : Tensor of shape (n_tasks, n_rows), bool
        True for a real row.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_columns)
        A new tensor.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import zero_padding
    >>> values = torch.tensor([[[1.0], [float("nan")]]])
    >>> zero_padding(values, torch.tensor([[True, False]])).squeeze()
    tensor([1., 0.])
    """
    return torch.where(mask.unsqueeze(-1), values, 0)


def apply_rows(module: nn.Module, X: Tensor) -> Tensor:
    """Output of a shared network for the rows of all tasks, as one large batch.

    Parameters
    ----------
    module : nn.Module
        Maps rows (n, n_features) to (n, n_outputs).
    X : Tensor of shape (n_tasks, n_rows, n_features)
        Rows of every task.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_outputs)
        One output a row.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import apply_rows
    >>> apply_rows(torch.nn.Linear(3, 2), torch.zeros(4, 5, 3)).shape
    torch.Size([4, 5, 2])
    """
    rows = X.flatten(0, 1)
    if torch.is_grad_enabled() or len(rows) <= MAX_ROWS_AT_ONCE:
        outputs: Tensor = module(rows)
        return outputs.unflatten(0, X.shape[:2])
    # a part at a time: the hidden layers of a million rows would take gigabytes
    first: Tensor = module(rows[:MAX_ROWS_AT_ONCE])
    outputs = first.new_empty(len(rows), *first.shape[1:])
    outputs[:MAX_ROWS_AT_ONCE] = first
    for begin in range(MAX_ROWS_AT_ONCE, len(rows), MAX_ROWS_AT_ONCE):
        part = slice(begin, begin + MAX_ROWS_AT_ONCE)
        outputs[part] = module(rows[part])
    return outputs.unflatten(0, X.shape[:2])


def stackable_layers(module: nn.Module) -> Layers | None:
    """Layers of a plain network, one after another, for stacked parameters.

    Parameters
    ----------
    module : nn.Module
        Any network.

    Returns
    -------
    list of (str, nn.Module) or None
        Names and layers in order, if rows go through nn.Linear, nn.LayerNorm over the
        last axis, nn.Dropout and elementwise activations and nothing else: in an
        nn.Sequential (nested ones too), or in the ``forward`` of another class. None
        for anything else, which :func:`vmap_forward` runs.

    Examples
    --------
    >>> from sklearn_meta.functional import build_mlp, stackable_layers
    >>> [name for name, _ in stackable_layers(build_mlp(4, (8,), 2))]
    ['0', '1', '2']
    """
    # Repeated activations count each time, hence remove_duplicate=False.
    named = list(module.named_modules(remove_duplicate=False))
    if any(_has_hooks(m) for _, m in named):  # which may compute anything
        return None
    layers = [(name, m) for name, m in named if type(m) is not nn.Sequential]
    trained = [m for _, m in layers if list(m.parameters())]
    tied = len({id(m) for m in trained}) < len(trained)
    # A subclass may compute anything too: only exact types are known.
    known = all(_is_stackable(m) for _, m in layers)
    if type(module) is nn.Sequential and known:
        return None if tied else layers
    return called_layers(module)


def stacked_forward(layers: Layers, params: Mapping[str, Tensor], X: Tensor) -> Tensor:
    """Output of a sequential network in which every task has its own parameters.

    Parameters
    ----------
    layers : list of (str, nn.Module)
        As of :func:`stackable_layers`, or a part of it.
    params : mapping of str to Tensor
        ``"<name>.weight"`` of shape (n_tasks, n_out, n_in) and ``"<name>.bias"`` of
        shape (n_tasks, n_out). A layer that is not there uses its own, shared.
    X : Tensor of shape (n_tasks, n_rows, n_in)
        Rows of every task.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_out)
        One output a row; each layer is one batched product for all tasks.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import (
    ...     build_mlp, stack_parameters, stackable_layers, stacked_forward)
    >>> network = build_mlp(4, (8,), 2)
    >>> params = stack_parameters(dict(network.named_parameters()), n_tasks=3)
    >>> stacked_forward(stackable_layers(network), params, torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """
    for name, layer in layers:
        weight = params.get(f"{name}.weight")
        if weight is None:
            X = layer(X)
        elif isinstance(layer, nn.Linear):
            X = _stacked_linear(X, weight, params.get(f"{name}.bias"))
        else:
            X = _stacked_layer_norm(layer, X, weight, params.get(f"{name}.bias"))
    return X


def vmap_forward(module: nn.Module, params: Mapping[str, Tensor], X: Tensor) -> Tensor:
    """Output of any network in which every task has its own parameters.

    Parameters
    ----------
    module : nn.Module
        Maps rows (n, n_features) to (n, n_outputs).
    params : mapping of str to Tensor of shape (n_tasks, ...)
        By the module's own parameter names; those not there are shared.
    X : Tensor of shape (n_tasks, n_rows, n_features)
        Rows of every task.

    Returns
    -------
    Tensor of shape (n_tasks, n_rows, n_outputs)
        One output a row.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.functional import stack_parameters, vmap_forward
    >>> network = torch.nn.Linear(2, 1)
    >>> params = stack_parameters(dict(network.named_parameters()), n_tasks=3)
    >>> vmap_forward(network, params, torch.zeros(3, 5, 2)).shape
    torch.Size([3, 5, 1])
    """

    def one_task(task_params: dict[str, Tensor], rows: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(module, task_params, (rows,))
        return outputs

    batched = torch.func.vmap(one_task, in_dims=(0, 0), randomness="different")
    result: Tensor = batched(dict(params), X)
    return result


def _is_stackable(layer: nn.Module) -> bool:
    """Whether `stacked_forward` knows the layer, by its exact type."""
    if type(layer) is nn.LayerNorm:
        return len(layer.normalized_shape) == 1
    return type(layer) is nn.Linear or type(layer) in _ELEMENTWISE


def _has_hooks(layer: nn.Module) -> bool:
    """Whether calling the layer does more than its forward."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _stacked_linear(X: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rows (n_tasks, n_rows, n_in) times weights (n_tasks, n_out, n_in)."""
    if bias is None:
        return torch.bmm(X, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), X, weight.mT)


def _stacked_layer_norm(
    layer: nn.Module, X: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Layer normalisation with scales and shifts of shape (n_tasks, n_columns)."""
    assert isinstance(layer, nn.LayerNorm)  # for the type checker; see _is_stackable
    normed = F.layer_norm(X, layer.normalized_shape, eps=layer.eps)
    normed = normed * weight.unsqueeze(1)
    return normed if bias is None else normed + bias.unsqueeze(1)
