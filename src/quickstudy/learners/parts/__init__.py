"""Floor 3: what several learners share: heads, inner loops, embeddings, checks."""
