"""Muon for convolutions; `registries.OPTIMIZERS` are those that `--optimizer` takes."""

import re
from typing import Any, TypeAlias

from keras_lapkl._support import extras

with extras.needed_by(__name__):
    import keras
    from keras import ops

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable("keras_lapkl")
class ConvolutionMuon(keras.optimizers.Muon):
    """Keras's Muon, which also takes convolutions' kernels as the matrices that they are.

    The momentum of a kernel (h, w, C, F) becomes, as a matrix (h·w·C, F), nearly orthogonal before
    it is a step, of root mean square 0.2·learning_rate: all directions are learned, not only the
    strongest. Biases and kernels of `exclude_layers`, regular expressions that are searched for in
    the paths of variables, are trained by Adam, as in Keras's own, which leaves all of a
    convolution to Adam.

    Args:
        learning_rate: a float or a schedule; Adam's serve.
        weight_decay, adam_weight_decay: as Keras's; by default None, which takes no time, where 0
            asks the schedule again for each variable.
        kwargs: as `keras.optimizers.Muon`'s.

    Example:

    >>> model.compile(ConvolutionMuon(3e-3, exclude_layers=["logits/"]), loss=LaplaceKL())

    Source: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon; the size of the steps:
    Liu et al., arXiv 2502.16982.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        weight_decay: float | None = None,
        adam_weight_decay: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay=weight_decay, adam_weight_decay=adam_weight_decay, **kwargs
        )

    def _should_use_adamw(self, variable):
        if len(variable.shape) != 4:
            return super()._should_use_adamw(variable)
        return any(re.search(each, variable.path) for each in self.exclude_layers)

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        ahead = ops.add(gradient, self.momentum * m) if self.nesterov else m
        matrix = ops.reshape(ahead, (-1, variable.shape[-1]))
        step = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.reshape(step, variable.shape))


def muon(learning_rate: LearningRate) -> ConvolutionMuon:
    """Muon for an RCN: what reads the image and what makes the maps is left to Adam.

    Args:
        learning_rate: a float or a schedule.

    Example:

    >>> model.compile(muon(3e-3), loss=LaplaceKL())
    """
    return ConvolutionMuon(
        learning_rate, exclude_layers=["encoder1/", "logits/", "columns/", "rows/"]
    )
