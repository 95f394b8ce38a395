"""The teacher's outputs: asked live, or kept in a cache."""
