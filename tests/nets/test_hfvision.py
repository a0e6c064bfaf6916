"""Networks of transformers and timm: made offline, read from a folder, twice differentiable, frozen or not."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.learners import MAML, ProtoNet
from quickstudy.nets.apply import apply
from quickstudy.nets.registry import nets
from tests.smalltasks import assert_close, numbers

transformers: Any = pytest.importorskip("transformers")

SMALL: dict[str, dict[str, Any]] = {
    "vit": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12},
    "convnext": {"hidden_sizes": [4, 6], "depths": [1, 1], "num_stages": 2},
    "resnet": {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1]},
}
FAMILIES = list(SMALL)


def make(family: str = "vit", **options: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = nets.get("hf-vision")(
            **{"in_channels": 3, "image_size": 32, "family": family, "config": SMALL[family]} | options
        )
        return made.double()


@pytest.mark.parametrize("family", FAMILIES)
def test_features(family: str) -> None:
    net = make(family).eval()
    out = net(numbers("x", 3, 3, 32, 32))
    assert out.shape == (3, net.out_features) and torch.isfinite(out).all()
    assert net.out_features == (8 if family == "vit" else 6)
    assert_close(net(numbers("x", 3, 3, 32, 32)[1:2]), out[1:2], 1e-10)


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_differentiable_twice(family: str) -> None:
    net = make(family)
    params = {n: p[None] for n, p in net.named_parameters()}
    loss = apply(net, numbers("x", 1, 2, 3, 32, 32), params=params).out.square().sum()
    first = torch.autograd.grad(loss, list(params.values()), create_graph=True, allow_unused=True)
    moved = {n: p if g is None else p - 0.1 * g for (n, p), g in zip(params.items(), first, strict=True)}
    outer = apply(net, numbers("q", 1, 2, 3, 32, 32), params=moved).out.square().sum()
    second = torch.autograd.grad(outer, list(net.parameters()), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in second if g is not None) > 0
    assert all(torch.isfinite(g).all() for g in second if g is not None)
    assert net.body.config._attn_implementation == "eager" or family != "vit"  # type: ignore[union-attr]


def test_tasks_together_or_one_by_one() -> None:
    net, x = make("vit"), numbers("x", 2, 3, 3, 32, 32)
    params = {n: p + 0.1 * numbers(n, 2, *p.shape) for n, p in net.named_parameters()}
    assert_close(apply(net, x, params=params, strategy="loop").out, apply(net, x, params=params, strategy="vmap").out)


def test_learners_take_it_or_say_why_not() -> None:
    MAML(make("vit"), outputs=3)
    ProtoNet(make("resnet"))
    with pytest.raises(InputError, match="running statistics"):
        MAML(make("resnet"), outputs=3)


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_frozen(family: str) -> None:
    net = make(family, frozen=True).train()
    x = numbers("x", 1, 4, 3, 32, 32)
    before = apply(net, x).out
    assert not before.requires_grad and not any(part.training for part in net.body.modules())  # type: ignore[union-attr]
    assert_close(net.eval()(x[0]), before[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_folder(family: str, tmp_path: Path) -> None:
    net = make(family).float().eval()
    net.body.save_pretrained(tmp_path / "model")  # type: ignore[operator, union-attr]
    loaded = nets.get("hf-vision")(3, 32, model=str(tmp_path / "model")).eval()
    x = numbers("x", 2, 3, 32, 32).float()
    assert torch.allclose(loaded(x), net(x), atol=1e-6)
    (tmp_path / "model" / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    )
    again = nets.get("hf-vision")(3, 32, model=str(tmp_path / "model")).eval()
    assert torch.allclose(again(x), net((x + 1) / 2), atol=1e-5), "normalised as the model says"
    larger = nets.get("hf-vision")(1, 48, model=str(tmp_path / "model")).eval()
    assert larger(torch.rand(2, 1, 48, 48)).shape == (2, net.out_features), "grey, and of another size"


def test_features_of_a_network_without_a_class_token(tmp_path: Path) -> None:
    """Its first token is a corner of the picture, and nothing more."""
    sizes = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModel.from_config(transformers.SwinConfig(**sizes, window_size=4)).save_pretrained(tmp_path)
    net = nets.get("hf-vision")(3, 32, model=str(tmp_path)).double().eval()
    x = numbers("x", 2, 3, 32, 32)
    found = net.body(pixel_values=(x - 0.5) / 0.5)
    assert_close(net(x), found.last_hidden_state.mean(1), 1e-6)


def test_no_model_and_none_for_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    build = nets.get("hf-vision")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"Cannot load the model '.*empty' for 'hf-vision': .*Give a folder that save_p"
    ):
        build(3, 32, model=str(tmp_path / "empty"))
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=10
    )
    with torch.random.fork_rng(devices=[]):
        transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(
        InputError, match=r"bert' \(BertModel\) is none for pictures\. Give one that takes pixel_values"
    ):
        build(3, 32, model=str(tmp_path / "bert"))
    with pytest.raises(InputError, match=r"takes its configuration from the model 'x': leave config out"):
        build(3, 32, model="x", config={"hidden_size": 8})
    with pytest.raises(InputError, match=r"The family 'vit' of 'hf-vision' has no setting 'hiden_size'"):
        build(3, 32, config={"hiden_size": 8})
    with pytest.raises(InputError, match=r"Cannot make the network 'hf-vision' \(vit\) with config = .*patch_size"):
        build(3, 32, config={"patch_size": 0})
    with pytest.raises(InputError, match=r"has no family 'cnn'\. Use one of vit, convnext, resnet"):
        build(3, 32, family="cnn")


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {package!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.delitem(sys.modules, package, raising=False)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "transformers")
    with pytest.raises(InputError, match=r"transformers is not installed .*pip install 'quickstudy\[vision\]'"):
        nets.get("hf-vision")(3, 32)


class FakeBody(nn.Module):
    num_features = 5
    pretrained_cfg: ClassVar[dict[str, Any]] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear, self.seen = nn.Linear(channels, 5), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        out: Tensor = self.linear(x.mean((2, 3)))
        return out


@pytest.fixture
def fake_timm(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A module that is called as timm is, and what it was asked for."""
    asked: list[dict[str, Any]] = []
    module = ModuleType("timm")

    def create_model(name: str, **options: Any) -> nn.Module:
        if name == "nothing":
            raise RuntimeError("Unknown model (nothing)")
        asked.append({"name": name, **options})
        return FakeBody(options["in_chans"])

    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


