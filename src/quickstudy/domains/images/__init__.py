"""Floor 5: images: kinds of objects from a few pictures, the features from before networks, pictures in the report."""
