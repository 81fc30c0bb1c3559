"""ImageTower, which scripts that export networks of transformers share."""

import torch


class ImageTower(torch.nn.Module):
    """A network of transformers with plain tensors as outputs, as optimum exports it."""

    def __init__(self, model, outputs):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixel_values):
        found = self.model(pixel_values=pixel_values)
        return tuple(found[name] for name in self.outputs)
