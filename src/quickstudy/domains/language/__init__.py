"""Floor 5: language: classes of texts from a few examples, the baselines of its people, texts in the report."""
