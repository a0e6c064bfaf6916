"""Floor 3: a network with a head, run with weights of its own for each task.

What MAML, Reptile and fine-tuning share: which weights there are, and which of them are φ, the task's own. The head
turns features ``[T, N, D]`` into outputs:

    fixed    a linear layer of the trained network: one way, knows label numbers (as published)
    shared   one row copied to every class: any way; needs two or more inner steps, because until the second all
             rows are equal and no feature learns. Softmax cannot see what all rows share, so the row itself stays
             about where it began
    proto    a linear layer made from the support's class means, w = 2c and b = -|c|^2 (Triantafillou et al. 2020):
             any way
    none     the network's own outputs are the logits

φ is one ``part`` of the weights; what is not frozen outside of it is still meta-trained. With "biases", "norms", "film"
and "lora" the head is part of φ as well, because a new task needs at least that:

    all      network and head
    head     the head alone; features are computed once
    body     the network alone (a fixed head stays as it was meta-trained)
    biases   each bias of the network
    norms    the weights of its norms
    film     a scale and a shift for each channel, folded into norms, or into layers where there are none
    lora     low-rank factors of the change of each matrix; θ has them too, and they are meta-trained
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from quickstudy.episode import Classes, Examples, MultiLabel, Real, as_inputs
from quickstudy.errors import InputError
from quickstudy.inner import Params, TaskLosses
from quickstudy.learners.parts.classwise import class_means, mask_absent
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.adapters import Part as Part
from quickstudy.nets.adapters import make_adapter, parts_own_names
from quickstudy.nets.apply import STRATEGIES, Applied, Strategy, apply
from quickstudy.nets.dense import Layer, task_linear
from quickstudy.nets.mlp import init_small_normal
from quickstudy.nets.norms import Moments, needs_support_moments, running_layer, uses_current_rows

Head: TypeAlias = Literal["fixed", "shared", "proto", "none"]
TargetKind: TypeAlias = Literal["classes", "multi-label", "real"]


class HeadedNet(nn.Module):
    """A network and its head.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]`` (to outputs, with ``head="none"``).
        outputs: W, the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``; the last two have a fixed head, or none.
        head: see the module.
        part: what is adapted to a task; see the module.
        rank: of ``part="lora"``.
        out_features: D, where the network has no attribute ``out_features``.
        strategy: how to run the network; see ``nets.apply``.

    Raises:
        InputError: no such option, the head does not fit the target, the part does not fit the network, or a size is
            not known or no size.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None,
        target: TargetKind,
        head: Head,
        *,
        part: Part = "all",
        rank: int = 4,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        self.net, self.outputs, self.target, self.kind, self.strategy = net, outputs, target, head, strategy
        features = out_features if out_features is not None else getattr(net, "out_features", None)
        one_of("This learner", "strategy", strategy, STRATEGIES)
        _check(net, outputs, target, head, part, features)
        self.features_size = features if isinstance(features, int) else 0
        if head in ("fixed", "shared"):
            self.head = nn.Linear(self.features_size, outputs if head == "fixed" and outputs is not None else 1)
            self.reset_parameters()
        # What is adapted was decided when the network was built: a later requires_grad_(False), as for an
        # evaluation, must not change what the learner does.
        mine = {f"net.{name}" for name in parts_own_names(net, part)}
        self.adapter = make_adapter(net, part, rank)
        self.adapted = tuple(
            name
            for name, _ in self.named_parameters()
            if name in mine or name.startswith("adapter.") or (name.startswith("head.") and part != "body")
        )
        if head != "proto" and not self.adapted:
            raise InputError("Nothing to adapt: every parameter of the network is frozen (requires_grad=False).")

    def reset_parameters(self) -> None:
        """A head as small as the network's own weights, where that asks for small ones."""
        if getattr(self.net, "init", "default") == "normal-0.01" and isinstance(getattr(self, "head", None), nn.Linear):
            init_small_normal(self.head)

    @property
    def body_is_fixed(self) -> bool:
        """Whether a task changes the head alone, so that an example's features are the same all along."""
        return all(name.startswith("head.") for name in self.adapted)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """The shape of each member of φ without its task axis; heads for any way have one class here, for all."""
        named = dict(self.named_parameters())
        found = {name: named[name].shape for name in self.adapted}
        if self.kind == "proto":
            found |= {"head.weight": torch.Size([1, self.features_size]), "head.bias": torch.Size([1])}
        return found

    def start(self, support: Examples) -> Params:
        """θ for each task: name -> ``[T, ...]``.

        Raises:
            InputError: the tasks do not fit; see :meth:`check`.
        """
        self.check(support)
        n_task = support.n_task
        named = dict(self.named_parameters())
        params = {name: named[name].expand(n_task, *named[name].shape) for name in self.adapted}
        if self.kind == "shared":
            params |= {
                n: params[n].expand(-1, support.max_way, *params[n].shape[2:])
                for n in ("head.weight", "head.bias")
                if n in params
            }
        if self.kind == "proto":
            centre, _ = class_means(self.features(support), support)
            params |= {"head.weight": 2 * centre, "head.bias": -centre.square().sum(2)}
        return params

    def run(self, params: Params, examples: Examples, given: Moments | None = None) -> tuple[Tensor, Applied]:
        """Outputs ``[T, N, W or D]``, -inf for classes that a task does not have, and what the network gave.

        Args:
            params: name -> ``[T, ...]``.
            examples: ``[T, N, ...]``.
            given: norm moments measured on the support.
        """
        head = self._head_on_top(params)
        applied = self.embed(params, examples, given, head)
        if applied.headed:
            return self._outputs(applied.out, examples), applied
        return self.read_out(params, applied.out, examples), applied

    def as_chain(self, params: Params, examples: Examples) -> tuple[Tensor, list[Layer]] | None:
        """Inputs ``[T, N, I]`` and all layers, where tasks adapt each of a chain of linear layers; else None.

        Args:
            params: φ, name -> ``[T, ...]``.
            examples: ``[T, N, ...]``.
        """
        chain, head, x = getattr(self.net, "as_chain", None), self._head_on_top(params), examples.x
        if chain is None or head is None or not isinstance(x, Tensor) or examples.mask is not None:
            return None
        if self.adapter is not None or self.strategy not in ("auto", "batched") or "head.weight" not in params:
            return None
        body = {name.removeprefix("net."): p for name, p in params.items() if name.startswith("net.")}
        if len(body) != sum(1 for _ in self.net.parameters()):
            return None
        found = chain(body, as_inputs(x, head[0].dtype))
        return None if found is None else (found[0], [*found[1], head])

    def embed(
        self, params: Params, examples: Examples, given: Moments | None = None, head: Layer | None = None
    ) -> Applied:
        """Features ``[T, N, D]`` under each task's weights, and norm moments.

        Args:
            params: as in :meth:`run`, like the others.
            examples: ``[T, N, ...]``.
            given: norm moments measured on the support.
            head: computed along with the network where that has a place for it (``Applied.headed``).
        """
        body = {name.removeprefix("net."): p for name, p in params.items() if name.startswith("net.")}
        if self.adapter is not None:
            # Where a task says nothing, θ's own.
            own = {
                name: params[f"adapter.{name}"] if f"adapter.{name}" in params else p.expand(examples.n_task, *p.shape)
                for name, p in self.adapter.named_parameters()
            }
            body |= self.adapter.expand(dict(self.net.named_parameters()), own)
        found = apply(
            self.net,
            examples.x,
            params=body or None,
            mask=examples.mask,
            given=given,
            strategy=self.strategy,
            head=head,
        )
        if not found.headed:
            self._check_out(found.out)
        return found

    def _check_out(self, out: Tensor) -> None:
        """The network puts out what the head was built for.

        Raises:
            InputError: naming both shapes.
        """
        size = self.outputs if self.kind == "none" else self.features_size
        if out.dim() != 3 or out.shape[2] != size:
            option = "outputs" if self.kind == "none" else "out_features"
            found = ", ".join(["N", *map(str, out.shape[2:])])
            raise InputError(
                f"Expected [N, {size}] from {type(self.net).__name__}, for which this learner was built, found "
                f"[{found}]. Flatten what it puts out, or pass {option}= its size."
            )

    def room(self, params: Params) -> int | None:
        """How many outputs φ gives a task, at most: its head's rows, or what the network was built for."""
        head = params.get("head.bias")
        return self.outputs if head is None else head.shape[1]

    def read_out(self, params: Params, features: Tensor, examples: Examples) -> Tensor:
        """Outputs from features; arguments as in :meth:`run`."""
        head = self._head(params)
        return self._outputs(features if head is None else task_linear(features, *head), examples)

    def _head(self, params: Params) -> Layer | None:
        """The head's weight and bias; one that is not adapted is not among the parameters."""
        if self.kind == "none":
            return None
        weight, bias = params.get("head.weight"), params.get("head.bias")
        return self.head.weight if weight is None else weight, self.head.bias if bias is None else bias

    def _head_on_top(self, params: Params) -> Layer | None:
        """The head where the network puts out what it was built for; else `embed` shall complain."""
        return self._head(params) if getattr(self.net, "out_features", None) == self.features_size else None

    @staticmethod
    def _outputs(out: Tensor, examples: Examples) -> Tensor:
        """``out`` for the classes that these tasks have."""
        if isinstance(examples.target, MultiLabel):
            return out[..., : examples.max_way]
        return mask_absent(out, examples)

    def features(self, examples: Examples) -> Tensor:
        """``[T, N, D]`` under θ."""
        return self.embed({}, examples).out

    def support_moments(self, params: Params, support: Examples) -> Moments | None:
        """What norms must know of the support before they see a query (None where nothing)."""
        if not needs_support_moments(self.net):
            return None
        return self.run(params, support)[1].moments

    def check(self, examples: Examples, params: Params | None = None) -> None:
        """The tasks are of the kind that the head was built for.

        Args:
            examples: of any tasks.
            params: φ of an earlier state of these tasks, to go on from.

        Raises:
            InputError: targets of another kind or size, or more classes than a fixed head or the earlier state has.
        """
        if _kind_of(examples) != self.target:
            raise InputError(
                f"This learner was built for target={self.target!r}, the tasks have {_kind_of(examples)!r}. "
                "Build it with the tasks' target."
            )
        if isinstance(examples.target, Real):
            if examples.target.dim != self.outputs:
                raise InputError(
                    f"This learner was built for {self.outputs} real values an example, the tasks have "
                    f"{examples.target.dim}. Build it with outputs={examples.target.dim}."
                )
        elif self.kind in ("fixed", "none"):
            assert self.outputs is not None
            if examples.max_way > self.outputs:
                raise InputError(
                    f"Cannot learn {examples.max_way}-way tasks: this learner's head has {self.outputs} outputs. "
                    "Use head='shared' or head='proto', or meta-train with the larger way."
                )
        if params is not None:
            _check_earlier(examples, params)


