"""The peers stand where our models do: same symbols at same places, and the loss that they were made for."""

import pytest
import torch
from torch import nn

from benchmarks.peers import PEERS, build_peer, peer_versions
from benchmarks.peers.base import both_stacks
from megabyte_mm.alphabet import END, SYMBOLS
from megabyte_mm.models import MegabyteConfig, StackConfig

CPU = torch.device("cpu")
PATCH, WINDOW = 4, 14  # not a whole number of patches
CONFIG = MegabyteConfig(
    patch_size=PATCH,
    max_len=WINDOW,
    global_stack=StackConfig(dim=16, layers=2, heads=4, feedforward=3),
    local_stack=StackConfig(dim=12, layers=1, heads=2),
)
OWN_LOSS = {"MEGABYTE-pytorch": {"return_loss": True}, "mblm": {}}


def installed(name):
    reason = f"{PEERS[name].package} is not installed: see docs/benchmarks.md"
    return pytest.param(name, marks=pytest.mark.skipif(PEERS[name].installed() is None, reason=reason))


@pytest.fixture(params=[installed(name) for name in PEERS])
def peer(request):
    torch.manual_seed(0)
    return build_peer(request.param, CONFIG, CPU).eval()


def symbols(rows, length):
    return torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("length", [1, PATCH - 1, PATCH, PATCH + 1, WINDOW])
def test_every_symbol_has_a_distribution(peer, length):
    ids_BT = symbols(3, length)
    assert peer(ids_BT).shape == (3, length, SYMBOLS)
    assert peer.nll(ids_BT).shape == (3, length)


@torch.no_grad()
def test_a_symbol_changes_what_comes_after_it_and_nothing_else(peer):
    ids_1T = symbols(1, WINDOW)
    logits_TV = peer(ids_1T)[0]
    for place in range(WINDOW):
        changed_1T = ids_1T.clone()
        changed_1T[0, place] = (ids_1T[0, place] + 1) % 256
        differs_T = (peer(changed_1T)[0] - logits_TV).abs().amax(dim=1) > 1e-6
        assert not differs_T[: place + 1].any()
        assert differs_T[place + 1 :].any() == (place < WINDOW - 1)


@torch.no_grad()
@pytest.mark.parametrize("length", [PATCH, WINDOW - 2])
def test_the_nats_are_those_of_the_peers_own_loss(peer, length):
    ids_BT = symbols(2, length)
    ids_BT[0, :3] = 0  # bytes like any other
    own_loss = peer.network(ids_BT, **OWN_LOSS[peer.package])
    torch.testing.assert_close(peer.nll(ids_BT).mean(), own_loss)


def test_end_is_learned_like_a_byte(peer):
    ids_BT = symbols(1, WINDOW)
    ids_BT[0, 5:] = END
    peer.nll(ids_BT)[0, 5].backward()
    assert peer.network.to_logits.weight.grad[END].abs().max() > 0


def test_it_has_our_sizes_at_both_levels(peer):
    levels = peer.network.transformers if hasattr(peer.network, "transformers") else peer.network.stage_models
    for stack, theirs in zip(both_stacks(CONFIG), levels, strict=True):
        linear = sum(part.weight.numel() for part in theirs.modules() if isinstance(part, nn.Linear))
        assert linear == stack.layers * stack.dim**2 * (4 + 2 * stack.feedforward)
        assert [attention.heads for attention, _ in theirs.layers] == [stack.heads] * stack.layers


def test_a_longer_sequence_is_refused(peer):
    with pytest.raises(ValueError, match="17 symbols; this model takes 1 to 16"):
        peer(symbols(1, 17))


@pytest.mark.parametrize("name", [installed(name) for name in PEERS])
def test_a_config_without_a_level_is_refused(name):
    config = MegabyteConfig(patch_size=4, max_len=8, global_stack=None, local_stack=CONFIG.local_stack)
    with pytest.raises(ValueError, match="both levels"):
        build_peer(name, config, CPU)


def test_versions_are_told_by_package():
    assert list(peer_versions()) == ["MEGABYTE-pytorch", "mblm"]
