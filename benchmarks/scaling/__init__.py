"""How a meta-step's time, memory and traffic grow, a model of it, and what the model says of 64 GPUs.

python -m benchmarks.scaling [--quick] [--out FILE] [--page docs/scaling.md]
python -m benchmarks.scaling --read FILE      measure nothing: fit and extrapolate what was measured before

sizes.py     what is varied, and what a network costs: operations, maps, weights
points.py    one process: processor time and peak memory of a meta-step
divided.py   1 to 4 ranks: each one's processor time, the clock, bytes sent
models.py    sums of terms with coefficients that are fitted, and how well they foretell what was left out
outlook.py   many GPUs, by assumptions that are said; an extrapolation, not a measurement
__main__.py  the command
"""
