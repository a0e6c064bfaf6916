"""Floor 0: kernels in C, compiled by the machine's own compiler when first asked for, and kept in the cache folder.

Torch's operators are the reference, and what is used wherever there is no C compiler, no CPU, or another dtype. A file
of C beside the Python module that calls it has functions with names ending in ``_f32`` and ``_f64``; they are called
through ctypes with the addresses of tensors. :func:`usable` says when that may be done: never inside a trace, a
transform, forward-mode differentiation or another dispatch mode, which could not see what C does.

``QUICKSTUDY_KERNELS`` names the choice: ``auto``, ``torch`` (never C) or ``c`` (an error where it cannot be had).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad

from quickstudy.errors import InputError

__all__ = ["KERNELS", "Kernels", "about", "kernels", "library", "suffix", "suffixes", "usable", "watched"]

Kernels: TypeAlias = Literal["auto", "torch", "c"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)

_SUFFIX = {torch.float32: "_f32", torch.float64: "_f64"}
_TYPES = (Tensor, torch.nn.Parameter)
_has_storage = torch._C._has_storage
# OpenMP's calls are left open, so that torch's own OpenMP answers them: a second one would fight for the cores.
_WAYS = (("-march=native", "-fopenmp"), ("-march=native",), ())
# ISO C alone keeps gcc from multiplying and adding in one instruction; clang does so of itself.
_ALWAYS = ("-O3", "-fPIC", "-std=c11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
_SECONDS = 120  # for the compiler

_missing: dict[str, str] = {}  # why files could not be compiled
_loaded: set[str] = set()  # files whose kernels were loaded
_asked: ContextVar[Kernels | None] = ContextVar("quickstudy_kernels", default=None)


@contextmanager
def kernels(which: Kernels) -> Iterator[None]:
    """Compute what is called inside with these kernels, whatever QUICKSTUDY_KERNELS says."""
    token = _asked.set(_checked(which, "kernels"))
    try:
        yield
    finally:
        _asked.reset(token)


def asked() -> Kernels:
    """Which kernels are wanted here."""
    return _asked.get() or _from_environment()


def usable(*tensors: Tensor) -> bool:
    """Whether C may compute on the memory of these (and of what is made from them) here and now: ask it of each."""
    if torch.compiler.is_compiling() or asked() == "torch" or watched() or torch._C._len_torch_dispatch_stack():
        return False
    for x in tensors:  # asked in every operator, so in a plain loop
        if type(x) not in _TYPES or not x.is_cpu or x.dtype not in _SUFFIX:
            return False
        # Its numbers may lie elsewhere (is_grads_batched), or have yet to be negated.
        if not _has_storage(x) or x.is_neg():
            return False
    return True


def watched() -> bool:
    """Whether a transform, a trace or forward-mode differentiation needs to see each of torch's operators."""
    return bool(torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0 or torch._C._is_tracing())


def suffix(dtype: torch.dtype) -> str:
    """What the names of functions for tensors of this dtype end in."""
    return _SUFFIX[dtype]


def suffixes() -> tuple[str, ...]:
    """Of all dtypes."""
    return tuple(_SUFFIX.values())


@functools.cache
def library(source: Path) -> ctypes.CDLL | None:
    """The kernels of a file of C, compiled where that was not done yet; None where it cannot be done.

    Raises:
        InputError: QUICKSTUDY_KERNELS asks for C, and it cannot be had.
    """
    try:
        found = _load(source)
        _loaded.add(source.name)
        return found
    except _NoKernelsError as error:
        _missing[source.name] = str(error)
        if asked() == "c":
            raise InputError(
                f"Cannot compute with kernels in C, as QUICKSTUDY_KERNELS=c asks: {error}. "
                "Install gcc or clang (or let CC name a compiler), or leave QUICKSTUDY_KERNELS away."
            ) from error
        return None


def about() -> str:
    """Whose kernels were used so far, half a sentence for a run's record."""
    if asked() == "torch":
        return "torch's, as QUICKSTUDY_KERNELS asks"
    compiler = _compiler()
    if compiler is None:
        return "torch's; no C compiler was found"
    if not _loaded:
        return f"torch's; {next(iter(_missing.values()), f'none in C used yet, {compiler.name} would compile them')}"
    lacking = f"; without {', '.join(sorted(_missing))}: {next(iter(_missing.values()))}" if _missing else ""
    return f"torch's, and C compiled by {compiler.name} ({', '.join(sorted(_loaded))}){lacking}"


class _NoKernelsError(Exception):
    """Why there are none."""


def _checked(which: str, name: str) -> Kernels:
    if which not in KERNELS:
        raise InputError(f"{name} must be one of {', '.join(KERNELS)}, received {which!r}.")
    return which


@functools.cache
def _from_environment() -> Kernels:
    return _checked(os.environ.get("QUICKSTUDY_KERNELS", "").strip().lower() or "auto", "QUICKSTUDY_KERNELS")


@functools.cache
def _compiler() -> Path | None:
    names = [os.environ.get("CC"), "cc", "gcc", "clang"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    return None if found is None or sys.platform == "win32" else Path(found)


def _load(source: Path) -> ctypes.CDLL:
    compiler = _compiler()
    if compiler is None:
        raise _NoKernelsError("no C compiler was found")
    said = ""
    try:
        _place(source, compiler, ()).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _NoKernelsError(
            f"the cache folder cannot be written ({error}); QUICKSTUDY_CACHE names another"
        ) from error
    for flags in _WAYS:
        built = _place(source, compiler, flags)
        unfit = built.with_suffix(".unfit")
        if unfit.exists():
            continue
        with contextlib.suppress(OSError):  # not there yet, or damaged
            return ctypes.CDLL(str(built))
        said = _compile(compiler, flags, source, built)
        if said:
            continue
        try:
            return ctypes.CDLL(str(built))
        except OSError as error:  # made for an OpenMP that torch does not have: no use to make it at every start
            said = str(error)
            with contextlib.suppress(OSError):
                unfit.touch()
    raise _NoKernelsError(f"{compiler} could not make them ({said})")


def _place(source: Path, compiler: Path, flags: tuple[str, ...]) -> Path:
    """Where the compiled file stands: a name for all that its contents depend on."""
    from quickstudy.files import cache_root  # where nothing is compiled, nothing of it is loaded

    there = compiler.resolve().stat()
    read = [path.read_bytes() for path in (source, *sorted(source.parent.glob("*.h")))]
    made_by = (str(compiler.resolve()), there.st_size, there.st_mtime_ns, *_ALWAYS, *flags, _cpu())
    parts = [*read, *made_by, torch.__version__]  # whose OpenMP decides which form loads
    digest = hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:20]
    return cache_root() / "kernels" / f"{source.stem}-{digest}.so"


@functools.cache
def _cpu() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.version()}"
    telling = ("model name", "flags", "Features", "CPU part")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(telling)}))


def _compile(compiler: Path, flags: tuple[str, ...], source: Path, built: Path) -> str:
    """Compile; what went wrong, in a line, or nothing."""
    try:
        built.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of our own and then moved, as several processes may do this at once.
        with tempfile.TemporaryDirectory(dir=built.parent, prefix="making-") as folder:
            made, linked = Path(folder, "made.o"), Path(folder, "made.so")
            for command in (
                [str(compiler), *_ALWAYS, *flags, "-c", str(source), "-o", str(made)],
                [str(compiler), "-shared", str(made), "-o", str(linked), "-lm"],
            ):
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
                if done.returncode:
                    return next((line for line in done.stderr.splitlines() if "error" in line), "it failed")
            os.replace(linked, built)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ""
