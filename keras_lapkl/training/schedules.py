"""Learning rates over a run, by the names that a recipe and `--schedule` take."""

WARMUP = 0.05
"""Share of a cosine run in which the learning rate rises to its peak."""


def constant(peak, steps):
    """The same at each step."""
    return peak


def cosine(peak, steps):
    """From a hundredth up to the peak in the first 5 % of the steps, then down to 0 as a cosine."""
    import keras

    warmup = max(1, round(WARMUP * steps))
    return keras.optimizers.schedules.CosineDecay(
        peak / 100,
        decay_steps=max(1, steps - warmup),
        warmup_target=peak,
        warmup_steps=warmup,
    )


SCHEDULES = {"constant": constant, "cosine": cosine}
"""Functions from the peak and the number of steps to a float or a Keras schedule."""
