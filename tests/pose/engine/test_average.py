"""The moving average of the weights against its recursion."""

from __future__ import annotations

import torch

from pose.engine.average import MovingAverage
from pose.engine.optim import build_optimizer
from pose.engine.optimizers.sgd import SGDSettings
from tests.small_optimization import net, stepped


def test_moving_average_is_the_recursion_for_weights_and_statistics() -> None:
    module = net()
    average = MovingAverage(module, 0.95)
    optimizer = build_optimizer(module.named_parameters(), SGDSettings(lr=0.05))
    expected = {name: value.clone().double() for name, value in module.state_dict().items()}
    for step in range(1, 31):
        stepped(module, optimizer, step)
        average.update(step)
        decay = min(0.95, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    own = average.module.state_dict()
    for name, value in own.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert own["1.num_batches_tracked"] == 30
    assert not torch.equal(own["1.running_mean"], module.state_dict()["1.running_mean"])
    assert not average.module.training and not any(p.requires_grad for p in average.module.parameters())
