"""RCN and LaplaceKL in PyTorch: the same net, loss and step as Keras's, to be timed beside it."""

import numpy as np
import timing

try:
    import torch
except ImportError as error:
    raise ImportError(
        "The comparison with PyTorch needs it: pip install torch (or, for step.py, --notorch)."
    ) from error
from torch import nn
from torch.nn import functional

from keras_lapkl import heatmaps
from keras_lapkl.models.rcn import LEAK, POOLINGS


class RCN(nn.Module):
    """As `keras_lapkl.RCN` of the same arguments, on images (B, 3, H, W)."""

    def __init__(self, num_landmarks, width, dropout):
        super().__init__()
        channels = max(1, round(64 * width))
        sizes = {"encoder1": (3, channels, 3)}
        sizes |= {f"encoder{level}": (channels, channels, 3) for level in range(2, POOLINGS + 1)}
        sizes |= {f"bottleneck{i}": (channels, channels, 3) for i in (1, 2)}
        for level in range(POOLINGS, 0, -1):
            inputs = channels if level == POOLINGS else 2 * channels
            sizes[f"decoder{level}_reduce"] = (inputs, channels, 1)
            sizes[f"decoder{level}"] = (2 * channels, 2 * channels, 5)
        sizes["head1"] = (2 * channels, num_landmarks, 1)
        sizes |= dict.fromkeys(("head2", "logits"), (num_landmarks, num_landmarks, 1))
        self.convolutions = nn.ModuleDict(
            {name: nn.Conv2d(*size, padding="same") for name, size in sizes.items()}
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        skips = []
        for level in range(1, POOLINGS + 1):
            x = self._activated(f"encoder{level}", x, dropped=level > 1)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        for i in (1, 2):
            x = self._activated(f"bottleneck{i}", x)
        for level in range(POOLINGS, 0, -1):
            x = self._activated(f"decoder{level}_reduce", x)
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = self._activated(f"decoder{level}", torch.cat([x, skips[level - 1]], dim=1))
        x = self._activated("head1", x)
        x = self._activated("head2", x, dropped=False)
        return self.convolutions["logits"](x)

    def _activated(self, name, x, dropped=True):
        x = functional.leaky_relu(self.convolutions[name](x), LEAK)
        return self.dropout(x) if dropped else x


class Localizer(nn.Module):
    """Landmarks and scales of images (B, H, W, 3), by the twin of a Keras RCN."""

    def __init__(self, generator):
        super().__init__()
        self.net = twin(generator)

    def forward(self, images):
        axes = decode(self.net(images.permute(0, 3, 1, 2)))
        return tuple(torch.stack(values, dim=-1) for values in zip(*axes, strict=True))


def decode(logits):
    """Location and scale, each (B, K), on each axis, from logits (B, K, H, W)."""
    weights = torch.exp(logits - logits.detach().amax((2, 3), keepdim=True))
    found = []
    for marginal in (weights.sum(2), weights.sum(3)):
        marginal = marginal / marginal.sum(2, keepdim=True)
        pixels = torch.arange(marginal.shape[2], dtype=marginal.dtype)
        mean = (marginal * pixels).sum(2)
        spread = (marginal * (pixels - mean[..., None]).abs()).sum(2).clamp(min=heatmaps.MIN_SCALE)
        found.append((mean, spread))
    return found


def laplace_kl(landmarks, logits):
    """Mean over faces of `losses.laplace_kl`: landmarks (B, K, 2), logits (B, K, H, W)."""
    loss = 0
    for axis, (mean, spread) in enumerate(decode(logits)):
        distance = (mean - landmarks[..., axis]).abs()
        loss = loss - spread.log() + spread * torch.exp(-distance / spread) + distance - 1
    return loss.mean()


def twin(generator):
    """The PyTorch RCN with the weights of a Keras one."""
    net = RCN(generator.num_landmarks, generator.width, generator.dropout)
    with torch.no_grad():
        for name, convolution in net.convolutions.items():
            kernel, bias = generator.get_layer(name).get_weights()
            convolution.weight.copy_(torch.from_numpy(kernel).permute(3, 2, 0, 1))
            convolution.bias.copy_(torch.from_numpy(bias))
    return net


def evaluated(generator, images, landmarks):
    """As `nets.evaluated`, of the twin and in Keras's layout."""
    net = twin(generator).eval()
    logits = net(_tensor(images))
    loss = laplace_kl(torch.from_numpy(landmarks), logits)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    flat = [(g.permute(2, 3, 1, 0) if g.ndim == 4 else g).ravel() for g in gradients]
    values = (logits.permute(0, 2, 3, 1), loss, torch.cat(flat))
    return [value.detach().ravel().numpy() for value in values]


def training(generator, images, landmarks, layout, steps):
    """Work for `timing.take_turns`: steps of Adam, with Keras's constants, on one batch.

    Args:
        layout: name of PyTorch's memory format, of weights and images.
    """
    layout = getattr(torch, layout)
    net = twin(generator).train().to(memory_format=layout)
    images = _tensor(images).contiguous(memory_format=layout)
    landmarks = torch.from_numpy(landmarks)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7)

    def step():
        optimizer.zero_grad()
        loss = laplace_kl(landmarks, net(images))
        loss.backward()
        optimizer.step()
        loss.item()

    return timing.repeated(step, steps)


def _tensor(images):
    """NumPy images (B, H, W, 3) as a tensor (B, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
