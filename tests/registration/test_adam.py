"""Our Adam beside torch's."""

import torch

from synthct.registration.dense.adam import Adam


def test_the_bits_of_torch_s_own():
    start = torch.randn(3, 7, 6, 5, generator=torch.Generator().manual_seed(1))
    ours, theirs = (start.clone().requires_grad_() for _ in range(2))
    weights = torch.linspace(0, 3, start.numel()).view_as(start)  # a gradient of 0 is among them

    def loss(x):
        return (weights * (x - 1).square()).sum() + torch.sin(3 * x).mean()

    adam, optimiser = Adam(ours, (0.9, 0.99)), torch.optim.Adam([theirs], lr=0.3, betas=(0.9, 0.99))
    slower = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.9**step)
    for step in range(50):
        adam.step(loss(ours), 0.3 * 0.9**step)
        optimiser.zero_grad()
        loss(theirs).backward()
        optimiser.step()
        slower.step()
        assert torch.equal(ours, theirs), step
    assert not torch.equal(ours, start)
