"""Floor 5: one room a field: its data, its baselines and what its people want to see.

A :class:`~quickstudy.domains.study.Study` says what is compared in a field: a recipe, the same network plainly
pretrained, and the baselines that its people would take, all on the same tasks. ``benchmarks/results.py`` runs it.
"""
