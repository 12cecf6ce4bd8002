"""Peers compute the same task as our models: the same symbols at the same positions, with their own loss."""

import pytest
import torch
from torch import nn

from benchmarks.harness.workloads import toy
from benchmarks.peers import PEERS, build_peer, peer_versions
from benchmarks.peers.base import both_stacks
from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models import MegabyteConfig, StackConfig
from tests.benchmarks.conftest import CPU, every_peer

PATCH, WINDOW = 4, 14  # not a whole number of patches
CONFIG = MegabyteConfig(
    patch_size=PATCH,
    max_len=WINDOW,
    global_stack=StackConfig(dim=16, layers=2, heads=4, feedforward=3),
    local_stack=StackConfig(dim=12, layers=1, heads=2),
)


@pytest.fixture
def peer(name):
    torch.manual_seed(0)
    return build_peer(name, CONFIG, CPU).eval()


def symbols(rows, length):
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(1))


@every_peer
@torch.no_grad()
def test_a_symbol_changes_what_comes_after_it_and_nothing_else(peer):
    ids_1T = symbols(1, WINDOW)
    logits_TV = peer(ids_1T)[0]
    assert logits_TV.shape == (WINDOW, SYMBOLS)
    for position in range(WINDOW):
        changed_1T = ids_1T.clone()
        changed_1T[0, position] = (ids_1T[0, position] + 1) % 256
        differs_T = (peer(changed_1T)[0] - logits_TV).abs().amax(dim=1) > 1e-6
        assert not differs_T[: position + 1].any()
        assert differs_T[position + 1 :].any() == (position < WINDOW - 1)


@every_peer
@pytest.mark.parametrize("own_defaults", [False, True])
@torch.no_grad()
def test_the_nats_are_those_of_the_packages_own_loss(name, own_defaults):
    torch.manual_seed(0)
    peer = build_peer(name, toy().config, CPU, own_defaults).eval()
    for length in (1, PATCH, PATCH + 1, toy().window):
        ids_BT = symbols(2, length)
        ids_BT[0, :1] = 0  # a byte like any other
        torch.testing.assert_close(peer.nll(ids_BT).mean(), peer.own_loss(ids_BT))


@every_peer
def test_end_is_learned_like_a_byte(peer):
    ids_BT = symbols(1, WINDOW)
    ids_BT[0, 5:] = END
    peer.nll(ids_BT)[0, 5].backward()
    assert peer.network.to_logits.weight.grad[END].abs().max() > 0


@every_peer
def test_it_has_our_sizes_at_both_levels(peer):
    levels = peer.network.transformers if hasattr(peer.network, "transformers") else peer.network.stage_models
    for stack, level in zip(both_stacks(CONFIG), levels, strict=True):
        linear = sum(part.weight.numel() for part in level.modules() if isinstance(part, nn.Linear))
        assert linear == stack.layers * stack.dim**2 * (4 + 2 * stack.feedforward)
        assert [attention.heads for attention, _ in level.layers] == [stack.heads] * stack.layers


@every_peer
def test_it_generates_from_the_prefix_to_the_end_of_the_window(peer, capfd):
    prefix_BT = symbols(1, WINDOW - 1)
    ids_BT = peer.own_generate(prefix_BT)
    assert ids_BT.shape[1] >= WINDOW
    assert torch.equal(ids_BT[:, : WINDOW - 1], prefix_BT)
    assert capfd.readouterr().err == ""


@every_peer
def test_a_longer_sequence_and_a_config_without_a_level_are_refused(name, peer):
    with pytest.raises(ValueError, match="17 symbols"):
        peer(symbols(1, 17))
    config = MegabyteConfig(patch_size=4, max_len=8, global_stack=None, local_stack=CONFIG.local_stack)
    with pytest.raises(ValueError, match="both levels"):
        build_peer(name, config, CPU)


def test_versions_are_named_by_package():
    assert list(peer_versions()) == [peer.package for peer in PEERS.values()]
