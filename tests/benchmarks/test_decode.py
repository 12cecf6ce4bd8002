"""Smoke test of `python -m benchmarks.decode`, and what its figures rest on."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.decode import __main__ as decode
from benchmarks.decode import implementations, paper, speed
from benchmarks.decode.bandwidth import bytes_read_per_byte, cache_bytes, memory_of, set_up_sums
from benchmarks.decode.groups import group
from benchmarks.decode.implementations import NATIVE, Implementation, Spans, last_span, random_bytes, set_up_decoding
from benchmarks.decode.models import equal_compute, equal_weights, matrix_weights, meta_model, paper_pair, small
from benchmarks.decode.prefill import fake_prefill
from benchmarks.decode.speed import OURS, Grid, implementations_at
from benchmarks.peers import PEERS
from megabyte_mm.models import Execution, StackConfig, TransformerConfig
from tests.benchmarks.conftest import CPU

EAGER = Execution("eager")
GRID = Grid((1,), (32,), speed.NAMES, span=8, tiny=True)
SEQUENCE = paper.LongSequence(64, 16, spans=4, span=4, tiny=True)


def tiny(span=8, rows=2):
    config = small(32, tiny=True)
    return Implementation("tiny", config, rows, last_span(config, span), EAGER)


def test_every_part_is_measured_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paper, "PRECISIONS", ("int8",))
    file, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    chosen = [OURS, "Transformer, equal weights"]
    words = ["--toy", "--device", "cpu", "--rounds", "2", "--json", str(file), "--plot", str(plot)]
    assert decode.main([*words, "--only", *chosen]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    assert list(written) == ["machine", *decode.PARTS]
    rows = written["speed"][speed.TITLE]
    assert [row["implementation"] for row in rows] == chosen
    assert rows[0]["time / ours"] == 1.0
    assert all(row["bytes/s"] > 0 and row["share of memory's limit"] > 0 for row in rows)
    assert [row["precision"] for row in written["paper"][paper.TITLE]] == 3 * ["int8"]
    assert [row["context"] for row in written["length"][speed.LENGTH_TITLE]] == [32, 64]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "| batch " in capsys.readouterr().out


@pytest.mark.parametrize("position", [0, 8, 21])
@pytest.mark.parametrize("config", paper_pair(32, tiny=True), ids=lambda config: config.name)
def test_a_fake_prefill_leaves_a_decoder_at_the_same_position(config, position):
    torch.manual_seed(0)
    model = config.build().eval()
    prefixes = [random_bytes(position, CPU)] * 2
    decoders = [model.decoder(2, None, None, EAGER) for _ in range(2)]
    decoders[0].prefill_rows(prefixes)
    with fake_prefill(model):
        decoders[1].prefill_rows(prefixes)
    assert decoders[1].lengths == decoders[0].lengths
    ids_B = torch.tensor([1, 2])
    logits_BV = [decoder.step(ids_B) for decoder in decoders]
    assert logits_BV[1].isfinite().all()
    decoders[1].prefill_rows(prefixes)
    assert torch.equal(decoders[1].step(ids_B), logits_BV[0])


def test_a_measurement_is_the_mean_time_of_a_byte_of_its_spans(monkeypatch):
    runs = []

    def timed(run, calls, device):
        runs.append(run)
        run()
        return 6.0

    monkeypatch.setattr(implementations, "timed", timed)
    one = replace(tiny(), spans=Spans((0, 8), 12))
    parameters, measure = set_up_decoding(one, CPU)
    assert measure(None) == 0.5
    assert len(runs) == 2
    assert parameters == sum(p.numel() for p in meta_model(one.config).parameters())


def test_a_span_takes_a_step_for_each_of_its_bytes(monkeypatch):
    steps = []
    decoder_class = type(small(32, tiny=True).build().decoder(1))
    step = decoder_class.step

    def counted(self, *arguments):
        steps.append(list(self.lengths))
        return step(self, *arguments)

    monkeypatch.setattr(decoder_class, "step", counted)
    one = tiny()
    set_up_decoding(one, CPU)[1](None)
    [start] = one.spans.starts
    assert steps == [[start + number] * 2 for number in range(8)]
    assert start % 4 == 0
    assert start + 8 < 32


def test_whole_sequences_are_generated_to_the_end_of_the_window():
    for one in paper.three_models(replace(SEQUENCE, whole=True), EAGER):
        assert one.spans == Spans((0,), 64, timed_prefill=True)
        assert set_up_decoding(one, CPU)[1](None) > 0


def test_the_window_of_the_limited_transformer_slides_once(monkeypatch):
    slides = []
    limited = paper.three_models(SEQUENCE, EAGER)[-1]
    decoder_class = type(limited.config.build().decoder(1))
    step = decoder_class.step

    def recorded(self, ids_B, new_contexts=None):
        slides.append({row: len(ids_T) for row, ids_T in (new_contexts or {}).items()})
        return step(self, ids_B, new_contexts)

    monkeypatch.setattr(decoder_class, "step", recorded)
    set_up_decoding(limited, CPU)[1](None)
    assert len(slides) == 8
    assert [one for one in slides if one] == [{0: 8}]


def test_spans_are_spread_over_the_sequence_and_start_with_patches():
    spans = paper.spread_over(replace(SEQUENCE, length=8192, spans=8, span=64), 8)
    assert spans.starts == tuple(480 + 1024 * number for number in range(8))
    assert spans.mean_position == 4096


def test_transformers_are_as_near_as_their_widths_allow():
    config = small(8192)
    target = meta_model(config)
    compute, weights = (meta_model(equal(config)) for equal in (equal_compute, equal_weights))
    assert compute.training_flops_per_byte() == pytest.approx(target.training_flops_per_byte(), rel=0.1)
    assert matrix_weights(weights) == pytest.approx(matrix_weights(target), rel=0.05)


def test_the_bytes_read_are_those_of_weights_and_caches():
    config = TransformerConfig(32, StackConfig(dim=16, layers=2, heads=2))
    one = Implementation("one", config, 4, Spans((6,), 4), NATIVE)
    weights = 2 * 12 * 16**2 + 257 * 16
    cached = 2 * 4 * 16 * 2 * 8
    assert bytes_read_per_byte(one) == 4 * weights / 4 + cached
    assert bytes_read_per_byte(replace(one, execution=Execution("native", "int8"))) == weights / 4 + cached


def test_megabyte_reads_its_global_level_once_a_patch():
    one = replace(tiny(rows=1), spans=Spans((8,), 8))
    stack, table, to_local = 12 * 64**2, 257 * 64, 16 * 64
    cached = 2 * 4 * 64 * 12 / 4
    assert bytes_read_per_byte(one) == 4 * (stack + table + (stack + to_local) / 4) + cached / 4
    assert cache_bytes(StackConfig(64, 1, 2), 3) == cached


def test_implementations_that_do_not_fit_together_are_measured_in_groups_with_the_reference():
    named = [replace(tiny(), name=name) for name in "abcd"]
    each = memory_of(named[0])
    large = replace(tiny(rows=100_000), name="large")
    groups, left_out = group([*named, large], "b", 3.5 * each)
    assert [[one.name for one in members] for members in groups] == [["b", "a", "c"], ["b", "d"]]
    assert left_out == [large]
    assert group(named[:1], "a", each) == ([named[:1]], [])


def test_peers_generate_one_row_at_short_contexts(monkeypatch):
    for peer in PEERS.values():
        monkeypatch.setattr(peer, "installed", lambda: "1.0")
    peers = replace(GRID, only=[OURS, *speed.PACKAGES])
    everywhere = replace(peers, peers_everywhere=True)
    for grid, batch, context, expected in (
        (peers, 1, 8192, 2),
        (peers, 16, 8192, 0),
        (peers, 1, 65536, 0),
        (everywhere, 1, 65536, 2),
    ):
        assert len([one for one in implementations_at(grid, batch, context) if one.peer]) == expected


def test_native_implementations_are_compiled_on_a_gpu():
    chosen = implementations_at(GRID, 2, 32, device="cuda")
    assert [one.execution.backend for one in chosen] == [*["compile"] * 3, "eager", *["compile"] * 2]
    assert len({(one.config, one.execution) for one in chosen}) == len(chosen)


def test_the_speed_of_memory_is_seconds_per_byte():
    _, measure = set_up_sums(1000, CPU)
    assert 0 < measure(None) < 1e-3


@pytest.mark.parametrize(
    "wrong",
    [["--batches", "0"], ["--contexts", "16"], ["--bytes", "12"], ["--spans", "100"], ["--memory", "0"]],
)
def test_a_wrong_option_is_named_in_one_line(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        decode.main([*wrong, "--device", "cpu"])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("python -m benchmarks.decode: error: ")
    assert wrong[0] in last
