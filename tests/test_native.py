"""Kernels in C: compiled once, kept, made again when damaged, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from quickstudy import native
from quickstudy.errors import InputError

needs_compiler = pytest.mark.skipif(native._compiler() is None, reason="no C compiler")

ADD = """#include <stdint.h>
void add_f32(float *x, int64_t n) {
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++) x[i] += 1;
}
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, and nothing remembered of another."""
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("QUICKSTUDY_KERNELS", raising=False)
    native._missing.clear()
    monkeypatch.setattr(native, "_loaded", set())
    for cached in (native.library, native._compiler, native._from_environment):
        cached.cache_clear()
    return tmp_path / "cache" / "kernels"


@pytest.fixture(autouse=True)
def forget() -> object:
    """What a test made is no other's."""
    yield
    native._missing.clear()
    for cached in (native.library, native._compiler, native._from_environment):
        cached.cache_clear()


def source(folder: Path, text: str = ADD) -> Path:
    path = folder / "add.c"
    path.write_text(text)
    return path


def add(library: object, n: int = 100_000) -> torch.Tensor:
    import ctypes

    x = torch.zeros(n)
    library.add_f32(ctypes.c_void_p(x.data_ptr()), ctypes.c_int64(n))  # type: ignore[attr-defined]
    return x


@needs_compiler
def test_compiled_once_and_kept(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path)
    assert bool((add(native.library(path)) == 1).all())
    built = list(cache.iterdir())
    assert len(built) == 1 and built[0].name.startswith("add-")
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *given: pytest.fail("compiled again"))
    assert native.library(path) is not None


@needs_compiler
def test_changed_source_is_compiled_anew(tmp_path: Path, cache: Path) -> None:
    assert float(add(native.library(source(tmp_path)))[0]) == 1
    native.library.cache_clear()
    assert float(add(native.library(source(tmp_path, ADD.replace("+= 1", "+= 2"))))[0]) == 2
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_a_changed_header_is_noticed(tmp_path: Path, cache: Path) -> None:
    path, header = source(tmp_path, '#include "by.h"\n' + ADD.replace("+= 1", "+= BY")), tmp_path / "by.h"
    for by in (3, 4):
        header.write_text(f"#define BY {by}\n")
        native.library.cache_clear()
        assert float(add(native.library(path))[0]) == by


@needs_compiler
def test_a_damaged_file_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = source(tmp_path)
    code = f"from pathlib import Path; from quickstudy import native; assert native.library(Path({str(path)!r}))"
    for text in (None, b"", b"no library"):
        if text is not None:
            next(iter(cache.iterdir())).write_bytes(text)
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
    assert next(iter(cache.iterdir())).stat().st_size > 1000


@needs_compiler
def test_several_processes_at_once(tmp_path: Path, cache: Path) -> None:
    path = source(tmp_path)
    code = f"from pathlib import Path; from quickstudy import native; assert native.library(Path({str(path)!r}))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


