"""decode.py draws what it says it times, and counts what must be read. Its figures are nobody's promise."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.decode import __main__ as decode
from benchmarks.decode import implementations as candidates
from benchmarks.decode import length, paper, speed
from benchmarks.decode.__main__ import main
from benchmarks.decode.bandwidth import bytes_for_a_byte, cached_bytes, memory_of, start_sums
from benchmarks.decode.hollow import hollow_reading
from benchmarks.decode.implementations import NATIVE, Candidate, Stretches, last_stretch, start_drawing
from benchmarks.decode.measure import grouped
from benchmarks.decode.models import equal_compute, equal_weights, matrix_weights, paper_pair, small, unallocated
from benchmarks.decode.speed import OURS, Plan, candidates_at
from benchmarks.harness.workers import WorkerError
from benchmarks.peers import PEERS, build_peer
from megabyte_mm.models import Execution, StackConfig, TransformerConfig

CPU = torch.device("cpu")
EAGER = Execution("eager")
PLAN = Plan((1,), (32,), speed.NAMES, stretch=8, memory=2**30, summed=1000, toy=True)
PAPER = paper.Plan(64, 16, places=4, stretch=4, whole=False, memory=2**30, summed=1000, toy=True)


def toy(context=32, stretch=8, rows=2, execution=EAGER):
    config = small(context, toy=True)
    return Candidate("toy", config, rows, last_stretch(config, stretch), execution)


def test_every_part_is_measured_and_written(tmp_path, capsys):
    file, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    words = ["--toy", "--device", "cpu", "--rounds", "2", "--batches", "2", "--contexts", "32", "--stretches", "2"]
    chosen = [OURS, f"{OURS}, int8", "Transformer, equal weights"]
    assert main([*words, "--only", *chosen, "--json", str(file), "--plot", str(plot)]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    assert list(written) == ["machine", *decode.PARTS]
    rows = written["speed"][speed.TITLE]
    assert [row["implementation"] for row in rows] == chosen
    assert rows[0]["time / ours"] == 1.0
    assert all(row["bytes/s"] > 0 and row["share of memory's limit"] > 0 for row in rows)
    assert [row["precision"] for row in written["paper"][paper.TITLE]] == 3 * ["float32"] + 3 * ["bfloat16"] + 3 * [
        "int8"
    ]
    assert [row["context"] for row in written["length"][length.TITLE]] == [32, 64]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "| batch " in capsys.readouterr().out


@pytest.mark.parametrize("place", [0, 8, 21])
@pytest.mark.parametrize("config", paper_pair(32, toy=True), ids=lambda one: one.name)
def test_a_hollow_prefix_leaves_a_decoder_where_reading_it_does(config, place):
    torch.manual_seed(0)
    model = config.build().eval()
    prefixes = [candidates.random_bytes(place, CPU)] * 2
    decoders = [model.decoder(2, None, None, EAGER) for _ in range(2)]
    decoders[0].prefill_rows(prefixes)
    with hollow_reading(model):
        decoders[1].prefill_rows(prefixes)
    assert decoders[1].lengths == decoders[0].lengths
    ids_B = torch.tensor([1, 2])
    logits_BV = [decoder.step(ids_B) for decoder in decoders]
    assert logits_BV[1].isfinite().all()
    decoders[1].prefill_rows(prefixes)
    assert torch.equal(decoders[1].step(ids_B), logits_BV[0])


def test_a_turn_times_a_byte_of_its_stretches(monkeypatch):
    drawn = []

    def timed(run, calls, device):
        drawn.append(run)
        run()
        return 6.0

    monkeypatch.setattr(candidates, "timed", timed)
    one = replace(toy(), stretches=Stretches((0, 8), 12))
    parameters, take = start_drawing(one, CPU)
    assert take(None) == 0.5
    assert len(drawn) == 2
    assert parameters == sum(p.numel() for p in unallocated(one.config).parameters())


def test_a_stretch_takes_a_step_for_each_of_its_bytes(monkeypatch):
    steps = []
    decoder_class = type(small(32, toy=True).build().decoder(1))
    step = decoder_class.step

    def counted(self, *arguments):
        steps.append(list(self.lengths))
        return step(self, *arguments)

    monkeypatch.setattr(decoder_class, "step", counted)
    one = toy()
    start_drawing(one, CPU)[1](None)
    [place] = one.stretches.places
    assert steps == [[place + number] * 2 for number in range(8)]
    assert place % 4 == 0
    assert place + 8 < 32


def test_whole_sequences_are_drawn_to_the_end_of_the_window():
    for one in paper.trio(replace(PAPER, whole=True), EAGER):
        assert one.stretches == Stretches((0,), 64, whole=True)
        assert start_drawing(one, CPU)[1](None) > 0


def test_the_limited_transformers_stretch_slides_its_window_once(monkeypatch):
    anew = []
    limited = paper.trio(PAPER, EAGER)[-1]
    decoder_class = type(limited.config.build().decoder(1))
    step = decoder_class.step

    def noted(self, ids_B, fresh=None):
        anew.append({row: len(ids_T) for row, ids_T in (fresh or {}).items()})
        return step(self, ids_B, fresh)

    monkeypatch.setattr(decoder_class, "step", noted)
    start_drawing(limited, CPU)[1](None)
    assert len(anew) == 8
    assert [one for one in anew if one] == [{0: 8}]


def test_stretches_are_spread_over_the_sequence_and_begin_with_patches():
    plan = replace(PAPER, length=8192, places=8, stretch=64)
    stretches = paper.spread_over(plan, 8)
    assert stretches.places == tuple(480 + 1024 * number for number in range(8))
    assert stretches.mean_place == 4096


@pytest.mark.parametrize("context", [1024, 8192, 65536])
def test_transformers_are_as_near_as_their_widths_allow(context):
    config = small(context)
    wanted = unallocated(config)
    compute, weights = (unallocated(equal(config)) for equal in (equal_compute, equal_weights))
    assert compute.training_flops_per_byte() == pytest.approx(wanted.training_flops_per_byte(), rel=0.1)
    assert matrix_weights(weights) == pytest.approx(matrix_weights(wanted), rel=0.05)


def test_the_weights_that_are_read_are_those_of_the_model():
    config = TransformerConfig(32, StackConfig(dim=16, layers=2, heads=2))
    one = Candidate("one", config, 4, Stretches((6,), 4), NATIVE)
    weights = 2 * 12 * 16**2 + 257 * 16
    cached = 2 * 4 * 16 * 2 * 8
    assert bytes_for_a_byte(one) == 4 * weights / 4 + cached
    assert bytes_for_a_byte(replace(one, execution=Execution("native", "int8"))) == weights / 4 + cached


def test_megabyte_reads_its_global_level_once_a_patch():
    one = replace(toy(rows=1), stretches=Stretches((8,), 8))
    stack, table, to_local = 12 * 64**2, 257 * 64, 16 * 64
    cached = 2 * 4 * 64 * 12 / 4
    assert bytes_for_a_byte(one) == 4 * (stack + table + (stack + to_local) / 4) + cached / 4
    assert cached_bytes(StackConfig(64, 1, 2), 3) == cached


def test_candidates_that_do_not_fit_together_take_turns_in_groups():
    named = [replace(toy(), name=name) for name in "abcd"]
    each = memory_of(named[0])
    large = replace(toy(rows=100_000), name="large")
    groups, left_out = grouped([*named, large], "b", 3.5 * each)
    assert [[one.name for one in group] for group in groups] == [["b", "a", "c"], ["b", "d"]]
    assert left_out == [large]
    assert grouped(named[:1], "a", each) == ([named[:1]], [])


def test_peers_draw_one_row_at_short_contexts(monkeypatch):
    for peer in PEERS.values():
        monkeypatch.setattr(peer, "installed", lambda: "1.0")
    everywhere = replace(PLAN, peers_everywhere=True)
    for plan, batch, context, expected in (
        (PLAN, 1, 8192, 2),
        (PLAN, 16, 8192, 0),
        (PLAN, 1, 65536, 0),
        (everywhere, 1, 65536, 2),
    ):
        found = candidates_at(replace(plan, only=[OURS, *speed.PACKAGES]), batch, context)
        assert len([one for one in found if one.peer]) == expected


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_goes_on_from_the_prefix_to_the_end_of_the_window(name, capfd):
    if PEERS[name].installed() is None:
        pytest.skip(f"{PEERS[name].package} is not installed: see docs/benchmarks.md")
    peer = build_peer(name, small(16, toy=True), CPU).eval()
    prefix_BT = candidates.random_bytes(13, CPU)[None]
    drawn_BT = peer.own_continuation(prefix_BT)
    assert drawn_BT.shape == (1, 16)
    assert torch.equal(drawn_BT[:, :13], prefix_BT)
    assert capfd.readouterr().err == ""


def test_on_a_gpu_what_is_native_elsewhere_is_compiled():
    found = candidates_at(PLAN, 2, 32, device="cuda")
    assert [one.execution.backend for one in found] == ["compile", "compile", "compile", "eager", "compile", "compile"]
    assert len({(one.config, one.execution) for one in found}) == len(found)


def test_memory_is_read():
    _, read = start_sums(1000, CPU)
    assert 0 < read(None) < 1e-3


def test_a_failing_candidate_fails_the_program_in_a_line(monkeypatch, capsys):
    def fail(*arguments):
        raise WorkerError("megabyte-mm: RuntimeError: no memory")

    monkeypatch.setattr(speed, "time_speed", fail)
    assert main(["--toy", "--device", "cpu", "--parts", "speed"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "python -m benchmarks.decode: error: megabyte-mm: RuntimeError: no memory"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ["--parts", "lunch"],
        ["--threads", "0"],
        ["--rounds", "1"],
        ["--batches", "0"],
        ["--contexts", "16"],
        ["--lengths", "16"],
        ["--bytes", "12"],
        ["--stretch", "12"],
        ["--stretches", "0"],
        ["--stretches", "100"],
        ["--memory", "0"],
        ["--only", "lunch"],
        ["--json", "no/such/folder/x.json"],
        ["--plot", "x.png", "--parts", "paper"],
    ],
)
def test_a_wrong_option_is_told_in_a_line(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*wrong, "--device", "cpu"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m benchmarks.decode: error: ")
    assert wrong[0] in last