def test_timm(fake_timm: list[dict[str, Any]]) -> None:
    net = nets.get("timm")(3, 20, model="resnet18", resize=32, frozen=True).train()
    assert fake_timm == [{"name": "resnet18", "pretrained": False, "num_classes": 0, "in_chans": 3}]
    out = net(torch.full((2, 3, 20, 20), 0.75))
    assert out.shape == (2, net.out_features) and net.out_features == 5
    assert net.body.seen.shape == (2, 3, 32, 32) and torch.allclose(net.body.seen, torch.tensor(1.0))
    assert not out.requires_grad and not net.body.training
    with pytest.raises(InputError, match=r"Cannot make the network 'nothing' of timm: Unknown model \(nothing\)"):
        nets.get("timm")(3, 20, model="nothing")


class Fixed(FakeBody):
    """Made for pictures of one size, as timm's transformers are, with more features than it says."""

    pretrained_cfg: ClassVar[dict[str, Any]] = {"input_size": (3, 24, 24), "fixed_input_size": True}

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_features = 2

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 24, f"Input height ({x.shape[-1]}) doesn't match model (24)."
        return super().forward(x)


def test_timm_of_one_size(fake_timm: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["timm"], "create_model", lambda name, **options: Fixed(options["in_chans"]))
    net = nets.get("timm")(3, 20, model="vit")
    assert net.size == 24 and net.out_features == 5 and net.body.training
    assert net(torch.zeros(2, 3, 20, 20)).shape == (2, 5)
    with pytest.raises(
        InputError, match=r"'vit' of timm cannot read pictures of 32 pixels: Input .* \(24\)\. Say another"
    ):
        nets.get("timm")(3, 20, model="vit", resize=32)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "timm")
    with pytest.raises(InputError, match=r"the package timm, or torchvision, .* is not installed .*pip install timm"):
        nets.get("timm")(3, 20)