def _check_earlier(examples: Examples, params: Params) -> None:
    """φ of an earlier state knows the classes of these tasks."""
    head = params.get("head.bias")
    if head is not None and isinstance(examples.target, Classes) and examples.max_way > head.shape[1]:
        raise InputError(
            f"Cannot go on with {examples.max_way}-way tasks: the state has {head.shape[1]} classes. Adapt to all "
            "classes from the start."
        )


def module_key(name: str) -> str:
    """A parameter's name as that of an entry in a ParameterDict or ModuleDict, which cannot hold dots."""
    return name.replace(".", "/")


def _kind_of(examples: Examples) -> TargetKind:
    if isinstance(examples.target, Real):
        return "real"
    return "multi-label" if isinstance(examples.target, MultiLabel) else "classes"


def _check(net: nn.Module, outputs: int | None, target: TargetKind, head: Head, part: Part, features: object) -> None:
    """Options that do not fit together, each with its sentence."""
    one_of("This learner", "target", target, get_args(TargetKind))
    one_of("This learner", "head", head, get_args(Head))
    if part not in get_args(Part):
        raise InputError(f"There is no part called {part!r}. Known: {', '.join(get_args(Part))}.")
    if target != "classes" and head in ("shared", "proto"):
        raise InputError(f"head={head!r} makes a row for each class, but the targets are {target}. Use head='fixed'.")
    if head in ("fixed", "none") and outputs is None:
        raise InputError(f"head={head!r} needs to know its size: pass outputs= (the way, or the target's dimension).")
    if outputs is not None and (not isinstance(outputs, int) or outputs < 1):
        raise InputError(f"A head has a whole number of outputs, at least 1, received outputs={outputs!r}.")
    if head != "none" and not isinstance(features, int):
        raise InputError(
            f"Cannot build a head on {type(net).__name__}: its feature size is not known. "
            "Give the network an attribute out_features, or use head='none' if it outputs logits."
        )
    if head == "none" and part in ("head", "body"):
        raise InputError(f"part={part!r} asks for a network and a head, but head='none'. Use another head.")
    if head in ("shared", "proto") and part == "body":
        raise InputError(
            f"part='body' leaves the head as it was meta-trained, but head={head!r} is made anew for each task. "
            "Use head='fixed'."
        )


