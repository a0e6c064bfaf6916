"""Published figures, and whether they come out.

    claim        a published figure with its protocol, source and re-runs (claims/*.toml); claims() has all
    reproduce    train a claim's seeds, test them as published, write results, judge
    overview     all claims with what results there are
    judge        figures against a paper's: a pure function
    energy       an estimate, with what it assumes

``quickstudy reproduce`` is the command; docs/reproducing.md is the page.
"""

from quickstudy.reproduce.budget import read_duration
from quickstudy.reproduce.energyuse import energy
from quickstudy.reproduce.published import Claim, claim, claims
from quickstudy.reproduce.record import Provenance, Record
from quickstudy.reproduce.reproducing import Reproduced, of_records, overview, reproduce
from quickstudy.reproduce.verdict import SeedFigure, Target, Verdict, judge

__all__ = [
    "Claim",
    "Provenance",
    "Record",
    "Reproduced",
    "SeedFigure",
    "Target",
    "Verdict",
    "claim",
    "claims",
    "energy",
    "judge",
    "of_records",
    "overview",
    "read_duration",
    "reproduce",
]
