"""quickstudy against other meta-learning libraries.

    make bench                                  every row on this machine's processor
    make bench W="W3 W6"                        some rows
    python benchmarks/bench.py W1 --rounds 5    the same, in the environment that `make bench` makes (.venv-peers)
    python benchmarks/bench.py G1 G3 --device cuda
    python benchmarks/bench.py --page           makes RESULTS.md anew from what was measured

Each contestant's result must be the reference's, in float64 and as it is timed, or it gets no time. Writes
benchmarks/results/*.json and benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

try:
    from benchmarks.speed.report import GPU_ROWS  # found through the path above
    from benchmarks.speed.run import ALL, Options, run
    from benchmarks.speed.settings import COLUMNS
except ModuleNotFoundError as error:
    sys.exit(f"error: This Python has no {error.name}. `make bench` runs it in an environment that has, or makes one.")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help="W1, W1m, W2 .. W8, T2A (all of these by default), G1 .. G5"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each contestant computes in a round")
    parser.add_argument("--columns", nargs="*", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", default=[], metavar="PEER", help="these peers; none: no peer")
    parser.add_argument("--limit-minutes", type=float, default=30.0, help="of each training of T2A")
    parser.add_argument("--data-root", default=os.environ.get("QUICKSTUDY_DATA"), help="by default QUICKSTUDY_DATA")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, nothing written: a test of the harness")
    parser.add_argument("--page", action="store_true", help="only make the page anew")
    given = parser.parse_args()
    options = Options(
        rows=tuple(given.rows) or (ALL if given.device == "cpu" else GPU_ROWS),
        columns=tuple(given.columns),
        limit=60 * given.limit_minutes,
        page_only=given.page,
        arguments=tuple(sys.argv[1:]),
    )
    plan = replace(
        options.plan,
        rounds=given.rounds,
        seconds=given.seconds,
        device=given.device,
        quick=given.quick,
        data_root=given.data_root,
        only=tuple(given.only),
    )
    try:
        status = run(replace(options, plan=plan), lambda words: print(words, flush=True))
    except KeyboardInterrupt:
        print("interrupted; what was measured until then is kept, and --page makes the page of it.", file=sys.stderr)
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
