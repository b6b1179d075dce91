"""Packages that add to this one, found by the entry points that they name."""

GROUP = "keras_lapkl"


def load() -> None:
    """Imports what installed packages name in the entry-point group `keras_lapkl`.

    Raises:
        ImportError: one can't be imported; the message names its distribution.
    """
    import importlib.metadata  # 20 ms, which `lapkl --help` does not need

    for each in importlib.metadata.entry_points(group=GROUP):
        try:
            each.load()
        except Exception as error:  # whatever a module raises
            dist = each.dist and f"{each.dist.name} {each.dist.version}"
            said = " ".join(str(error).split())
            raise ImportError(
                f"the extension {dist} can't be loaded, its entry point {each.name} = "
                f"{each.value}: {type(error).__name__}: {said}. Mend or uninstall it."
            ) from error
