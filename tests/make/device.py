"""A device that is pretended, on the CPU: it says where a program would wait for a GPU.

Its tensors say that they are on ``meta`` and refuse to meet tensors of the host. There is no
autograd on it.
"""

import sys
from collections import Counter
from contextlib import nullcontext
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map

_ATEN = torch.ops.aten
_WAITING = {_ATEN._local_scalar_dense, _ATEN.nonzero, _ATEN.masked_select, _ATEN._unique2}
_WAITING |= {_ATEN.is_nonzero, _ATEN.equal}
_INDEXING = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_}
_WAITS, _OPERATIONS = Counter(), Counter()


class PretendedTensor(torch.Tensor):
    """A tensor of the host that says it is on ``meta``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, dtype=values.dtype, device="meta", strides=values.stride()
        )
        tensor.values = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        _OPERATIONS[_find_place()] += 1
        kwargs = dict(kwargs or {})
        packet, tensors = func.overloadpacket, [*tree_iter((args, kwargs))]
        tensors = [t for t in tensors if isinstance(t, torch.Tensor)]
        hosts = [t for t in tensors if not isinstance(t, cls)]
        target = torch.device(kwargs.pop("device", None) or "meta")
        leaves = packet in (_ATEN._to_copy, _ATEN.copy_) and (
            target.type == "cpu" or (packet == _ATEN.copy_ and not isinstance(args[0], cls))
        )
        if not leaves and packet != _ATEN.copy_ and any(t.ndim for t in hosts):
            raise AssertionError(f"{func}: {hosts[0].shape} is on the host")
        masks = packet in _INDEXING and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if packet in _WAITING or masks or leaves or (packet == _ATEN.copy_ and hosts):
            _wait(None)
        out = func(*_plain(args), **_plain(kwargs))
        if leaves:
            return out
        return tree_map(lambda t: cls(t) if isinstance(t, torch.Tensor) else t, out)


def _find_place():
    """Function of the package, or of torchvision's NMS, that is running."""
    frame, place = sys._getframe(1), None
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        if function == "batched_nms":
            return "nms"
        if place is None and "/refine/" in name and "/make/device" not in name:
            place = f"{name.rpartition('/')[2]}:{function}"
        frame = frame.f_back
    return place or "elsewhere"


class _Pretend(TorchFunctionMode):
    """While it is entered, ``device="meta"`` is the pretended one."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name, first = getattr(func, "__name__", ""), args[0] if args else None
        if name == "pin_memory":
            first.is_pinned_for_test = True
            return first
        if name == "tolist" and isinstance(first, PretendedTensor):
            return _wait(first.values.tolist())
        if name == "__setitem__" and not isinstance(args[2], torch.Tensor):
            place, index = (_plain(a) for a in args[:2])
            place[index] = args[2]
            return None
        if name == "where":  # its numbers become tensors of the device
            dtype = next((a.dtype for a in args[1:] if isinstance(a, torch.Tensor)), None)
            tensors = (
                a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=dtype) for a in args
            )
            args = [t if isinstance(t, PretendedTensor) else PretendedTensor(t) for t in tensors]
        if name == "to":
            if not isinstance(first, PretendedTensor) and _is_device(*args[1:], *kwargs.values()):
                return self._send(first, args[1:], kwargs)
        elif _is_device(kwargs.get("device")):
            made = PretendedTensor(func(*args, **kwargs | {"device": "cpu"}))
            return _wait(made) if name in ("tensor", "as_tensor") else made
        return func(*args, **kwargs)

    @staticmethod
    def _send(tensor, targets, kwargs):
        dtype = next((t.dtype for t in targets if isinstance(t, torch.Tensor)), tensor.dtype)
        sent = PretendedTensor(tensor.to(dtype))
        is_pinned = hasattr(tensor, "is_pinned_for_test")
        return sent if is_pinned and kwargs.get("non_blocking") else _wait(sent)


def _is_device(*values):
    for value in values:
        if isinstance(value, PretendedTensor):
            return True
        if isinstance(value, str | torch.device) and torch.device(value).type == "meta":
            return True
    return False


def _plain(values):
    return tree_map(lambda t: t.values if isinstance(t, PretendedTensor) else t, values)


def _wait(result):
    _WAITS[_find_place()] += 1
    return result


def count_waits(module, run):
    """Where ``run`` would wait for a GPU that holds the module's tensors, and how often."""
    _pretend(module, run)
    return dict(_WAITS)


def count_operations(module, run):
    """Where ``run`` would give work or views to such a GPU, and how often."""
    _pretend(module, run)
    return dict(_OPERATIONS)


def _pretend(module, run):
    for part in module.modules():
        for group in (part._parameters, part._buffers):
            for key, tensor in group.items():
                if tensor is not None:
                    group[key] = PretendedTensor(tensor.detach())
    _WAITS.clear()
    _OPERATIONS.clear()
    no_autocast = mock.patch("torch.autocast", return_value=nullcontext())
    with torch.no_grad(), _Pretend(), no_autocast:
        run()
