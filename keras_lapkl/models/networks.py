"""The networks by the names that a recipe and `--network` take, and what each must offer."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from keras_lapkl._support.registry import resolved


@runtime_checkable
class Generator(Protocol):
    """What training and conversion ask of a network: a functional Keras model, built.

    It maps images (B, S, S, 3), float32 in [0, 1], to logits (B, S, S, K), one map for each
    landmark; their softmax over the pixels is the heatmap. Besides:

    - It is registered as serializable, and `from_config(get_config())` makes an equal one.
    - A layer's name begins with its stage's, and goes on after a `_`: `encoder1`,
      `encoder1_activation`. Where int8 is not exact enough, whole stages stay in float.
    - Each convolution has a bias, or the network has `folded`.
    - Muon leaves layers named `logits`, `columns`, `rows` and `encoder1` to Adam, as the RCN's are.
      A MobileFPN has none of these: all its kernels are Muon's.

    It may have two more attributes, and is used better for it:

    - `axis_logits`: a model from images to the logits of the columns (B, 1, S, K) and of the rows
      (B, S, 1, K), if the maps are sums of these; else None. Training and files then never build
      the maps.
    - `folded()`: the same function as a new network without batch normalization, for int8.
    """

    input_shape: tuple
    """(None, S, S, 3)"""
    output_shape: tuple
    """(None, S, S, K)"""
    layers: list

    def __call__(self, images: Any, training: bool = False) -> Any: ...

    def get_config(self) -> dict: ...

    def count_params(self) -> int: ...


def network_config(network: Any, *arguments: str) -> dict[str, Any]:
    """What a network's `get_config` gives: its arguments, its precision, and any frozen layers.

    Args:
        network: a functional model that keeps each argument as an attribute of its name.
        arguments: their names.

    Example:

    >>> model.get_layer("stem").trainable = False
    >>> network_config(model, "width")
    {'width': 0.125, 'name': 'fpn', 'trainable': True, 'dtype': 'float32', 'frozen': ['stem']}
    """
    config = {name: getattr(network, name) for name in (*arguments, "name", "trainable")}
    config["dtype"] = network.dtype_policy.name
    frozen = [layer.name for layer in network.layers if not layer.trainable]
    return {**config, "frozen": frozen} if frozen and network.trainable else config


def network_from_config(builder: Callable[..., Any], config: dict[str, Any]) -> Any:
    """The network of a `network_config`; in float32 where that tells no precision."""
    arguments = {k: value for k, value in config.items() if k not in ("frozen", "dtype")}
    with dtype_policy(config.get("dtype", "float32")):
        network = builder(**arguments)
    for layer in network.layers:
        if layer.name in config.get("frozen", ()):
            layer.trainable = False
    return network


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Keras's global precision in a block, such as `"mixed_float16"`."""
    import keras  # not before: a recipe needs none

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@dataclasses.dataclass(frozen=True)
class Network:
    """One line of `NETWORKS`.

    Attributes:
        builder: function or class from `num_landmarks`, `width`, `image_size` and its settings to
            a `Generator`; or where it is, `"module:name"`, so that Keras is not imported before it
            is used.
        settings: which of a recipe's fields in `SETTINGS` it takes besides.
    """

    builder: str | Callable[..., Generator]
    settings: tuple[str, ...] = ()

    def build(
        self, num_landmarks: int, width: float, image_size: int, **settings: Any
    ) -> Generator:
        """The network; `settings` may have more than it takes."""
        taken = {name: settings[name] for name in self.settings}
        builder = resolved(self.builder)
        return builder(num_landmarks=num_landmarks, width=width, image_size=image_size, **taken)


SETTINGS = ("head", "normalize", "dropout")
"""Fields of a recipe that not every network takes."""

HEADS = ("paper", "linear", "marginal")
"""What may make the RCN's maps; see `RCN`."""

NETWORKS = {
    "rcn": Network("keras_lapkl.models.rcn:RCN", ("head", "normalize", "dropout")),
    "mobile_fpn": Network("keras_lapkl.models.mobile_fpn:MobileFPN"),
}
