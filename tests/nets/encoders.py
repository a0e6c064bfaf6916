"""Small encoders of Hugging Face and tokenizers, drawn at random, in folders as ``save_pretrained`` writes them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from quickstudy.hub import need_transformers

VOCABULARY, PLACES = 40, 8

_DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"hidden_dim": 16},
    "roberta": {"pad_token_id": 1, "max_position_embeddings": PLACES + 2},
    "mpnet": {"pad_token_id": 1, "max_position_embeddings": PLACES + 2},
    "electra": {"embedding_size": 6},
    "albert": {"embedding_size": 6},
    "deberta": _DISENTANGLED,
    "deberta-v2": _DISENTANGLED | {"position_biased_input": False, "position_buckets": 4, "norm_rel_ebd": "layer_norm"},
}
"""Kind -> what its configuration says beside its sizes."""


def saved(kind: str, folder: Path, **changes: Any) -> Path:
    """An encoder that reads ``PLACES`` tokens, with weights large enough that attention matters."""
    transformers = need_transformers("A test")
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": PLACES,
        "pad_token_id": 0,
    }
    config = transformers.AutoConfig.for_model(kind, **(sizes | KINDS[kind] | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.3 * torch.randn_like(p))
    transformers.utils.logging.disable_progress_bar()
    network.save_pretrained(folder)
    return folder


def with_tokenizer(folder: Path, words: Iterable[str]) -> Path:
    """A tokenizer of whole words beside the encoder: [CLS] ... [SEP], 3 for what it does not know."""
    import tokenizers

    transformers = need_transformers("A test")
    numbers = {word: place for place, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *sorted(set(words))])}
    assert len(numbers) <= VOCABULARY
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return folder
