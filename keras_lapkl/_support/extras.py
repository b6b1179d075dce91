"""Names the optional extra that brings a missing package."""

import contextlib
import importlib.util

EXTRAS = {
    "distributed": "cluster",
    "ethosu": "vela",
    "fsspec": "stores",
    "h5py": "labels",
    "jax": "jax",
    "keras": "train",
    "matplotlib": "plots",
    "mtcnn": "mtcnn",
    "pillow_heif": "heic",
    "tensorboard": "tensorboard",
    "tensorflow": "train",
    "tflite_micro": "micro",
    "yaml": "labels",
}
"""Which extra brings a package that the plain installation does not have."""


def installed(package):
    """Whether a package can be imported; it is looked for, not imported."""
    return importlib.util.find_spec(package) is not None


def require(user, *packages):
    """Refuses to go on without some packages; they are looked for, not imported.

    Args:
        user: what needs them: a module, a name or a command.
        packages: names in `EXTRAS`.

    Raises:
        ModuleNotFoundError: one is not installed; the message names the extra.
    """
    for package in packages:
        if not installed(package):
            raise missing(user, package)


@contextlib.contextmanager
def needed_by(user):
    """Names the extra of a package that the block misses; `user` is what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise missing(user, package) from error


def missing(user, package):
    """The error to raise where `user` needs a package that is not installed."""
    return ModuleNotFoundError(
        f"{user} needs {package}: pip install 'keras_lapkl[{EXTRAS[package]}]'", name=package
    )
