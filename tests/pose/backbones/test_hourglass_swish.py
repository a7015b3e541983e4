"""The hourglass of the AI Challenger entry."""

from __future__ import annotations

import pytest
import torch

from pose.backbones.hourglass_swish import HourglassSwish, HourglassSwishSettings
from pose.published.ae_aic import ae_aic_names
from tests.literal.reference.ae_aic_network import HG, PARAMETERS, published_checkpoint


@pytest.mark.parametrize(("stacks", "depth"), [(1, 4), (3, 2), (2, 1)])
def test_the_swish_hourglass_is_that_of_the_ai_challenger_entry(stacks: int, depth: int) -> None:
    """Bit by bit, every stage, with fields of different sizes: also their order in what goes between
    stacks."""
    torch.manual_seed(0)
    literal = HG(f=16, num_stacks=stacks, num_classes=5, embedding_len=3, growth=8, depth=depth)
    for value in literal.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)  # keeps the signal up through many layers
        else:
            torch.nn.init.normal_(value)
    cfg = HourglassSwishSettings(stacks=stacks, width=16, growth=8, depth=depth, stem_width=4)
    ours = HourglassSwish(cfg, {"heatmap": 5, "tag": 3})
    weights = published_checkpoint(literal)["state_dict"]
    names = ae_aic_names(weights)
    ours.load_state_dict({names[name].removeprefix("backbone."): value for name, value in weights.items()})
    x = torch.rand(2, 3, ours.size_multiple, 2 * ours.size_multiple)
    with torch.no_grad():
        expected, made = literal(x), ours(x)
    assert len(made) == stacks
    for (score, embedding), fields in zip(expected, made, strict=True):
        assert torch.equal(fields["heatmap"], score) and torch.equal(fields["tag"], embedding)
        assert score.std() > 1e-2 and embedding.std() > 1e-2


def test_the_published_swish_hourglass_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        net = HourglassSwish(HourglassSwishSettings(), {"heatmap": 14, "tag": 14})
        literal = HG()
    for one in (net, literal):
        assert sum(p.numel() for p in one.parameters()) == 103_394_516 == PARAMETERS
    assert net.strides == (8,) * 3 and net.size_multiple == 128


def test_training_the_swish_hourglass_does_not_change_what_its_branches_see() -> None:
    """An activation in place would; gradients of the sum are those of finite differences."""
    torch.manual_seed(0)
    cfg = HourglassSwishSettings(stacks=2, width=2, growth=1, depth=1, stem_width=1)
    net = HourglassSwish(cfg, {"heatmap": 1, "tag": 1}).double()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: [*net(image)[0].values(), *net(image)[1].values()], x)
