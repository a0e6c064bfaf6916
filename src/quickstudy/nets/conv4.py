"""Conv-4, the network of the few-shot papers (Vinyals et al. 2016; Snell et al. 2017; Finn et al. 2017)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy import native
from quickstudy.episode import may_read
from quickstudy.errors import InputError
from quickstudy.nets.convolution import conv2d
from quickstudy.nets.norms import AbstractNorm, BatchNorm, Seen, made_here, make_norm
from quickstudy.nets.rectify import rectify
from quickstudy.nets.stem import MOST_INPUTS, stem
from quickstudy.nets.strategy import listened_to
from quickstudy.nets.summary import extremes, summarise
from quickstudy.nets.tail import Tail, tail

# Norms after which a channel's constant offset is gone, so that a convolution's bias could learn nothing.
_CENTRING = ("batch", "transductive", "task", "instance")


class ConvBlock(nn.Module):
    """3x3 convolution, norm, ReLU, and halving by max-pooling or by stride.

    Norm, pooling and ReLU are computed together: the norm is an affine map, so of each window only the extreme value
    need be normalised and rectified (see ``summary.py``), which is the same at a quarter of the work.

    Args:
        in_channels: channels in.
        channels: channels out.
        pool: ``"max"`` (2x2 max-pooling), ``"stride"`` (stride 2, as MAML and Reptile on Omniglot) or ``"none"``.
        norm: one of ``nets.norms.NORMS``.
        padding: zeros around the map: 1 keeps its size.
    """

    def __init__(self, in_channels: int, channels: int, pool: str, norm: str, padding: int = 1) -> None:
        super().__init__()
        self.pool, self.padding = pool, padding
        stride = 2 if pool == "stride" else 1
        self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=padding, bias=norm not in _CENTRING)
        self.norm = make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, channels, H/2, W/2]``."""
        if not self.as_built:
            return self._one_by_one(x)
        own: dict[str, Tensor] = dict(self.norm.named_parameters(recurse=False))
        first = self._as_stem(x, self.conv.weight, own)
        if first is not None:
            return first
        x = conv2d(x, self.conv.weight, self.conv.stride[0], self.padding)
        if self.conv.bias is not None:
            x = x + self.conv.bias[:, None, None]
        return self._after(x, own)

    @property
    def as_built(self) -> bool:
        """Whether nobody exchanged a layer, changed what it does, or listens to it: else each has to be called."""
        conv, steps = self.conv, 2 if self.pool == "stride" else 1
        if type(conv) is not nn.Conv2d or not made_here(self.norm) or listened_to(conv, self.norm):
            return False
        window = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        built = ((3, 3), (steps, steps), (self.padding, self.padding), (1, 1))
        return window == built and conv.groups == 1 and conv.padding_mode == "zeros"

    def _one_by_one(self, x: Tensor) -> Tensor:
        """The same by calling each layer."""
        x = self.norm(self.conv(x))
        return F.relu(F.max_pool2d(x, 2) if self.pool == "max" else x)

    def batched(self, params: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
        """``[T, N, C, H, W] -> [T, N, channels, H/2, W/2]`` with a weight of its own for each task, or shared."""
        weight, bias = params[f"{prefix}conv.weight"], params.get(f"{prefix}conv.bias")
        own = {name: params[f"{prefix}norm.{name}"] for name, _ in self.norm.named_parameters()}
        first = self._as_stem(x, weight, own)
        if first is not None:
            return first
        x = task_conv2d(x, weight, bias, self.conv.stride[0], self.padding)
        beside = self._side_by_side(x, own) if weight.dim() == 5 else None
        return self._after(x, own) if beside is None else beside

    def _after(self, x: Tensor, own: dict[str, Tensor]) -> Tensor:
        """Norm, pooling and ReLU of ``[..., N, channels, H, W]``."""
        lead = x.shape[:-3]
        joined = self._joined(x, own)
        if joined is not None:
            return joined
        maps = x.flatten(0, -4)
        if not isinstance(self.norm, AbstractNorm):
            halved = F.relu(F.max_pool2d(maps, 2) if self.pool == "max" else maps)
            return halved.view(*lead, *halved.shape[1:])
        norm, pooled = self.norm, self.pool == "max"
        norm.check(x, own)
        signs = self._signs(own["weight"], lead, x.dtype) if pooled else None
        if norm.reads_rows:
            groups = Seen.groups(x, len(lead), pooled=norm.pools_rows)
            summary = summarise(maps, signs, peaks=pooled, groups=groups)
            seen, peaks = Seen.summarised(summary, x, len(lead)), summary.peaks
        else:
            seen, peaks = None, extremes(maps, signs) if pooled else None
        values = maps if peaks is None else peaks
        return rectify(values.view(*lead, *values.shape[1:]), *norm.affine(seen, own))

    def _as_stem(self, x: Tensor, kernel: Tensor, own: dict[str, Tensor]) -> Tensor | None:
        """The whole block as one operator, where it is a network's first and C may be used; else None."""
        norm = self._over_rows()
        # Asked before the rows are laid out. A bias that was put in moves the running mean.
        if norm is None or self.conv.bias is not None or x.requires_grad or x.shape[-3] > MOST_INPUTS:
            return None
        rows, groups = x.flatten(0, -4), Seen.groups(x, x.dim() - 3, pooled=True)
        own_weights = kernel.dim() == 5
        found = stem(
            rows,
            kernel,
            own["weight"],
            own["bias"],
            groups=groups,
            pooled=self.pool == "max",
            stride=self.conv.stride[0],
            padding=self.padding,
            eps=norm.eps,
            beside=own_weights,
        )
        return None if found is None else self._met(found, norm, x.shape[:-3], beside=own_weights)

    def _joined(self, x: Tensor, own: dict[str, Tensor]) -> Tensor | None:
        """What follows the convolution as one operator, where C may be used; else None."""
        norm = self._over_rows()
        if norm is None:
            return None
        norm.check(x, own)
        groups = Seen.groups(x, x.dim() - 3, pooled=True)
        pooled = self.pool == "max"
        found = tail(x.flatten(0, -4), own["weight"], own["bias"], groups=groups, pooled=pooled, eps=norm.eps)
        return None if found is None else self._met(found, norm, x.shape[:-3])

    def _side_by_side(self, x: Tensor, own: dict[str, Tensor]) -> Tensor | None:
        """As :meth:`_joined`, of maps that :func:`task_conv2d` left side by side: channels of one row, ``[N, T·C]``."""
        norm = self._over_rows()
        if norm is None:
            return None
        norm.check(x, own)
        n_task, channels = x.shape[0], x.shape[2]
        weight, bias = (own[name].expand(n_task, channels).flatten() for name in ("weight", "bias"))
        found = tail(beside(x), weight, bias, groups=1, pooled=self.pool == "max", eps=norm.eps)
        return None if found is None else self._met(found, norm, x.shape[:2], beside=True)

    def _over_rows(self) -> BatchNorm | None:
        """The norm, if it takes its moments over all rows of a task together."""
        norm = self.norm
        return norm if type(norm) is BatchNorm and norm.reads_rows and norm.pools_rows else None

    @staticmethod
    def _met(found: Tail, norm: BatchNorm, lead: torch.Size, *, beside: bool = False) -> Tensor:
        """Leaves the moments in the pass, and gives the output its axes back."""
        mean, var = (part.view(*lead[:-1], -1) for part in (found.mean, found.var))
        norm.met(mean, var, found.count)
        return apart(found.y, lead[0]) if beside else found.y.view(*lead, *found.y.shape[1:])

    def _signs(self, weight: Tensor, lead: torch.Size, dtype: torch.dtype) -> Tensor | None:
        """-1 where a norm's scale turns a channel's smallest value into the largest; None if nowhere.

        Args:
            weight: the norm's, ``[C]`` or ``[T, C]``.
            lead: the axes before the channels, N or T and N.
            dtype: the map's, which need not be the norm's.

        Returns:
            ``[C]`` or ``[T·N, C]``.
        """
        weight = weight.detach()
        # Where looking would make a GPU wait, or is not possible, the signs are always used.
        if may_read() and not weight.is_cuda and not native.watched():
            if not bool((weight < 0).any()):
                return None
        signs = torch.where(weight < 0, -1.0, 1.0).to(dtype)
        return signs if weight.dim() == 1 else signs.repeat_interleave(lead[1], 0)


def task_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 1) -> Tensor:
    """A 3x3 convolution with a task axis.

    Args:
        x: ``[T, N, C, H, W]``.
        weight: ``[O, C, 3, 3]``, or one a task, ``[T, O, C, 3, 3]`` (then a grouped convolution).
        bias: ``[O]``, ``[T, O]`` or None.
        stride: of the convolution.
        padding: zeros around the map.
    """
    n_task = x.shape[0]
    if weight.dim() == 4:
        rows = conv2d(x.flatten(0, 1), weight, stride, padding)
        out = rows.reshape(n_task, -1, *rows.shape[1:])
    else:
        out = apart(conv2d(beside(x), weight.flatten(0, 1), stride, padding, groups=n_task), n_task)
    if bias is None:
        return out
    return out + (bias[None, None] if bias.dim() == 1 else bias[:, None])[..., None, None]


