"""A GPU that computes nothing, for tests on machines without one.

Tensors of torch's fake mode know their device and shape and have no numbers: to mix two
devices is an error, and so is to ask for a number, for which a real GPU has to wait.
"""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# the only device besides the CPU that autograd knows in every build of torch
DEVICE = torch.device("meta")


class FakeGPU:
    """Hold fake tensors, and watch what runs inside of `watch`."""

    def __init__(self):
        self.mode = FakeTensorMode()

    def tensor(self, values):
        """Return a tensor like another one, on the fake GPU."""
        return FakeTensor(self.mode, values.detach().to(DEVICE), DEVICE)

    def module(self, module):
        """Put the parameters and buffers of a module on the fake GPU, in place."""
        every = {"recurse": False, "remove_duplicate": False}
        for part in module.modules():
            for name, value in list(part.named_parameters(**every)):
                learned = nn.Parameter(self.tensor(value), value.requires_grad)
                part.register_parameter(name, learned)
            for name, value in list(part.named_buffers(**every)):
                part.register_buffer(name, self.tensor(value))
        return module

    def watch(self):
        """Return a context in which nothing may wait for the GPU."""
        return _Watch()


class _Watch(TorchDispatchMode):
    """Refuse what fake tensors let through: copies between devices, and checks."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = tree_leaves((args, kwargs, result))
        devices = {t.device.type for t in tensors if isinstance(t, torch.Tensor)}
        assert len(devices) < 2, f"{operation} copies from one device to another"
        assert "check_errors" not in str(operation), f"{operation} waits for a GPU"
        return result
