"""Floor 4: the arithmetic of a training step: float32, or less of it where that was asked for.

    float32   as the weights are (float64 for a learner in float64)
    tf32      matrix products and convolutions of float32 with ten bits of fraction, by the tensor cores of a GPU
    bf16      the same in bfloat16, seven bits of fraction, by ``torch.autocast`` around the learner's loss
    fp16      the same in float16, ten bits of fraction and few exponents: losses are scaled, the inner ones too

Weights, fast weights, the optimiser and what is absorbed stay float32 in all of them; so do validations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner.scaled import scaled
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits

__all__ = [
    "InPrecision",
    "LossScale",
    "Precision",
    "check_precision",
    "in_full",
    "in_precision",
    "mixed",
    "remark",
    "tensor_cores",
]

Precision: TypeAlias = Literal["float32", "tf32", "bf16", "fp16"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_SHORT = tuple(_AUTOCAST.values())
FIRST_SCALE = 2.0**16
_LARGEST_SCALE, _PATIENCE = 2.0**24, 2000  # steps without an overflow after which the scale is doubled
_TESTED_SCALE = 2.0**10

_AMPERE = (8, 0)  # compute capability of the first GPUs with units for TF32 and bfloat16


def check_precision(precision: str, learner: AbstractLearner) -> None:
    """Whether a learner can be computed so, where it lies.

    Raises:
        InputError: there is no such precision, the learner is not in float32, or its device knows no bfloat16.
    """
    if precision not in get_args(Precision):
        raise InputError(f"There is no precision called {precision!r}. Use one of {', '.join(get_args(Precision))}.")
    if precision == "float32":
        return
    other = next((p.dtype for p in learner.parameters() if p.is_floating_point() and p.dtype != torch.float32), None)
    if other is not None:
        raise InputError(
            f"Cannot compute {type(learner).__name__} in {precision}: its weights are {other}, and {precision} is a "
            "shorter arithmetic for weights in float32. Leave precision out, or give it weights in float32."
        )
    kind = next((p.device.type for p in learner.parameters()), "cpu")
    if precision in _AUTOCAST and not torch.amp.is_autocast_available(kind):
        raise InputError(
            f"Cannot compute in {precision} on the device {kind!r}: torch has no autocast for it. Use 'float32'."
        )


def remark(precision: str, device: torch.device) -> str | None:
    """A sentence where a precision is of no use on a device; None where it is.

    >>> remark("tf32", torch.device("cpu"))
    'precision: tf32 changes nothing on a cpu, only on a GPU with tensor cores; this is computed in float32.'
    """
    if precision not in ("tf32", "bf16"):  # any GPU has units for fp16
        return None
    if device.type != "cuda":
        nothing = f"precision: tf32 changes nothing on a {device.type}, only on a GPU with tensor cores; "
        return None if precision == "bf16" else nothing + "this is computed in float32."
    if torch.cuda.get_device_capability(device) >= _AMPERE:
        return None
    name = torch.cuda.get_device_name(device)
    if precision == "tf32":
        return f"precision: tf32 changes nothing on this GPU ({name}), which has no units for it."
    return f"precision: this GPU ({name}) has no units for bf16, which may be slower than float32 on it."


def tensor_cores(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """TF32 inside, where it was asked for and the device is a GPU; afterwards torch's settings are as before."""
    return _tf32() if precision == "tf32" and device.type == "cuda" else nullcontext()


@contextmanager
def _tf32() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    # From torch 2.9 on there are newer settings beside the older ones. The older say both, and torch's own inductor
    # reads both; but where somebody has set one of the newer alone, torch refuses to read the older.
    newer = [each for each in (matmul, getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None)) if each is not None]
    told = [(each, each.fp32_precision) for each in newer if hasattr(each, "fp32_precision")]
    try:
        older = [(each, each.allow_tf32) for each in (matmul, cudnn)]
    except RuntimeError:
        older = []
    try:
        for each, _ in older:
            each.allow_tf32 = True
        for each, _ in [] if older else told:
            each.fp32_precision = "tf32"
        yield
    finally:
        for each, before in older:
            each.allow_tf32 = before
        for each, said in told:
            each.fp32_precision = said


@contextmanager
def mixed(precision: Precision, device: torch.device, scale: float = _TESTED_SCALE) -> Iterator[None]:
    """Autocast to bfloat16 or float16 inside, where it was asked for; for what is computed forwards.

    Args:
        precision: what was asked for.
        device: where it is computed.
        scale: in float16, what inner losses are multiplied by.
    """
    if precision not in _AUTOCAST:
        yield
        return
    # Without its cache of cast weights: in older versions of torch what was cast under no_grad cut the gradient of who
    # read it next (pytorch #158232), and a trace must hold each cast.
    with (
        torch.autocast(device.type, _AUTOCAST[precision], cache_enabled=False),
        scaled(scale if precision == "fp16" else 1.0),
    ):
        yield


@dataclass
class LossScale:
    """What the losses of a training in float16 are multiplied by.

    It is halved where a gradient is no number, and doubled after two thousand steps without that: powers of two, so
    that nothing is rounded.

    Args:
        value: the scale.
        good: steps since it was changed.
    """

    value: float = FIRST_SCALE
    good: int = 0

    def undo(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by it."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / self.value)

    def lower(self) -> bool:
        """After an overflow; False where there is nothing left to lower, so that it is not the scale's fault."""
        if self.value <= 1:
            return False
        self.value, self.good = self.value / 2, 0
        return True

    def held(self) -> None:
        """After a step without one."""
        self.good += 1
        if self.good >= _PATIENCE and self.value < _LARGEST_SCALE:
            self.value, self.good = self.value * 2, 0


def in_full(out: MetaLoss) -> MetaLoss:
    """The same with float32 for shorter numbers, so that sums over tasks, and buffers, keep their digits."""

    def wide(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.float() if value.dtype in _SHORT else value for name, value in values.items()}

    return replace(out, **wide({"loss": out.loss}), logs=wide(out.logs), carried=wide(out.carried))


def in_precision(learner: AbstractLearner, precision: Precision) -> AbstractLearner:
    """``learner`` as it is tested in a precision; itself where that is what it computes in anyway."""
    return learner if precision == "float32" else InPrecision(learner, precision)


class InPrecision(AbstractLearner):
    """A learner that adapts and predicts in another precision, to be tested in it; it is not trained so.

    Args:
        learner: on its device; shared, not copied.
        precision: ``"float32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``.

    Raises:
        InputError: it cannot be computed so; see :func:`check_precision`.

    >>> from quickstudy.learners import KNN
    >>> InPrecision(KNN(), "bf16").traits == KNN().traits
    True
    """

    def __init__(self, learner: AbstractLearner, precision: Precision) -> None:
        super().__init__()
        check_precision(precision, learner)
        self.learner, self.precision = learner, precision

    @property
    @override
    def traits(self) -> Traits:
        return self.learner.traits

    @override
    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        with tensor_cores(self.precision, support.device), mixed(self.precision, support.device):
            return self.learner.adapt(support, state=state, key=key)

    @override
    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        with tensor_cores(self.precision, query.device), mixed(self.precision, query.device):
            outputs = self.learner.predict(state, query, key=key)
        return outputs.float() if outputs.dtype in _SHORT else outputs
