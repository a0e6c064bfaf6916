"""Floor 4: a traced meta-step as one CUDA graph: captured once, launched at once.

A GPU finishes the small operators of a meta-step sooner than Python can launch them. A CUDA graph holds the launches
of a whole step. It reads and writes fixed places in memory: parameters and buffers where they lie, an episode in
copies that each call fills.

Nothing in a graph may wait for the device: :func:`waits` names the operators of a trace that would.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from quickstudy.train.tracing import Program

_WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.item", "aten.unique")
_WARM_UPS = 3
"""Runs before the capture, in which libraries make their workspaces; torch's own examples take as many."""


def waits(graph: fx.GraphModule) -> list[str]:
    """Operators of a trace for which the host would wait for the device, or that move data between the two."""
    found = []
    for node in graph.graph.nodes:
        name = str(node.target)
        if name.startswith(_WAITS) or (name.startswith("aten._to_copy") and _moves(node)):
            found.append(name)
    return found


def _moves(node: fx.Node) -> bool:
    """Whether a copy lies on another device than what it is of."""
    source = node.args[0]
    if not isinstance(source, fx.Node):  # a number, as which a trace writes a constant without axes
        return node.kwargs.get("device") is not None
    before, after = source.meta.get("val"), node.meta.get("val")
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return True
    return before.device != after.device


def captured(program: Program, graph: fx.GraphModule, n_fixed: int) -> Program:
    """``program`` as a CUDA graph, or as it is where it cannot be one, which is said in a warning.

    Args:
        program: plays ``graph``; its tensors lie on a GPU.
        graph: the trace.
        n_fixed: how many of its first inputs, parameters and buffers, are read where they lie.
    """
    obstacles = waits(graph)
    if obstacles:
        _say(f"the host would wait for {obstacles[0]}")
        return program
    return _Graphed(program, n_fixed)


def _say(why: str) -> None:
    warnings.warn(f"This meta-step runs without a CUDA graph, one launch an operator: {why}.", stacklevel=3)


@dataclass(eq=False)
class _Graphed:
    """Captures at the first call, and again where parameters have moved."""

    program: Program
    n_fixed: int
    graph: torch.cuda.CUDAGraph | None = None
    places: list[int] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    refused: bool = False

    def __call__(self, flat: Sequence[Tensor]) -> list[Tensor]:
        if self.refused:
            return self.program(flat)
        places = [leaf.data_ptr() for leaf in flat[: self.n_fixed]]
        if self.graph is None or places != self.places:
            try:
                self._capture(flat)
            except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
                _say(str(error).split("\n")[0].rstrip("."))
                self.refused, self.graph = True, None
                return self.program(flat)
            self.places = places
        assert self.graph is not None
        for place, leaf in zip(self.inputs[self.n_fixed :], flat[self.n_fixed :], strict=True):
            place.copy_(leaf)
        self.graph.replay()
        return [out.clone() for out in self.outputs]  # the next replay writes into the same places

    def _capture(self, flat: Sequence[Tensor]) -> None:
        self.inputs = [*flat[: self.n_fixed], *(leaf.clone() for leaf in flat[self.n_fixed :])]
        # The warm-ups draw random numbers, which shall be no others in the step itself.
        state = torch.cuda.get_rng_state(flat[0].device)
        stream = torch.cuda.Stream(flat[0].device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                self.program(self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.set_rng_state(state, flat[0].device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self.program(self.inputs)
