"""Floor 5: recommendation: a user is a task, learned from the first few ratings."""
