"""Floor 4: a trace's list of operators made shorter, and quicker to call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["cleaned", "quick"]


def _keeps_order(node: fx.Node) -> bool:
    """Whether a node writes into a tensor or draws from a generator: it stays, and where it is."""
    target = node.target
    if node.op in ("placeholder", "output"):
        return True
    if not isinstance(target, torch._ops.OpOverload):
        return False
    return target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags


def cleaned(graph: fx.GraphModule) -> fx.GraphModule:
    """Without what nobody uses, computes twice, or only passes on."""
    nodes = graph.graph
    nodes.eliminate_dead_code(_keeps_order)
    if not any(node.op == "call_function" and _mutable(node) for node in nodes.nodes):
        _join_equal(nodes)
        nodes.eliminate_dead_code(_keeps_order)
    nodes.lint()
    graph.recompile()
    return graph


def quick(graph: fx.GraphModule) -> fx.GraphModule:
    """The same graph with torch's own functions in place of the operators' overloads, which take longer to call."""
    nodes = fx.Graph()
    nodes.output(nodes.graph_copy(graph.graph, {}))
    for node in nodes.nodes:
        if node.op == "call_function" and str(node.target) in _QUICK:
            node.target = _QUICK[str(node.target)]
    return fx.GraphModule(graph, nodes)


_QUICK: dict[str, Callable[..., Any]] = {
    "aten.add.Tensor": torch.add,
    "aten.addcmul.default": torch.addcmul,
    "aten.baddbmm.default": torch.baddbmm,
    "aten.bmm.default": torch.bmm,
    "aten.expand.default": Tensor.expand,
    "aten.mean.dim": torch.mean,
    "aten.mul.Tensor": torch.mul,
    "aten.mm.default": torch.mm,
    "aten.neg.default": torch.neg,
    "aten.relu.default": torch.relu,
    "aten.squeeze.dim": torch.squeeze,
    "aten.sub.Tensor": torch.sub,
    "aten.sum.dim_IntList": torch.sum,
    "aten.transpose.int": torch.transpose,
    "aten.unsqueeze.default": torch.unsqueeze,
    "aten.view.default": Tensor.view,
    "aten.where.self": torch.where,
}
"""Operators of which a function of torch's own takes the very same arguments."""


def _mutable(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _join_equal(nodes: fx.Graph) -> None:
    """Each pure operator once for the same inputs; ``detach``, which means nothing without autograd, not at all."""
    seen: dict[object, fx.Node] = {}
    for node in list(nodes.nodes):
        if node.op != "call_function" or _keeps_order(node):
            continue
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            nodes.erase_node(node)
            continue
        key = (node.target, _frozen(node.args), _frozen(node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
            nodes.erase_node(node)
        else:
            seen[key] = node


def _frozen(value: Any) -> object:
    """Arguments as a key; types are told apart, as 1, 1.0 and True are equal."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((name, _frozen(part)) for name, part in value.items())
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    return (type(value), value)
