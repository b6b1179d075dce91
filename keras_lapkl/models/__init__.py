"""Keras Models: generators of heatmaps, and what trains them."""
