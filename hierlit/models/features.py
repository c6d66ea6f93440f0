"""Shim."""
from dataclasses import dataclass
import torch
from hierlit.models.random_features import RandomFeatures

class Features:
    def __init_subclass__(cls): torch.serialization.add_safe_globals([cls])

@dataclass(frozen=True)
class GaussianFeatures(Features):
    beta: float = 0.5
    activation: str = "relu"
    bias: str = "gaussian"
    input_scale: str = "live"
    kind = property(lambda self: self.activation)
    def first_layer(self, fan_in, n_features, generator):
        made = RandomFeatures(fan_in, n_features, self.beta, self.activation, self.bias, generator)
        made.input_scale = self.input_scale
        return made
