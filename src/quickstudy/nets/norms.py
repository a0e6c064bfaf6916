"""Floor 1: normalisation layers whose statistics are inputs and outputs, never hidden state.

What a norm looks at decides whether a prediction is inductive:

    batch          the current rows while training; running statistics in eval mode (written by the engine)
    transductive   always the current rows, so that one query's output depends on the other queries
    task           TaskNorm-I (Bronskill et al. 2020): the support's moments blended with the example's own
    group, layer, instance, none      the example alone

Statistics are per task. Where several rows matter, the layer asks the current :class:`NormPass` which rows
are real, takes the moments *given* to it (from the support) and leaves those that it *measured*. The pass is
a context variable that ``nets.apply`` sets around one call of a network: re-entrant, and seen by one thread.

All kinds are computed from each example's own moments over space ``[..., N, C]``: batch moments are those
pooled over N, layer moments those pooled over C. So the large tensor is read once for its moments and once
for the result, and one double backward serves every kind.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.errors import InputError

NORMS = ("batch", "transductive", "task", "group", "layer", "instance", "none")
Moments = dict[str, Tensor]  # "<layer>.mean" [..., C], "<layer>.var" [..., C], "<layer>.count" [...]


@dataclass
class NormPass:
    """What norms may know during one call of a network.

    Args:
        names: each layer's name in the network.
        mask: bool ``[N]`` (``[T, N]`` with ``batched``), False on padding; None when nothing is padded.
        given: moments of the support, to be used in place of the current rows' own.
        batched: activations carry the task axis, ``[T, N, C, ...]`` instead of ``[N, C, ...]``.
        measured: filled by the layers.
    """

    names: dict[nn.Module, str]
    mask: Tensor | None = None
    given: Moments | None = None
    batched: bool = False
    measured: Moments = field(default_factory=dict)


_current: ContextVar[NormPass | None] = ContextVar("quickstudy_norm_pass", default=None)


@contextmanager
def norm_pass(the_pass: NormPass) -> Iterator[NormPass]:
    """Let the norms called inside see ``the_pass``."""
    token = _current.set(the_pass)
    try:
        yield the_pass
    finally:
        _current.reset(token)


class AbstractNorm(nn.Module):
    """A norm over channels with a learned scale and shift.

    Args:
        channels: C.
    """

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        """Scale 1 and shift 0, as built."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, ...]`` (or ``[T, N, C, ...]`` in a batched pass)."""
        return self.normalise(x, dict(self.named_parameters(recurse=False)))

    @abstractmethod
    def normalise(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        """The same with the layer's parameters handed in, each ``[...]`` or, one a task, ``[T, ...]``."""

    @staticmethod
    def check(x: Tensor, own: dict[str, Tensor]) -> None:
        """The layer was built for as many channels.

        Raises:
            InputError: naming both numbers.
        """
        built, met = own["weight"].shape[-1], x.shape[2 if current_pass().batched else 1]
        if built != met:
            raise InputError(
                f"A norm was built for {built} channels, but meets {met}. Build it with as many channels (features) as "
                "what stands before it puts out."
            )

    def finish(self, x: Tensor, mean: Tensor, var: Tensor, own: dict[str, Tensor]) -> Tensor:
        """``(x - mean) / sqrt(var + eps) * weight + bias`` in one pass over ``x``.

        Args:
            x: ``[..., N, C, space...]``.
            mean: ``[..., N or 1, C]``.
            var: like ``mean``.
            own: holds ``weight`` and ``bias``, ``[C]`` or ``[T, C]``.
        """
        scale = own["weight"].unsqueeze(-2) * torch.rsqrt(var + self.eps)
        shift = own["bias"].unsqueeze(-2) - mean * scale
        space = (1,) * (x.dim() - scale.dim())
        return x * scale.view(*scale.shape, *space) + shift.view(*shift.shape, *space)


def current_pass() -> NormPass:
    """The pass in force, or one that says nothing (a layer called directly)."""
    return _current.get() or NormPass(names={})


def leave(the_pass: NormPass, name: str, **measured: Tensor) -> None:
    """Leave a layer's moments in the pass.

    Raises:
        InputError: the layer was used before in this pass, so that one name would mean two things.
    """
    if f"{name}.mean" in the_pass.measured:
        raise InputError(
            f"The norm {name!r} is used twice in one call of the network, so its statistics would be mixed up. "
            "Give each place a norm of its own."
        )
    the_pass.measured |= {f"{name}.{field_name}": value for field_name, value in measured.items()}


def example_moments(x: Tensor, batched: bool) -> tuple[Tensor, Tensor]:
    """Each example's mean and variance over space, ``[..., N, C]``; without space: itself and zero."""
    space = tuple(range(3 if batched else 2, x.dim()))
    if not space:
        return x, torch.zeros_like(x)
    var, mean = torch.var_mean(x, space, correction=0)
    return mean, var


def pool_moments(mean: Tensor, var: Tensor, weights: Tensor | None, dim: int) -> tuple[Tensor, Tensor]:
    """Moments of a mixture of equally large parts along ``dim`` (kept, as size 1).

    Args:
        mean: each part's mean.
        var: each part's variance.
        weights: broadcastable, 1 for parts that count and 0 for the others; None: all count.
        dim: the axis to pool.
    """

    def average(values: Tensor) -> Tensor:
        if weights is None:
            return values.mean(dim, keepdim=True)
        return (values * weights).sum(dim, keepdim=True) / weights.sum(dim, keepdim=True)

    pooled = average(mean)
    return pooled, average(var + (mean - pooled).square())


def row_weights(the_pass: NormPass, like: Tensor) -> Tensor | None:
    """The mask as weights ``[..., N, 1]``."""
    return None if the_pass.mask is None else the_pass.mask.unsqueeze(-1).to(like.dtype)


class BatchNorm(AbstractNorm):
    """Batch normalisation (Ioffe and Szegedy 2015).

    Args:
        channels: C.
        running: keep running statistics for eval mode; without them the current rows are always used.
        momentum: weight of a new task's moments in the running ones.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, running: bool = True, momentum: float = 0.1) -> None:
        super().__init__(channels)
        self.momentum = momentum
        self.running = running
        if running:
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    @property
    def couples(self) -> bool:
        """Whether an example's output depends on the rows beside it."""
        return self.training or not self.running

    @override
    def normalise(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        self.check(x, own)  # the fused kernel below does not
        the_pass = current_pass()
        if not self.couples:
            lead = (None, None) if the_pass.batched else (None,)  # the axes T and N, or N alone
            return self.finish(x, self.running_mean[lead], self.running_var[lead], own)
        name = the_pass.names.get(self, "")
        if not the_pass.batched and the_pass.mask is None:
            # torch's fused kernel: the same numbers in fewer passes over the activations.
            weight, bias = own["weight"], own["bias"]
            out, mean, invstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, self.eps)
            var = invstd.detach().square().reciprocal() - self.eps
            count = x.new_full((), x.shape[0])
        else:
            weights = row_weights(the_pass, x)
            mean, var = pool_moments(*example_moments(x, the_pass.batched), weights, -2)
            out = self.finish(x, mean, var, own)
            mean, var = mean.squeeze(-2), var.squeeze(-2)
            rows = x.shape[1 if the_pass.batched else 0]
            count = x.new_full(mean.shape[:-1], rows) if weights is None else weights.sum((-2, -1))
        if self.running:
            pixels = x[0, 0, 0].numel() if the_pass.batched else x[0, 0].numel()
            n = count * pixels  # running variances are unbiased, as torch keeps them
            unbiased = var.detach() * (n / (n - 1).clamp(min=1)).unsqueeze(-1)
            if _current.get() is None:  # called directly, as any module of torch: behave like one
                self.absorb(mean.detach()[None], unbiased[None])
            leave(the_pass, name, mean=mean.detach(), var=unbiased)
        return out

    @torch.no_grad()
    def absorb(self, means: Tensor, variances: Tensor) -> None:
        """Move the running statistics by each task's moments, in task order.

        Args:
            means: ``[T, C]``.
            variances: ``[T, C]``, unbiased.
        """
        for mean, var in zip(means, variances, strict=True):
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(var.to(self.running_var), self.momentum)


class TaskNorm(AbstractNorm):
    """TaskNorm-I (Bronskill, Gordon, Requeima, Nowozin and Turner, ICML 2020).

    An example is normalised by a blend of the support's moments and its own,
    ``mean = a m_support + (1 - a) m_own`` and the mixture's variance, with
    ``a = sigmoid(scale |support| + offset)`` learned. Nothing depends on other queries. For features without
    space (an MLP) the example's own moments are taken over the features (the paper's TaskNorm-L).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))

    @override
    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        for parameter in (self.bias, self.scale, self.offset):
            nn.init.zeros_(parameter)

    @override
    def normalise(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        self.check(x, own)
        the_pass = current_pass()
        name = the_pass.names.get(self, "")
        mean, var = example_moments(x, the_pass.batched)  # [..., N, C]
        if the_pass.given is None:
            weights = row_weights(the_pass, x)
            support_mean, support_var = pool_moments(mean, var, weights, -2)  # [..., 1, C]
            rows = x.new_full(mean.shape[:-2], mean.shape[-2]) if weights is None else weights.sum((-2, -1))
            leave(the_pass, name, mean=support_mean.squeeze(-2), var=support_var.squeeze(-2), count=rows)
        else:
            support_mean = the_pass.given[f"{name}.mean"].unsqueeze(-2)
            support_var = the_pass.given[f"{name}.var"].unsqueeze(-2)
            rows = the_pass.given[f"{name}.count"]
        if x.dim() == mean.dim():
            mean, var = (part.expand_as(x) for part in pool_moments(mean, var, None, -1))
        blend = torch.sigmoid(own["scale"] * rows + own["offset"])[..., None, None]
        blended = blend * support_mean + (1 - blend) * mean
        spread = blend * (support_var + (support_mean - blended).square()) + (1 - blend) * (
            var + (mean - blended).square()
        )
        return self.finish(x, blended, spread, own)


class GroupNorm(AbstractNorm):
    """Group normalisation (Wu and He 2018): one group is layer norm, C groups are instance norm.

    Args:
        channels: C.
        groups: how many groups the channels form.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels)
        if channels % groups:
            raise InputError(
                f"Cannot split {channels} channels into {groups} equal groups. Use a divisor of {channels}."
            )
        self.groups = groups

    @override
    def normalise(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        self.check(x, own)
        size = own["weight"].shape[-1] // self.groups
        mean, var = (
            part.reshape(*part.shape[:-1], self.groups, size) for part in example_moments(x, current_pass().batched)
        )
        pooled = pool_moments(mean, var, None, -1)  # [..., N, G, 1]
        mean, var = (part.expand(*part.shape[:-1], size).flatten(-2) for part in pooled)
        return self.finish(x, mean, var, own)


def make_norm(kind: str, channels: int) -> nn.Module:
    """A norm by its name.

    Args:
        kind: one of ``NORMS``.
        channels: C.

    Raises:
        InputError: no such kind.
    """
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "transductive":
        return BatchNorm(channels, running=False)
    if kind == "task":
        return TaskNorm(channels)
    if kind == "group":
        return GroupNorm(channels, groups=next(g for g in (8, 4, 2, 1) if channels % g == 0))
    if kind == "layer":
        return GroupNorm(channels, groups=1)
    if kind == "instance":
        return GroupNorm(channels, groups=channels)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"There is no norm called {kind!r}. Known: {', '.join(NORMS)}.")


