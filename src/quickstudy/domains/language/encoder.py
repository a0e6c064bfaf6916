"""Floor 5: a pretrained encoder that reads the letters of a text, whatever tokens the tasks were made of."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quickstudy.data.tokens import HubTokens
from quickstudy.errors import InputError
from quickstudy.nets.hftext import HFText

__all__ = ["Reader", "reader"]


class Reader(nn.Module):
    """Texts through a tokenizer and an encoder of Hugging Face.

    Args:
        model: ``"minilm"``, a folder, or a name on the hub.
        length: tokens that are kept of a text.

    Raises:
        InputError: a package or the model is missing.
    """

    def __init__(self, model: str = "minilm", length: int = 96) -> None:
        super().__init__()
        self._tokens, self.length = HubTokens(model), length
        example = {"input_ids": (length,), "attention_mask": (length,)}
        self.net = HFText(example, self._tokens.size, model=model, tune="frozen", unit=True)
        self.out_features = self.net.out_features

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``{text [N, B]} -> [N, out_features]``."""
        if not isinstance(x, Mapping) or "text" not in x:
            raise InputError("A reader needs the letters of texts, a leaf 'text'. Use it with a data set of texts.")
        letters = x["text"].to(torch.uint8).cpu().numpy()
        numbers = self._tokens.encode([row.tobytes().rstrip(b"\0").decode() for row in letters], self.length)
        wide = max(map(len, numbers))
        ids = torch.full((len(numbers), wide), self._tokens.padding)
        there = torch.zeros_like(ids)
        for place, row in enumerate(numbers):
            ids[place, : len(row)] = torch.tensor(row)
            there[place, : len(row)] = 1
        device = x["text"].device
        out: Tensor = self.net({"input_ids": ids.to(device), "attention_mask": there.to(device)})
        return out


@functools.cache
def reader(model: str = "minilm") -> Reader:
    """One reader for all baselines of a process: what it read it knows."""
    return Reader(model).eval()
