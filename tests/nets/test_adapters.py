"""Adapters against forward hooks, closed forms and the plain network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.nets import MLP, Conv4
from quickstudy.nets.adapters import AbstractAdapter, Film, LowRank, Part, make_adapter, parts_own_names
from quickstudy.nets.apply import Strategy, apply
from tests.smalltasks import assert_close, numbers

T, N = 3, 5


def own(adapter: AbstractAdapter, *, drawn: bool) -> dict[str, Tensor]:
    """The adapter's parameters for each task: as built, or numbers of the task's own."""
    return {
        name: p.detach().expand(T, *p.shape) + (0.3 * numbers(name, T, *p.shape) if drawn else 0)
        for name, p in adapter.named_parameters()
    }


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    torch.manual_seed(0)
    rows, pictures = numbers("rows", T, N, 4), numbers("pictures", T, N, 1, 16, 16)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, groups=1), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3, bias=False))
    return {
        "mlp": (MLP(4, (6, 5), activation="tanh").double(), rows),
        "mlp-layer": (MLP(4, (6, 5), norm="layer", activation="tanh").double(), rows),
        "conv4": (Conv4(1, 16, filters=4, norm="layer", pool="stride").double(), pictures),
        "plain": (plain.double(), pictures),
        "torch-norms": (nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)).double(), rows),
    }


def run(net: nn.Module, adapter: AbstractAdapter, x: Tensor, params: dict[str, Tensor], strategy: Strategy) -> Tensor:
    return apply(net, x, params=adapter.expand(dict(net.named_parameters()), params), strategy=strategy).out.detach()


@pytest.mark.parametrize("part", ["film", "lora"])
@pytest.mark.parametrize("name", list(networks()))
def test_begins_as_the_plain_network_exactly(name: str, part: Part) -> None:
    net, x = networks()[name]
    adapter = make_adapter(net, part, 2)
    assert adapter is not None
    plain = apply(net, x, strategy="loop").out.detach()
    assert torch.equal(run(net, adapter, x, own(adapter, drawn=False), "loop"), plain)
    assert (run(net, adapter, x, own(adapter, drawn=True), "loop") - plain).abs().max() > 1e-2


@pytest.mark.parametrize("part", ["film", "lora"])
@pytest.mark.parametrize("name", ["mlp", "mlp-layer", "conv4"])
def test_strategies_agree(name: str, part: Part) -> None:
    net, x = networks()[name]
    adapter = make_adapter(net, part, 2)
    assert adapter is not None
    params = own(adapter, drawn=True)
    loop = run(net, adapter, x, params, "loop")
    strategies: tuple[Strategy, ...] = ("vmap", "batched")
    for strategy in strategies:
        assert_close(run(net, adapter, x, params, strategy), loop)


@pytest.mark.parametrize("name", list(networks()))
def test_film_is_a_scale_and_a_shift_of_channels(name: str) -> None:
    """The same by hooks that change what each layer puts out."""
    net, x = networks()[name]
    adapter = Film(net)
    params = own(adapter, drawn=True)
    said = run(net, adapter, x, params, "loop")
    layers = dict(net.named_modules())
    assert all(isinstance(layers[w.rpartition(".")[0]], nn.LayerNorm) for w in adapter.weights) == (
        name == "torch-norms"
    )
    for t in range(T):
        handles, n_shift = [], 0
        for number, (weight, bias) in enumerate(zip(adapter.weights, adapter.biases, strict=True)):
            scale = 1 + params[f"scales.{number}"][t]
            shift = torch.zeros_like(scale)
            if bias is not None:
                shift, n_shift = params[f"shifts.{n_shift}"][t], n_shift + 1

            def changed(layer: nn.Module, given: object, out: Tensor, s: Tensor = scale, b: Tensor = shift) -> Tensor:
                del layer, given
                space = (1,) * (out.dim() - 2)
                return out * s.view(-1, *space) + b.view(-1, *space)

            handles.append(layers[weight.rpartition(".")[0]].register_forward_hook(changed))
        with torch.no_grad():
            assert_close(said[t], net(x[t]))
        for handle in handles:
            handle.remove()


def test_low_rank_is_a_second_path_beside_each_layer() -> None:
    """W x + factor B (A x), by hooks; a convolution's A is a convolution too, and B one of 1x1."""
    for name in ("mlp", "plain"):
        net, x = networks()[name]
        adapter = LowRank(net, rank=2, alpha=3.0)
        params = own(adapter, drawn=True)
        said = run(net, adapter, x, params, "loop")
        layers = dict(net.named_modules())
        for t in range(T):
            handles = []
            for number, weight in enumerate(adapter.weights):
                up, down = params[f"up.{number}"][t], params[f"down.{number}"][t]

                def beside(
                    layer: nn.Module, given: tuple[Tensor], out: Tensor, b: Tensor = up, a: Tensor = down
                ) -> Tensor:
                    if isinstance(layer, nn.Conv2d):
                        middle = nn.functional.conv2d(given[0], a.view(-1, *layer.weight.shape[1:]))
                        return out + 1.5 * nn.functional.conv2d(middle, b[..., None, None])
                    return out + 1.5 * given[0] @ a.T @ b.T

                handles.append(layers[weight.rpartition(".")[0]].register_forward_hook(beside))
            with torch.no_grad():
                assert_close(said[t], net(x[t]))
            for handle in handles:
                handle.remove()


