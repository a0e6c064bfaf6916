"""The sampler once more, step by step as the paper and the official code describe it, with a RandomState of NumPy.

Written apart from ``sampling.py``, with lists and loops, and from the JSON of a specification alone.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {"train": "TRAIN", "validation": "VALID", "test": "TEST"}


def _below(graph: list[dict[str, Any]], node: str) -> list[str]:
    """The leaves below a node, sorted, found by walking down with a list of what is left to visit."""
    children = {one["wn_id"]: one["children_ids"] for one in graph}
    seen, left, leaves = set(), [node], set()
    while left:
        here = left.pop()
        if here in seen:
            continue
        seen.add(here)
        left += children[here]
        if not children[here]:
            leaves.add(here)
    return sorted(leaves)


def episodes(path: Path, split: str, seed: int, count: int) -> list[list[tuple[int, int, int]]]:
    """``count`` episodes of one data set: [(class within the split, support, query), ...] each."""
    spec = json.loads(path.read_text())
    order = list(NAMES).index(split)
    nodes: list[list[int]] = []
    alphabets: list[list[int]] = []
    if spec["__class__"].startswith("Hierarchical"):
        graph = spec["split_subgraphs"][NAMES[split]]
        leaves = sorted(node["wn_id"] for node in graph if not node["children_ids"])
        sizes = [spec["images_per_class"][NAMES[split]][leaf] for leaf in leaves]
        for node in sorted(one["wn_id"] for one in graph if one["children_ids"]):
            below = _below(graph, node)
            if 5 <= len(below) <= 392:
                nodes.append([leaves.index(leaf) for leaf in below])
    else:
        if spec["__class__"].startswith("BiLevel"):
            counts = [spec["superclasses_per_split"][key] for key in NAMES.values()]
            of = [spec["classes_per_superclass"][str(n)] for n in range(sum(counts))]
            first = sum(of[: sum(counts[:order])])
            size = 0
            for n in range(sum(counts[:order]), sum(counts[: order + 1])):
                alphabets.append(list(range(size, size + of[n])))
                size += of[n]
        else:
            counts = [spec["classes_per_split"][key] for key in NAMES.values()]
            first, size = sum(counts[:order]), counts[order]
        sizes = [spec["images_per_class"][str(n)] for n in range(first, first + size)]

    rng = np.random.RandomState(seed)
    found = []
    for _ in range(count):
        if nodes:
            rng.random_sample()  # whether the graph shall be ignored: never
            classes = nodes[rng.randint(0, len(nodes))]
            if len(classes) > 50:
                classes = [classes[n] for n in rng.permutation(len(classes))[:50]]
        elif alphabets:
            rng.random_sample()
            alphabet = alphabets[rng.randint(0, len(alphabets), size=1)[0]]
            way = rng.randint(5, min(50, len(alphabet)) + 1)
            classes = [alphabet[n] for n in rng.permutation(len(alphabet))[:way]]
        else:
            way = rng.randint(5, min(50, len(sizes)) + 1)
            classes = list(rng.permutation(len(sizes))[:way])
        have = [sizes[n] for n in classes]
        query = min([10, *(n // 2 for n in have)])
        beta = rng.random_sample()
        support = min(500, sum(int(np.floor(beta * min(100, n - query) + 1)) for n in have))
        drawn = [
            n * np.exp(alpha) for n, alpha in zip(have, rng.uniform(np.log(0.5), np.log(2), len(have)), strict=True)
        ]
        total = np.sum(drawn)
        shots = [
            min(int(np.floor(one / total * (support - len(have)))) + 1, n - query)
            for one, n in zip(drawn, have, strict=True)
        ]
        found.append([(int(c), shot, query) for c, shot in zip(classes, shots, strict=True)])
    return found