@needs_compiler
def test_what_cannot_be_compiled_is_left_to_torch(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = source(tmp_path, "this is not C")
    assert native.library(path) is None
    assert not list(cache.iterdir())
    assert native.about().startswith("torch's; ") and "could not make them (" in native.about()
    native.library.cache_clear()
    with native.kernels("c"), pytest.raises(InputError, match=r"QUICKSTUDY_KERNELS=c asks: .* could not make them"):
        native.library(path)


@needs_compiler
def test_what_does_not_load_is_not_made_at_every_start(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an OpenMP other than torch's: the form without it is taken, and from then on at once."""
    path = source(tmp_path, ADD.replace("#pragma omp parallel for", "#ifdef _OPENMP\nnobody_has_this();\n#endif"))
    path.write_text("void nobody_has_this(void);\n" + path.read_text())
    assert float(add(native.library(path))[0]) == 1
    assert {file.suffix for file in cache.iterdir()} == {".so", ".unfit"}
    native.library.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *given: pytest.fail("compiled again"))
    assert native.library(path) is not None


def test_without_a_compiler(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    path = source(tmp_path)
    assert native.library(path) is None
    assert native.about() == "torch's; no C compiler was found"
    native.library.cache_clear()
    with native.kernels("c"), pytest.raises(InputError, match=r"asks: no C compiler was found\. Install gcc or clang"):
        native.library(path)


@needs_compiler
def test_a_cache_that_cannot_be_written(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(source(tmp_path)))  # a file, not a folder
    assert native.library(tmp_path / "add.c") is None
    assert "the cache folder cannot be written" in native.about() and "QUICKSTUDY_CACHE names another" in native.about()


@needs_compiler
def test_a_compiler_that_hangs(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setenv("CC", str(slow))
    monkeypatch.setattr(native, "_SECONDS", 0.2)
    assert native.library(source(tmp_path)) is None


def test_the_choice(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(2)
    assert native.usable(x) and native.asked() == "auto"
    with native.kernels("torch"):
        assert not native.usable(x) and native.about() == "torch's, as QUICKSTUDY_KERNELS asks"
        with native.kernels("auto"):
            assert native.usable(x)
    with (
        pytest.raises(InputError, match="kernels must be one of auto, torch, c, received 'fast'"),
        native.kernels("fast"),  # type: ignore[arg-type]
    ):
        pass
    monkeypatch.setenv("QUICKSTUDY_KERNELS", "quick")
    native._from_environment.cache_clear()
    with pytest.raises(InputError, match="QUICKSTUDY_KERNELS must be one of auto, torch, c, received 'quick'"):
        native.usable(x)


def test_what_c_can_read() -> None:
    assert native.usable(torch.zeros(2, dtype=torch.float64)) and native.usable(torch.nn.Parameter(torch.zeros(2)))
    assert not native.usable(torch.zeros(2, dtype=torch.float16)) and not native.usable(torch.zeros(2, device="meta"))
    assert torch.func.vmap(lambda x: x * native.usable(x))(torch.ones(2)).sum() == 0

    def traced(x: torch.Tensor) -> torch.Tensor:
        return x + (1 if native.usable(x) else 2)

    compiled = torch.compile(traced, backend="eager")
    assert float(compiled(torch.zeros(1))) == 2


def test_of_several_tensors_each_is_looked_at() -> None:
    class Other(torch.Tensor):
        """Whose memory may be anywhere."""

    good = torch.zeros(2, 2)
    negated = torch.zeros(2, dtype=torch.complex64).conj().imag
    assert negated.is_neg() and negated.dtype == torch.float32
    unfit = [good.as_subclass(Other), good.half(), good.to("meta"), good.to_sparse(), negated]
    assert native.usable() and native.usable(good, good.double())
    for other in unfit:
        assert not native.usable(good, other) and not native.usable(other, good)


def test_not_where_a_tangent_or_a_trace_would_be_lost() -> None:
    x, found = torch.zeros(2), []
    with forward_ad.dual_level():
        assert not native.usable(x) and native.watched()
    assert native.usable(x) and not native.watched()

    def traced(x: torch.Tensor) -> torch.Tensor:
        found.append(native.usable(x))
        return x + 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(traced, x, check_trace=False)  # type: ignore[no-untyped-call]
    assert found == [False]


@needs_compiler
def test_what_is_told_is_what_was_used(tmp_path: Path, cache: Path) -> None:
    assert native.about().startswith("torch's; none in C used yet, ")
    assert native.library(source(tmp_path)) is not None
    assert native.about().startswith("torch's, and C compiled by ") and native.about().endswith(" (add.c)")
    (tmp_path / "wrong.c").write_text("this is not C")
    assert native.library(tmp_path / "wrong.c") is None
    assert " (add.c); without wrong.c: " in native.about()


@needs_compiler
def test_another_torch_has_files_of_its_own(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its OpenMP may be another, and what did not load with one may with the other."""
    path = source(tmp_path)
    places = []
    for version in ("2.0", "2.1"):
        monkeypatch.setattr(torch, "__version__", version)
        native.library.cache_clear()
        assert native.library(path) is not None
        places.append({file.name for file in cache.iterdir()})
    assert len(places[0]) == 1 and len(places[1]) == 2