def test_full_rank_reaches_every_change() -> None:
    """B = ΔW A^-1 gives W + ΔW: at full rank nothing is lost."""
    net = nn.Linear(4, 4, bias=False).double()
    adapter = LowRank(net, rank=9)
    assert [tuple(p.shape) for p in adapter.parameters()] == [(4, 4), (4, 4)]  # no more than there is
    change, a = numbers("change", 1, 4, 4), adapter.down[0].detach()[None]
    made = adapter.expand(dict(net.named_parameters()), {"up.0": change @ torch.linalg.inv(a), "down.0": a})
    assert_close(made["weight"].detach(), net.weight.detach() + change)


def test_few_numbers_for_a_large_frozen_network() -> None:
    net = MLP(100, (200, 200)).requires_grad_(False)
    whole = sum(p.numel() for p in net.parameters())
    assert sum(p.numel() for p in LowRank(net, 2).parameters()) == 2 * (100 + 200 + 200 + 200) < whole / 30
    assert sum(p.numel() for p in Film(net).parameters()) == 2 * 400
    assert all(p.requires_grad for p in LowRank(net, 2).parameters())


def test_every_matrix_of_a_transformer_once() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.first, self.head = nn.Linear(4, 7), nn.Linear(4, 7)
            self.head.weight = self.first.weight  # tied: one weight, one pair of factors

    net = Language()
    attention = ["layer.self_attn.in_proj_weight", "layer.self_attn.out_proj.weight"]
    assert sorted(LowRank(net).weights) == sorted(
        ["first.weight", "layer.linear1.weight", "layer.linear2.weight", *attention]
    )
    assert Film(net).weights == ("layer.norm1.weight", "layer.norm2.weight")
    assert "layer.self_attn.in_proj_bias" in parts_own_names(net, "biases")
    assert parts_own_names(net, "norms") == {f"layer.norm{n}.{p}" for n in (1, 2) for p in ("weight", "bias")}


def test_a_layer_without_a_bias_gets_no_shift() -> None:
    adapter = Film(nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4)))
    assert {n: p.shape[0] for n, p in adapter.named_parameters()} == {"scales.0": 2, "scales.1": 4, "shifts.0": 4}


@pytest.mark.parametrize(
    ("part", "net", "sentence"),
    [
        ("biases", nn.Linear(2, 2, bias=False), r"part='biases' has nothing to adapt: Linear has no biases that may"),
        ("norms", MLP(3), r"part='norms' has nothing to adapt: MLP has no norms that may change\. Build it with them"),
        ("norms", MLP(3, norm="layer").requires_grad_(False), r"MLP has no norms that may change"),
        ("film", nn.Flatten(), r"part='film' scales and shifts channels, but Flatten has neither norms with weights"),
        ("lora", nn.LayerNorm(3), r"part='lora' factors changes of matrices, but LayerNorm has no linear layer"),
    ],
)
def test_a_part_that_a_network_does_not_have_is_refused(part: Part, net: nn.Module, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parts_own_names(net, part)
        make_adapter(net, part, 4)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"part='lora' needs a rank of at least 1, received 0\."):
        LowRank(MLP(3), rank=0)


def test_film_on_a_norm_over_several_axes() -> None:
    """Scale and shift are those of the first axis, for the bias as for the weight."""
    net = nn.Sequential(nn.LayerNorm([4, 2, 3])).double()
    with torch.no_grad():
        net[0].bias.copy_(numbers("bias", 4, 2, 3))  # type: ignore[operator]
    adapter, x = Film(net), numbers("x", T, N, 4, 2, 3)
    params = own(adapter, drawn=True)
    assert {name: tuple(p.shape) for name, p in params.items()} == {"scales.0": (T, 4), "shifts.0": (T, 4)}
    with torch.no_grad():
        plain = net(x.flatten(0, 1)).unflatten(0, (T, N))
    scale, shift = (params[name][:, None, :, None, None] for name in ("scales.0", "shifts.0"))
    assert_close(run(net, adapter, x, params, "loop"), plain * (1 + scale) + shift)


def test_film_refuses_layers_that_share_a_weight() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    with pytest.raises(InputError, match=r"part='film' cannot scale the layers '0' and '2' apart: they share one weig"):
        Film(net)


@pytest.mark.parametrize("part", ["film", "lora"])
@pytest.mark.parametrize(
    "computed", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.orthogonal, nn.utils.spectral_norm]
)
def test_a_weight_that_is_computed_from_others_is_refused(part: Part, computed: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 3), computed(nn.Linear(3, 3)))
    with pytest.raises(InputError, match=rf"part='{part}' cannot change the layer '1' .* a parametrisation"):
        make_adapter(net, part, 2)
