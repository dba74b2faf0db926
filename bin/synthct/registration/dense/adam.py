"""Adam for one tensor: torch's own updates, bit for bit, without the two seconds of imports that its class begins with.

``torch.optim.Optimizer`` loads torch's compiler (900 modules) when the first one is made, which a registration of ten
seconds has no use for.
"""

import math

import torch

EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba 2015) on `parameter`, which is changed in place and wants a gradient."""

    def __init__(self, parameter: torch.Tensor, betas: tuple[float, float] = (0.9, 0.999)):
        self._parameter, self._betas, self._steps = parameter, betas, 0
        self._mean, self._square = torch.zeros_like(parameter), torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, loss: torch.Tensor, size: float):
        """Move the parameter down the gradient of `loss` by a step of `size`."""
        (gradient,) = torch.autograd.grad(loss, self._parameter)
        first, second = self._betas
        self._steps += 1
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        scale = math.sqrt(1 - second**self._steps)
        root = (self._square.sqrt() / scale).add_(EPSILON)
        self._parameter.addcdiv_(self._mean, root, value=-size / (1 - first**self._steps))
