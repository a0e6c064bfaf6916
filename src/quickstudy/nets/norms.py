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
pooled over N, layer moments those pooled over C. So a norm is a scale and a shift of each example's channels, made of
small tensors, and one double backward serves every kind. Who pools what was normalised need not normalise all of it
(``summary.py``).
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
from quickstudy.nets.summary import Summary, summarise

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


@dataclass(frozen=True, eq=False)
class Seen:
    """Moments of what is to be normalised.

    Args:
        mean: of each example over space, ``[..., N, C]``, or over all rows of a task, ``[..., 1, C]``.
        var: likewise.
        count: of how many numbers they are.
        space: False: the examples are features without space, their own mean and a variance of zero.
    """

    mean: Tensor
    var: Tensor
    count: int
    space: bool = True

    @classmethod
    def of(cls, x: Tensor, lead: int, *, pooled: bool) -> Seen:
        """Of ``[..., N, C, ...]`` with ``lead`` axes before the channels.

        Args:
            x: what is to be normalised.
            lead: 1 (N), or 2 (T and N).
            pooled: over all rows of a task.
        """
        if x.dim() == lead + 1:
            x = x.float() if torch.is_autocast_enabled(x.device.type) else x  # moments keep their digits
            return cls(x, torch.zeros_like(x), 1, space=False)
        maps = x.flatten(0, lead - 1)
        if maps.dim() != 4:
            maps = maps.flatten(2).unsqueeze(-1)
        return cls.summarised(summarise(maps, peaks=False, groups=cls.groups(x, lead, pooled=pooled)), x, lead)

    @staticmethod
    def groups(x: Tensor, lead: int, *, pooled: bool) -> int:
        """How many moments a channel has: one a task, or one an example."""
        return x.shape[: lead - 1 if pooled else lead].numel()

    @classmethod
    def summarised(cls, summary: Summary, x: Tensor, lead: int) -> Seen:
        """From a summary of the maps ``x``, ``[..., N, C, H, W]``."""
        mean, var = (part.view(*x.shape[: lead - 1], -1, part.shape[-1]) for part in (summary.mean, summary.var))
        return cls(mean, var, x.numel() // summary.mean.numel())


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

    @property
    def reads_rows(self) -> bool:
        """Whether it needs moments of the rows that it is to normalise."""
        return True

    @property
    def pools_rows(self) -> bool:
        """Whether it needs their moments over all rows of a task alone, not each row's own."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[N, C, ...]`` (or ``[T, N, C, ...]`` in a batched pass)."""
        return self.normalise(x, dict(self.named_parameters(recurse=False)))

    def normalise(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        """The same with the layer's parameters handed in, each ``[...]`` or, one a task, ``[T, ...]``."""
        self.check(x, own)
        lead = 2 if current_pass().batched else 1  # the axes T and N, or N alone
        seen = Seen.of(x, lead, pooled=self.pools_rows) if self.reads_rows else None
        scale, shift = self.affine(seen, own)
        ones = (1,) * (x.dim() - lead - 1)
        return torch.addcmul(shift.view(*shift.shape, *ones), x, scale.view(*scale.shape, *ones))

    @abstractmethod
    def affine(self, seen: Seen | None, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the norm multiplies each example's channels with, and then adds; leaves what was measured in the pass.

        Args:
            seen: moments of the rows; None unless ``reads_rows``.
            own: the layer's parameters, each ``[...]`` or, one a task, ``[T, ...]``.

        Returns:
            Scale and shift, each ``[..., N or 1, C]``.
        """

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

    def standardised(self, mean: Tensor, var: Tensor, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scale and shift of ``(x - mean) / sqrt(var + eps) * weight + bias``.

        Args:
            mean: ``[..., N or 1, C]``.
            var: like ``mean``.
            own: holds ``weight`` and ``bias``, ``[C]`` or ``[T, C]``.
        """
        scale = own["weight"].unsqueeze(-2) * torch.rsqrt(var + self.eps)
        return scale, own["bias"].unsqueeze(-2) - mean * scale


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


def pool_moments(mean: Tensor, var: Tensor, weights: Tensor | None, dim: int) -> tuple[Tensor, Tensor]:
    """Moments of a mixture of equally large parts along ``dim`` (kept, as size 1).

    Args:
        mean: each part's mean.
        var: each part's variance.
        weights: broadcastable, 1 for parts that count and 0 for the others; None: all count.
        dim: the axis to pool.
    """
    pooled = _average(mean, weights, dim)
    return pooled, _average(var + (mean - pooled).square(), weights, dim)


def _average(values: Tensor, weights: Tensor | None, dim: int) -> Tensor:
    """Over ``dim``, which is kept; see :func:`pool_moments`."""
    if weights is None:
        return values.mean(dim, keepdim=True)
    return (values * weights).sum(dim, keepdim=True) / weights.sum(dim, keepdim=True)


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

    @property
    @override
    def reads_rows(self) -> bool:
        return self.couples

    @property
    @override
    def pools_rows(self) -> bool:
        return current_pass().mask is None

    @override
    def affine(self, seen: Seen | None, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        the_pass = current_pass()
        if seen is None:
            lead = (None, None) if the_pass.batched else (None,)  # the axes T and N, or N alone
            return self.standardised(self.running_mean[lead], self.running_var[lead], own)
        weights = row_weights(the_pass, seen.mean)
        mean, var = seen.mean, seen.var
        if mean.shape[-2] > 1:
            mean, var = pool_moments(mean, var, weights, -2)
        rows = seen.mean.shape[-2] if weights is None else weights.sum((-2, -1)).unsqueeze(-1)
        self.met(mean.squeeze(-2), var.squeeze(-2), rows * seen.count)
        return self.standardised(mean, var, own)

    def met(self, mean: Tensor, var: Tensor, count: int | Tensor) -> None:
        """Leave the moments of a task's rows in the pass, where the layer keeps running ones.

        Args:
            mean: ``[..., C]``.
            var: likewise, not corrected.
            count: of how many numbers they are; a tensor ``[..., 1]`` where rows are masked.
        """
        if not self.running:
            return
        the_pass = current_pass()
        few = max(count - 1, 1) if isinstance(count, int) else (count - 1).clamp(min=1)
        unbiased = var.detach() * (count / few)  # as torch keeps them
        if _current.get() is None:  # called directly, as any module of torch: behave like one
            self.absorb(mean.detach()[None], unbiased[None])
        leave(the_pass, the_pass.names.get(self, ""), mean=mean.detach(), var=unbiased)

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
    def affine(self, seen: Seen | None, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        assert seen is not None
        the_pass = current_pass()
        name = the_pass.names.get(self, "")
        given = the_pass.given
        if given is None:
            weights = row_weights(the_pass, seen.mean)
            mean, var = pool_moments(seen.mean, seen.var, weights, -2)  # [..., 1, C]
            rows = mean.new_full(mean.shape[:-2], seen.mean.shape[-2]) if weights is None else weights.sum((-2, -1))
            leave(the_pass, name, mean=mean.squeeze(-2), var=var.squeeze(-2), count=rows)
        else:
            mean, var = (given[f"{name}.{part}"].unsqueeze(-2) for part in ("mean", "var"))
            rows = given[f"{name}.count"]
        mine = (seen.mean, seen.var) if seen.space else pool_moments(seen.mean, seen.var, None, -1)
        blend = torch.sigmoid(own["scale"] * rows + own["offset"])[..., None, None]
        return self.standardised(*_mixed(mine, (mean, var), blend.to(mean.dtype)), own)


def _mixed(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a mixture of two, of which ``other`` has a share."""
    (mean, var), (other_mean, other_var) = one, other
    # No term is negative: a second moment less the squared mean could be, where one mean is far from the other.
    between = (share * (1 - share)) * (other_mean - mean).square()
    return torch.lerp(mean, other_mean, share), torch.lerp(var, other_var, share) + between


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
    def affine(self, seen: Seen | None, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        assert seen is not None
        size = own["weight"].shape[-1] // self.groups
        mean, var = (part.reshape(*part.shape[:-1], self.groups, size) for part in (seen.mean, seen.var))
        pooled = pool_moments(mean, var, None, -1)  # [..., N, G, 1]
        mean, var = (part.expand(*part.shape[:-1], size).flatten(-2) for part in pooled)
        return self.standardised(mean, var, own)


def made_here(layer: nn.Module) -> bool:
    """Whether ``layer`` is what :func:`make_norm` makes, not a class of others or one made from ours.

    Only then may what it computes be computed elsewhere, together with the layers around it.
    """
    return type(layer) in (BatchNorm, TaskNorm, GroupNorm, nn.Identity)


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