def couples_examples(net: nn.Module) -> bool:
    """Whether, as the network stands, an example's output can depend on the other rows of the call.

    Known norms answer for themselves; any other module may say so with an attribute ``couples_examples``.
    """
    ours = any(
        isinstance(layer, TaskNorm) or (isinstance(layer, BatchNorm) and layer.couples) for layer in net.modules()
    )
    return ours or foreign_coupling(net)


def foreign_coupling(net: nn.Module) -> bool:
    """The same of layers that are not ours, which know nothing of masks."""
    return any(
        (isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None))
        or bool(getattr(layer, "couples_examples", False))
        for layer in net.modules()
    )


def needs_support_moments(net: nn.Module) -> bool:
    """Whether the network normalises queries with moments of the support."""
    return any(isinstance(layer, TaskNorm) for layer in net.modules())


def uses_current_rows(net: nn.Module) -> bool:
    """Whether the network normalises with the current rows even in eval mode (so queries see each other)."""
    return any(
        (isinstance(layer, BatchNorm) and not layer.running)
        or (isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None)
        for layer in net.modules()
    )


def running_layer(net: nn.Module) -> str | None:
    """The name of a layer that keeps running statistics, if there is one."""
    for name, layer in net.named_modules():
        ours = isinstance(layer, BatchNorm) and layer.running
        # Torch's instance norm may keep them too (track_running_stats).
        if ours or (isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None):
            return str(name)
    return None


def absorb_statistics(net: nn.Module, carried: dict[str, Tensor]) -> None:
    """Write what ``apply`` measured in training into the network's running statistics, in task order.

    Args:
        net: the network.
        carried: ``"<layer>.mean"``, ``"<layer>.var"`` ``[T, C]`` of our norms; buffers ``[T, ...]``, each as it
            stood after that task, of torch's own.
    """
    layers = dict(net.named_modules())
    buffers = dict(net.named_buffers())
    for name, values in carried.items():
        owner, _, field_name = name.rpartition(".")
        layer = layers.get(owner)
        if isinstance(layer, BatchNorm):
            if field_name == "mean":
                layer.absorb(values, carried[f"{owner}.var"])
        elif name in buffers:
            with torch.no_grad():
                buffers[name].copy_(values[-1])
