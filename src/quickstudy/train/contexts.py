"""Floor 4: what surrounds training: seeded global generators, training mode, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from quickstudy.keys import Key
from quickstudy.learners.learner import AbstractLearner


@contextmanager
def global_generators(device: torch.device, key: Key) -> Iterator[None]:
    """Torch's global generators, from which modules of others (dropout) draw, seeded and then given back."""
    gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        # Not torch.manual_seed, which also queues a call for GPUs that are not there, a stack trace each time.
        torch.default_generator.manual_seed(key.value >> 1)
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key.value >> 1)
        yield


@contextmanager
def training_mode(learner: AbstractLearner) -> Iterator[None]:
    """Training mode, but for parts that were frozen and put into eval mode; afterwards as it was."""
    flags = {layer: layer.training for layer in learner.modules()}
    # A frozen part that was put into eval mode (a pretrained body's batch norm) is meant to stay there.
    frozen = [
        layer
        for layer, training in flags.items()
        if not training and learner.training and not any(p.requires_grad for p in layer.parameters())
    ]
    learner.train()
    for layer in frozen:
        layer.eval()
    try:
        yield
    finally:
        for layer, flag in flags.items():
            layer.training = flag


@contextmanager
def polite_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one interrupts at once, as usual.

    So does the signal by which a system asks a program to end (SIGTERM: a cluster that needs the machine, a container
    that is stopped), but for ranks of torch's elastic launch, which ends them by it when one of them was lost. Only the
    main thread may handle signals; elsewhere they stay what they are.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and "TORCHELASTIC_RESTART_COUNT" not in os.environ:
        before[signal.SIGTERM] = signal.SIG_DFL

    def as_before() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        as_before()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        as_before()


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """While it lasts SIGTERM raises KeyboardInterrupt, unless the program has an answer of its own to it."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
