"""Floor 5: speech: words from a few recordings, the baselines from before networks, spectrograms in the report."""
