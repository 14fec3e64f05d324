"""CUDA graphs on the CPU, for tests on machines without a GPU.

What a CUDA graph repeats are kernels, on the addresses and with the numbers of Python
that they had when they were recorded. Here they are the operations of torch below
autograd. As on a GPU, Python, numpy and code in C do not run again, and a step that
looks at a number cannot be recorded.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# what makes a program wait for a GPU, or copies from its own memory
WAITING = {
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "unique_dim",
}


class EmulatedGraphs:
    """In place of `CUDAGraphs`."""

    def __init__(self, device):
        self.device = device
        self.n_warm, self.n_captured, self.n_replayed = 0, 0, 0

    def warm_up(self, step):
        """Take a step."""
        self.n_warm += 1
        step()

    def capture(self, step):
        """Record a step, and leave nothing of it but the memory that it takes."""
        self.n_captured += 1
        recording = _Recording()
        draws = torch.get_rng_state()
        try:
            with recording:
                step()
        finally:
            recording.undo()
            torch.set_rng_state(draws)

        def replay():
            self.n_replayed += 1
            recording.replay()

        return replay


class _Recording(TorchDispatchMode):
    """Operations with the tensors that they read and write."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.own = [], [], set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name, kwargs = operation._schema.name.removeprefix("aten::"), kwargs or {}
        if name in WAITING or (name == "index" and _has_mask(args[1])):
            raise RuntimeError(f"{name} is not permitted while a step is recorded")
        for value in _written(operation, args, kwargs):
            if _memory(value) not in self.own:
                self.before.append((value, value.clone()))
        # as they are now: some operations change the shape of a tensor in place
        given = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))
        result = operation(*args, **kwargs)
        read = set(map(_memory, _tensors(given)))
        fresh = {i: v for i, v in enumerate(_tensors(result)) if _memory(v) not in read}
        self.own |= set(map(_memory, fresh.values()))
        if torch.Tag.inplace_view not in operation.tags:
            fresh = {i: value.detach() for i, value in fresh.items()}
            self.calls.append((operation, given, fresh))
        return result

    def undo(self):
        """Give back what was written over."""
        with torch.no_grad():
            for value, before in reversed(self.before):
                value.copy_(before)

    def replay(self):
        """Run the operations again, on the same memory."""
        with torch.no_grad():
            for operation, (args, kwargs), places in self.calls:
                result = _tensors(operation(*args, **kwargs))
                for i, place in places.items():
                    place.copy_(result[i])


def _tensors(values):
    """The tensors in anything."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _has_mask(indices):
    """Whether rows are picked by a mask, whose True ones have to be counted."""
    return any(i is not None and i.dtype == torch.bool for i in indices)


def _memory(value):
    """What tensors have in common of which one is a view of the other."""
    return value.untyped_storage()._cdata


def _written(operation, args, kwargs):
    """The tensors that an operation writes to."""
    found = []
    for i, argument in enumerate(operation._schema.arguments):
        given = args[i] if i < len(args) else kwargs.get(argument.name)
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += _tensors(given)
    return found
