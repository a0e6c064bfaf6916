"""Networks for pictures from Hugging Face's transformers: small ones made here, or pretrained ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.errors import InputError

__all__ = ["HFVision", "need_transformers"]

_SMALL: dict[str, dict[str, Any]] = {
    "vit": {
        "hidden_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "convnext": {"hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 2, 1], "drop_path_rate": 0.0},
    "resnet": {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1], "layer_type": "basic"},
}
"""What is made without a model: small enough to be trained on two cores, and nothing random in it."""

_CLASS_TOKENS = ("cls_token", "class_embedding")
"""What networks of tokens call the one that stands first and gathers what is said of the whole picture."""

_SIDE = 7  # patches along a side of a small ViT


class HFVision(nn.Module):
    """A vision network of ``transformers`` and its pooled features.

    Without ``model`` one of a family is made with fresh weights, offline; ``config`` changes it. With ``model`` its
    weights are read from a folder (as ``save_pretrained`` wrote it), or from the Hugging Face hub by its name.

    Pictures are brought to the size that the network was made for, and normalised as its own ``preprocessor_config``
    says, where there is one. Attention is computed in the plain ("eager") form, which can be differentiated twice. The
    features are the class token's of a network of tokens, or, where it has none (Swin), what it pools itself, else the
    tokens' mean; and the spatial mean of a network of maps.

    Args:
        in_channels: 3; grey pictures are given three equal channels where a pretrained network wants them.
        image_size: height and width of the (square) pictures.
        model: a folder, or a name on the hub, such as ``"facebook/dinov2-small"``; None: fresh weights.
        family: of a fresh network: ``"vit"``, ``"convnext"`` or ``"resnet"``.
        config: changes of its configuration, by their names in transformers.
        resize: pixels along a side that the network sees; by default those that it was made for.
        frozen: its weights stay as they are, and norms and dropout are as in the test; for learners on top of features.

    Raises:
        InputError: transformers is missing, there is no such model, or it is none for pictures, or its configuration
            makes no sense.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        *,
        model: str | None = None,
        family: Literal["vit", "convnext", "resnet"] = "vit",
        config: dict[str, Any] | None = None,
        resize: int | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        transformers = need_transformers()
        if model is None:
            self.body, mean, std = _fresh(transformers, family, config or {}, in_channels, resize or image_size)
        elif config:
            raise InputError(
                f"The network 'hf-vision' takes its configuration from the model {model!r}: leave config out, or model."
            )
        else:
            self.body, mean, std = _pretrained(transformers, model)
        about = self.body.config
        self.wanted = int(getattr(about, "num_channels", in_channels))
        if in_channels not in (1, self.wanted):
            raise InputError(
                f"The model {model or family!r} wants pictures of {self.wanted} channels, received {in_channels}."
            )
        self.in_channels, self.image_size = in_channels, image_size
        self.size = resize or _own_size(about) or image_size
        self.mean, self.std = tuple(mean), tuple(std)  # no buffers, which a training might write into
        names = {name.rpartition(".")[2] for name, _ in self.body.named_parameters()}
        self.class_token = not names.isdisjoint(_CLASS_TOKENS)
        self.frozen = frozen
        if frozen:
            self.body.requires_grad_(False)
            self.body.eval()
        self.out_features = _features(self)

    @override
    def train(self, mode: bool = True) -> HFVision:
        """As of any module; a frozen body stays as in the test."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``, pictures in 0 .. 1."""
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        mean, std = (x.new_tensor(part).view(-1, 1, 1) for part in (self.mean, self.std))
        x = (x.expand(-1, self.wanted, -1, -1) - mean) / std
        found = self.body(pixel_values=x)
        last: Tensor = found.last_hidden_state
        if last.dim() == 3 and self.class_token:
            return last[:, 0]
        pooled: Tensor | None = getattr(found, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        return last.mean((2, 3) if last.dim() == 4 else 1)


def need_transformers() -> Any:
    """The module ``transformers``.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"Cannot make the network 'hf-vision': the package transformers is not installed ({error}). Run pip "
            "install 'quickstudy[vision]'."
        ) from error
    return transformers


def _fresh(
    transformers: Any, family: str, changes: dict[str, Any], channels: int, size: int
) -> tuple[nn.Module, list[float], list[float]]:
    if family not in _SMALL:
        raise InputError(f"The network 'hf-vision' has no family {family!r}. Use one of {', '.join(_SMALL)}.")
    options = {**_SMALL[family], "num_channels": channels}
    if family == "vit":
        options |= {"image_size": size, "patch_size": max(1, size // _SIDE)}
    try:
        config = transformers.AutoConfig.for_model(family, **options | changes)
        unknown = sorted(name for name in changes if name not in type(config)().to_dict())
        if unknown:
            raise InputError(f"The family {family!r} of 'hf-vision' has no setting {unknown[0]!r} in its config.")
        body = _of_config(transformers, config)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, IndexError, KeyError) as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise InputError(f"Cannot make the network 'hf-vision' ({family}) with config = {changes}: {said}.") from error
    return body, [0.5] * channels, [0.5] * channels


def _of_config(transformers: Any, config: Any) -> nn.Module:
    options = {} if config.model_type != "vit" else {"add_pooling_layer": False}
    made: nn.Module = transformers.AutoModel.from_config(config, attn_implementation="eager", **options)
    return made


def _pretrained(transformers: Any, model: str) -> tuple[nn.Module, list[float], list[float]]:
    """The network and how its pictures are normalised."""
    where = str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model
    try:
        config = transformers.AutoConfig.from_pretrained(where)
        options = {} if config.model_type != "vit" else {"add_pooling_layer": False}
        with _without_bars(transformers):
            body: nn.Module = transformers.AutoModel.from_pretrained(
                where, config=config, attn_implementation="eager", dtype=torch.float32, **options
            )
    except (OSError, ValueError, KeyError) as error:
        said = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"Cannot load the model {model!r} for 'hf-vision': {said}. Give a folder that save_pretrained wrote, or a "
            "name on the Hugging Face hub, which has to be reached then."
        ) from error
    if getattr(body, "main_input_name", "") != "pixel_values":
        raise InputError(
            f"The model {model!r} ({type(body).__name__}) is none for pictures. Give one that takes pixel_values, such "
            "as a ViT, DINOv2, ConvNeXt or ResNet."
        )
    mean, std = _normalisation(transformers, where)
    channels = int(getattr(body.config, "num_channels", 3))
    return body, mean or [0.5] * channels, std or [0.5] * channels


@contextmanager
def _without_bars(transformers: Any) -> Iterator[None]:
    """No progress bars of transformers' own inside: what is shown is the command line's business."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()


def _normalisation(transformers: Any, where: str) -> tuple[list[float] | None, list[float] | None]:
    """What ``preprocessor_config.json`` says of the pictures' mean and standard deviation; None where it is silent."""
    try:
        about, _ = transformers.ImageProcessingMixin.get_image_processor_dict(where)
    except (OSError, ValueError):
        return None, None
    if about.get("do_normalize") is False:
        return [0.0] * 3, [1.0] * 3
    return about.get("image_mean"), about.get("image_std")


def _own_size(config: Any) -> int | None:
    """Pixels along a side that a network of tokens was made for; None where any will do, as of networks of maps."""
    size = getattr(config, "image_size", None)
    if getattr(config, "patch_size", None) is None or config.model_type.startswith(("convnext", "resnet")):
        return None
    return size if isinstance(size, int) else None


def _features(net: HFVision) -> int:
    """How many features come out, by trying."""
    was = net.training
    net.eval()
    try:
        with torch.no_grad():
            return int(net(torch.zeros(1, net.in_channels, net.size, net.size)).shape[1])
    except RuntimeError as error:
        said = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"The network 'hf-vision' ({type(net.body).__name__}) cannot read pictures of {net.size} pixels: "
            f"{said}. Say another --net.resize, or change its config."
        ) from error
    finally:
        net.train(was)
