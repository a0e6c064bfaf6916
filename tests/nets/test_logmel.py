"""Spectrograms and cepstra: against scipy, and by what must and must not move them; Conv-4 on them."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.signal import stft
from torch._subclasses.fake_tensor import FakeTensorMode

from quickstudy.errors import InputError
from quickstudy.nets.apply import apply
from quickstudy.nets.logmel import Cepstrum, LogMel, slopes
from quickstudy.nets.registry import nets
from quickstudy.nets.soundconv import SoundConv4

RATE = 8000


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_tone_lies_in_its_band() -> None:
    mel = LogMel(RATE, RATE, normalise=False)
    for hertz in (300.0, 1000.0, 3000.0):
        x = torch.sin(2 * np.pi * hertz * torch.arange(RATE, dtype=torch.float64) / RATE)
        band = mel(x).mean(-1).argmax()
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 42) / 2595) - 1)
        assert edges[band] < hertz < edges[band + 2]


def test_a_click_lies_at_its_time() -> None:
    mel = LogMel(RATE, RATE, normalise=False)
    for at in (800, 4000, 7600):
        x = torch.zeros(RATE)
        x[at] = 1.0
        assert abs(int(mel(x).sum(0).argmax()) - at / mel.hop) <= 1


def test_against_scipy() -> None:
    """The same windows through scipy's transform, then the sum over all bands of a flat bank."""
    mel, x = LogMel(RATE, RATE, normalise=False, range_db=200), noise(RATE)
    left = (mel.window - mel.hop) // 2
    padded = np.pad(x.numpy(), (left, mel.window - mel.hop - left))
    window = torch.hann_window(mel.window, dtype=torch.float64).numpy()
    noverlap = mel.window - mel.hop
    _, _, expected = stft(  # type: ignore[call-overload]
        padded, window=window, nperseg=mel.window, noverlap=noverlap, boundary=None, padded=False, scaling="spectrum"
    )
    power = np.abs(expected * torch.hann_window(mel.window, dtype=torch.float64).sum().item()) ** 2
    from quickstudy.nets.logmel import _constants

    _, bank = _constants(mel.window, mel.n_fft, RATE, 40, torch.float64, torch.device("cpu"))
    assert np.allclose(mel(x).exp().numpy(), (power.T @ bank.numpy()).T[:, : mel.frames], rtol=1e-9)


@pytest.mark.parametrize(("rate", "mels", "window"), [(8000, 40, 0.032), (16000, 64, 0.025), (8000, 80, 0.032)])
def test_every_band_hears_something(rate: int, mels: int, window: float) -> None:
    out = LogMel(rate, rate, mels=mels, window=window, normalise=False, range_db=200)(noise(rate))
    assert out.shape == (mels, 50) and float(out.min()) > -15


def test_loudness_does_not_matter_and_no_other_recording_does() -> None:
    mel, x = LogMel(RATE), noise(3, RATE)
    assert torch.allclose(mel(x), mel(0.01 * x), atol=1e-6)
    assert torch.allclose(mel(x)[1], mel(x[1]), atol=1e-12), "one at a time or together"
    assert torch.isfinite(mel(torch.zeros(2, RATE))).all(), "silence"
    assert mel(x.float()).dtype == torch.float32 and mel(x.bfloat16()).dtype == torch.bfloat16


def test_being_followed_without_contents_leaves_nothing_behind() -> None:
    """As by ``train.compile``: window and bands made then have no contents either."""
    mel = LogMel(7000, 7000)
    with FakeTensorMode():
        assert mel(torch.zeros(2, 7000)).shape == (2, 40, 50)
    assert torch.isfinite(mel(noise(7000))).all()


def test_cepstrum_against_scipy() -> None:
    cepstrum, x = Cepstrum(LogMel(RATE, normalise=False), deltas=False), noise(2, RATE)
    log = cepstrum.mel(x).numpy()
    expected = dct(log, type=2, norm="ortho", axis=1)[:, 1:14].transpose(0, 2, 1)
    assert np.allclose(cepstrum(x).numpy(), expected, atol=1e-10)
    assert Cepstrum(LogMel(RATE))(x).shape == (2, 50, 26)


def test_slopes_of_a_line() -> None:
    line = torch.arange(10.0)[None, :, None] * 3
    assert torch.allclose(slopes(line)[0, 2:-2, 0], torch.full((6,), 3.0))


@pytest.mark.parametrize("readout", ["flatten", "time", "mean"])
@pytest.mark.parametrize("norm", ["batch", "task"])
def test_ways_to_run_it_agree(readout: Any, norm: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SoundConv4((4000,), filters=4, mels=16, norm=norm, readout=readout).double()
    x = noise(3, 4, 4000)
    params = {n: torch.stack([p * (1 + 0.1 * t) for t in range(3)]) for n, p in net.named_parameters()}
    strategies: tuple[Any, ...] = ("loop", "batched", "vmap")
    outs = [apply(net, x, params=params, strategy=s).out for s in strategies]
    assert outs[0].shape == (3, 4, net.out_features)
    assert all(torch.allclose(out, outs[0], atol=1e-10) for out in outs)


def test_it_is_differentiable_twice() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nets.get("sound-conv4")((4000,), filters=4, mels=16, norm="task").double()
    params = {n: p[None] for n, p in net.named_parameters()}
    out = apply(net, noise(1, 4, 4000), params=params).out.square().sum()
    (first,) = torch.autograd.grad(out, [params["blocks.0.conv.weight"]], create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), [net.blocks[0].conv.weight])
    assert torch.isfinite(second).all() and float(second.abs().max()) > 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LogMel(100), r"Cannot make spectrograms of 100 samples at 8000 a second"),
        (lambda: LogMel(8000, mels=500), r"Cannot make 500 mel bands of a window of 256 samples: use 2 to 128"),
        (lambda: LogMel(8000, range_db=0), r"Cannot use range_db = 0: expected decibels above 0"),
        (lambda: Cepstrum(LogMel(8000), coefficients=40), r"Cannot make 40 cepstral coefficients of 40 bands"),
        (lambda: LogMel(8000)(torch.zeros(1, 16000)), r"recordings of 8000 samples, received 16000\. Give the data"),
        (lambda: SoundConv4((1, 28, 28)), r"'sound-conv4' listens to waveforms \(samples,\), but .* \(1, 28, 28\)"),
        (lambda: SoundConv4((8000,), mels=8), r"Cannot halve spectrograms of 8 bands and 50 frames four times"),
    ],
)
def test_what_cannot_be_built(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