def beside(x: Tensor) -> Tensor:
    """``[T, N, C, H, W] -> [N, T·C, H, W]``, all tasks' channels in one row; a view of what :func:`apart` gives."""
    x = x.transpose(0, 1).flatten(1, 2)
    return x.contiguous(memory_format=torch.channels_last) if native.usable(x) else x


def apart(x: Tensor, n_task: int) -> Tensor:
    """The way back from :func:`beside`, a view."""
    return x.reshape(x.shape[0], n_task, -1, *x.shape[2:]).transpose(0, 1)


class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, norm, ReLU and halving.

    ``map_shape`` is the shape of the last map, ``(C, H, W)``, which ``readout="flatten"`` lays flat; None with another
    readout.

    Args:
        in_channels: 1 for grey pictures, 3 for colour.
        image_size: height and width of the (square) pictures.
        filters: channels of each block: 64 (Omniglot) or 32 (MAML on miniImageNet).
        pool: ``"max"`` or ``"stride"``.
        norm: one of ``nets.norms.NORMS``; see there which are inductive.
        readout: ``"flatten"`` the last map, or its spatial ``"mean"`` (MAML on Omniglot).
        halvings: how many blocks halve, the first ones; 2 in the encoder of relation networks.
        padded: zeros around every map; False: none in the blocks that halve, as in that encoder.

    Raises:
        InputError: the pictures are too small for four halvings.
    """

    channels_last = True  # see nets.apply.laid_out

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        *,
        filters: int = 64,
        pool: Literal["max", "stride"] = "max",
        norm: Literal["batch", "transductive", "task", "group", "layer", "instance", "none"] = "batch",
        readout: Literal["flatten", "mean"] = "flatten",
        halvings: int = 4,
        padded: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(image_size, int):
            raise InputError(f"Conv-4 takes square pictures: image_size is one whole number, received {image_size!r}.")
        if min(filters, in_channels) < 1:
            raise InputError(f"Conv-4 needs at least one channel and one filter, received {in_channels} and {filters}.")
        if not 0 <= halvings <= 4:
            raise InputError(f"Conv-4 has four blocks, so 0 to 4 of them can halve, received halvings={halvings}.")
        size = image_size
        for _ in range(halvings):
            size -= 0 if padded else 2
            size = size // 2 if pool == "max" else (size + 1) // 2
        if size < 1:
            times = {4: "four times", 3: "three times", 2: "twice", 1: "once"}[halvings]
            raise InputError(
                f"Cannot halve pictures of {image_size} pixels {times}. Four halvings need at least 16x16 with "
                "pool='max'; use pool='stride', larger pictures, or fewer halvings."
            )
        channels = [in_channels, filters, filters, filters, filters]
        halved = [True] * halvings + [False] * (4 - halvings)
        self.blocks = nn.ModuleList(
            ConvBlock(before, after, pool if halve else "none", norm, padding=0 if halve and not padded else 1)
            for (before, after), halve in zip(pairwise(channels), halved, strict=True)
        )
        # Against a loop on 28x28 pictures 0.5 to 0.95 of its time with strides or 32 filters, 0.9 to 1.4 else; no less
        # than the loop's on larger ones (benchmarks/strategies.py).
        self.batched_on_cpu = image_size <= 32 and (pool == "stride" or filters <= 32)
        self.in_channels, self.image_size, self.readout = in_channels, image_size, readout
        self.map_shape = (filters, size, size) if readout == "flatten" else None
        self.out_features = filters * (size * size if readout == "flatten" else 1)

    def _check(self, x: Tensor) -> None:
        if x.shape[-3:] != (self.in_channels, self.image_size, self.image_size):
            raise InputError(
                f"This Conv-4 was built for pictures of shape [{self.in_channels}, {self.image_size}, "
                f"{self.image_size}], received {list(x.shape[-3:])}. Resize the pictures, or build the network with "
                f"in_channels={x.shape[-3] if x.dim() > 2 else '?'} and image_size={x.shape[-1]}."
            )

    @property
    def layers_as_built(self) -> bool:
        """Whether its form with a task axis computes what its layers do; see ``nets.strategy``."""
        return all(type(block) is ConvBlock and block.as_built for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``."""
        self._check(x)
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3)) if self.readout == "mean" else x.flatten(1)

    def batched(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[T, N, C, H, W] -> [T, N, out_features]``; see ``nets.apply``."""
        self._check(x)
        for number, block in enumerate(self.blocks):
            assert isinstance(block, ConvBlock)
            x = block.batched(params, f"blocks.{number}.", x)
        return x.mean((3, 4)) if self.readout == "mean" else x.flatten(2)
