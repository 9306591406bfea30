"""PyTorch's side: eager training with a DataLoader, as its tutorials do it."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from images import NUM_CLASSES, draw_images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cotejo.params import load_params

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
TRIAL_STEPS = 40


class BasicBlock(nn.Module):
    """Two 3x3 convolutions of width 64 with an identity shortcut, from and to (batch, 64, height, width)."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the shortcut before the last activation."""
        return torch.relu(self.residual(x) + x)


def build_lenet() -> nn.Module:
    """Cotejo's lenet5, up to the logits."""
    return nn.Sequential(
        nn.ZeroPad2d(2),  # (batch, 1, 32, 32)
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(),  # (batch, 400)
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, NUM_CLASSES),
    )  # fmt: skip


def build_resnet() -> nn.Module:
    """Cotejo's resnet_small, up to the logits."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 7, stride=2, padding=3), nn.BatchNorm2d(64), nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),  # (batch, 64, 7, 7)
        BasicBlock(), BasicBlock(), BasicBlock(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, NUM_CLASSES),
    )  # fmt: skip


BUILDERS = {"lenet": build_lenet, "resnet": build_resnet}


def train(net: str, num_samples: int, epochs: int) -> dict[str, Any]:
    """Trains a net from scratch, in the memory layout that is the faster one in a short trial."""
    params = load_params(["base", net])
    settings = getattr(params, net)
    torch.set_num_threads(params.base.threads)
    torch.manual_seed(0)
    images, labels = draw_images(num_samples)
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    batches = DataLoader(TensorDataset(floats, torch.from_numpy(labels)), settings.batch_size, shuffle=True)

    def fit_net(layout: str, batches: Iterable[list[torch.Tensor]], epochs: int) -> list[float]:
        model = BUILDERS[net]().to(memory_format=LAYOUTS[layout])
        return fit(model, batches, epochs, settings.learning_rate)

    trial = list(islice(batches, TRIAL_STEPS))
    layout = min(LAYOUTS, key=lambda layout: fit_net(layout, trial, 2)[-1])  # the first time warms up
    return {
        "train_times_s": fit_net(layout, batches, epochs),
        "layout": layout,
        "trainable_parameters": sum(parameter.numel() for parameter in BUILDERS[net]().parameters()),
    }


def fit(model: nn.Module, batches: Iterable[list[torch.Tensor]], epochs: int, learning_rate: float) -> list[float]:
    """The loop of the tutorials, without a metric; returns the seconds of each epoch."""
    compute_loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    times_s = []
    for _ in range(epochs):
        began_s = time.perf_counter()
        for images, labels in batches:
            optimizer.zero_grad()
            compute_loss(model(images), labels).backward()
            optimizer.step()
        times_s.append(time.perf_counter() - began_s)
    return times_s