def losses_on(
    model: HeadedNet,
    loss: Callable[[Tensor, Examples], Tensor],
    examples: Examples,
    features: Tensor | None = None,
) -> TaskLosses:
    """Weights ``[T, ...]`` -> loss ``[T]`` on these examples: what an inner loop descends.

    Args:
        model: the network.
        loss: (outputs, examples) -> ``[T]``.
        examples: labelled.
        features: theirs, if they are known already; read only where tasks change the head alone.
    """
    if model.body_is_fixed:
        features = model.features(examples) if features is None else features
        return lambda params: loss(model.read_out(params, features, examples), examples)

    return lambda params: loss(model.run(params, examples)[0], examples)


def check_norms(net: nn.Module, *, transductive: bool, one_query_at_a_time: bool = False) -> None:
    """A gradient-based learner's norms must be inductive, or transductive because that was asked for.

    Args:
        net: the network.
        transductive: queries may see each other.
        one_query_at_a_time: the learner normalises each query with the support alone, so that norms over the
            current rows are inductive after all.

    Raises:
        InputError: naming the layer and the way out.
    """
    layer = running_layer(net)
    if layer is not None:
        raise InputError(
            f"Layer {layer!r} keeps running statistics, with which gradient-based learners fall to chance on new "
            "tasks. Use norm='task' (inductive), or norm='transductive' with transductive=True as published."
        )
    if uses_current_rows(net) and not transductive and not one_query_at_a_time:
        raise InputError(
            "This network normalises with the current rows, so a prediction would depend on the queries beside it. "
            "Use norm='task', or ask for it with transductive=True."
        )
    if transductive and not uses_current_rows(net):
        raise InputError(
            "transductive=True needs a network whose norms use the current rows; this one has none. "
            "Build the network with norm='transductive', or leave transductive=False."
        )


def default_norm(*, transductive: bool) -> str:
    """The norm that gradient-based learners take where none is named."""
    return "transductive" if transductive else "task"
