"""Ragged tasks as padded tensors: numpy becomes torch here."""

import numpy as np
import torch
from torch import Tensor

CPU = torch.device("cpu")


def stack_rows(
    rows: np.ndarray, sizes: np.ndarray, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Stack the rows of ragged tasks, padded with zeros.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_columns)
        Rows of all tasks, those of a task adjacent.
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    device : torch.device
        Where the stack goes.
    dtype : torch.dtype
        Its floating type.

    Returns
    -------
    stack : Tensor of shape (n_tasks, max(sizes), n_columns)
        The stack; without padding it may share the memory of `rows`.
    mask : Tensor of shape (n_tasks, max(sizes))
        True on real rows.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_meta.episodes import stack_rows
    >>> rows = np.array([[1.0], [2.0], [3.0]])
    >>> stack, mask = stack_rows(rows, np.array([1, 2]), "cpu", torch.float64)
    >>> stack[..., 0].tolist(), mask.tolist()
    ([[1.0, 0.0], [2.0, 3.0]], [[True, False], [True, True]])
    """
    sizes = np.asarray(sizes)
    shape = len(sizes), len(rows) if len(sizes) == 1 else int(sizes.max(initial=0))
    if len(rows) == shape[0] * shape[1]:  # no padding: the rows are the stack
        mask = as_tensor(np.ones(shape, bool), device, torch.bool)
        stack = rows.reshape(*shape, rows.shape[1])
        return as_tensor(stack, device, dtype), mask
    real = np.arange(shape[1]) < sizes[:, None]
    padded = np.zeros((*shape, rows.shape[1]))
    padded[real] = rows
    return (
        torch.as_tensor(padded, dtype=dtype, device=device),
        torch.as_tensor(real, device=device),
    )


def as_tensor(values: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return an array as a tensor, which may be a view.

    torch takes neither read-only arrays nor steps backwards, which are copied.
    """
    if not (values.flags.c_contiguous and values.flags.writeable):
        values = values.copy(order="C")
    tensor = torch.from_numpy(values)
    # asked first: a conversion that does nothing takes as long as some layers
    is_there = tensor.dtype == dtype and device == CPU
    return tensor if is_there else tensor.to(device, dtype)


def task_chunks(sizes: np.ndarray, max_rows: int) -> list[np.ndarray]:
    """Group tasks of similar size into chunks of a bounded number of padded rows.

    Parameters
    ----------
    sizes : ndarray of shape (n_tasks,)
        Rows of each task.
    max_rows : int
        Most rows of a padded chunk; a task that is larger makes a chunk of its own.

    Returns
    -------
    chunks : list of ndarray
        Positions of the tasks of each chunk, small tasks first.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_meta.episodes import task_chunks
    >>> [chunk.tolist() for chunk in task_chunks(np.array([5, 1, 2, 9]), max_rows=10)]
    [[1, 2], [0], [3]]
    """
    order = np.argsort(sizes, kind="stable")
    chunks, begin = [], 0
    while begin < len(order):
        # the chunk's last task is its largest: rows = (end - begin) * size of the last
        ahead = order[begin : begin + max_rows]
        rows = np.arange(1, len(ahead) + 1) * sizes[ahead]
        end = begin + max(1, int(np.searchsorted(rows, max_rows, side="right")))
        chunks.append(order[begin:end])
        begin = end
    return chunks
