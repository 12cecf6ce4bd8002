"""Steps of each backend: the numbers of `forward`, and for each row the same bits whatever the others are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models import (
    BlockConfig,
    ByteModel,
    Decoder,
    Execution,
    Megabyte,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    StackConfig,
    TransformerConfig,
    with_rounded_weights,
)
from megabyte_mm.models.decoding.native import NativeError, library
from megabyte_mm.models.decoding.steps import Projection, projection
from tests.models.test_contracts import GRID, WINDOW, make, symbols

try:
    library.load()
    REASON = ""
except NativeError as error:
    REASON = str(error)
needs_native = pytest.mark.skipif(bool(REASON), reason=REASON)
BACKENDS = [pytest.param("native", marks=needs_native), "eager"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
NATIVE = {name: config for name, config in GRID.items() if not isinstance(config, PerceiverARConfig)}

STACK = StackConfig(dim=64, layers=2, heads=2)
WIDE = MegabyteConfig(8, 64, replace(STACK, dim=128), STACK, conditions=3, init_std=0.1)
MODERN = BlockConfig(norm="rms", activation="swiglu", positions="rotary", qk_norm=True, bias=False)
KINDS: dict[str, ModelConfig] = {
    "megabyte": WIDE,
    "megabyte-extended": replace(WIDE, conv_encoder=True, cross_patch=3, local_start="byte", block=MODERN),
    "megabyte-local-only": replace(WIDE, global_stack=None),
    "megabyte-global-only": replace(WIDE, local_stack=None),
    "transformer": TransformerConfig(64, STACK, conditions=3, init_std=0.1),
    "transformer-blocks": TransformerConfig(64, STACK, conditions=3, init_std=0.1, context=24),
    "perceiver_ar": PerceiverARConfig(64, STACK, conditions=3, init_std=0.1, latents=16),
}
every_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def built(config: ModelConfig) -> ByteModel:
    return make(config).float()


def agree(got: Tensor, expected: Tensor, share: float = 2e-5) -> None:
    """Within so large a share of the largest number, as sums in another order are."""
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= share * float(expected.abs().max())


@needs_native
@pytest.mark.parametrize("config", NATIVE.values(), ids=NATIVE)
def test_native_steps_equal_forward(config: ModelConfig) -> None:
    model = built(config)
    ids, condition = symbols(2, WINDOW), torch.tensor([2, 1])
    with torch.no_grad():
        expected = model(ids, condition)
    decoder = model.decoder(2, condition, execution=Execution("native"))
    for prefix in (0, 7, WINDOW - 1):
        got = [decoder.prefill(ids[:, :prefix])]
        got += [decoder.step(ids[:, t]) for t in range(prefix, WINDOW - 1)]
        agree(torch.stack(got, dim=1), expected[:, prefix:], 1e-4)


PREFIXES = [symbols(1, length, seed=length)[0] for length in (0, 21, 8, 33, 7, 40, 3, 21)]


def logits_of(decoder: Decoder, rows: list[int], steps: int) -> dict[int, list[Tensor]]:
    """What each row is told at its own places, by its number: after the rest of its prefix, and then of 0, 1, 2..."""
    prefixes, condition = [PREFIXES[row] for row in rows], torch.tensor([row % 3 for row in rows])
    logits = decoder.prefill_rows(prefixes, condition)
    found: dict[int, list[Tensor]] = {row: [logits[i]] for i, row in enumerate(rows)}
    assert decoder.lengths is not None
    rests = [prefix[length:] for prefix, length in zip(prefixes, decoder.lengths, strict=True)]
    for step in range(steps):
        given = [rest[step] if step < len(rest) else torch.tensor(step - len(rest)) for rest in rests]
        logits = decoder.step(torch.stack(given))
        for i, row in enumerate(rows):
            found[row].append(logits[i])
    return found


@every_backend
@every_kind
def test_a_row_has_the_same_bits_alone_and_among_others(config: ModelConfig, backend: str, threads: int) -> None:
    if isinstance(config, PerceiverARConfig) and backend == "native":
        pytest.skip("PerceiverAR has only eager steps")
    model = built(config)
    everyone = list(range(len(PREFIXES)))
    together = logits_of(model.decoder(8, None, None, Execution(backend)), everyone, 20)  # type: ignore[arg-type]
    for rows in ([3], [5], [2, 7], [6, 4, 1]):
        few = logits_of(model.decoder(len(rows), None, None, Execution(backend)), rows, 20)  # type: ignore[arg-type]
        for row in rows:
            assert all(torch.equal(*pair) for pair in zip(few[row], together[row], strict=True)), row


@every_backend
@every_kind
def test_rows_at_different_places_have_the_numbers_of_forward(config: ModelConfig, backend: str) -> None:
    if isinstance(config, PerceiverARConfig) and backend == "native":
        pytest.skip("PerceiverAR has only eager steps")
    model = built(config)
    decoder = model.decoder(8, None, None, Execution(backend))  # type: ignore[arg-type]
    logits = decoder.prefill_rows(PREFIXES, torch.tensor([row % 3 for row in range(8)]))
    assert decoder.lengths is not None
    seen = [prefix[:length] for prefix, length in zip(PREFIXES, decoder.lengths, strict=True)]
    for step in range(12):
        for row, ids in enumerate(seen):
            with torch.no_grad():
                expected = model(F.pad(ids, (0, 1))[None], torch.tensor([row % 3]))[0, -1]
            agree(logits[row], expected, 1e-4)
        ids_B = torch.arange(8) + 8 * step
        logits = decoder.step(ids_B)
        seen = [torch.cat([ids, new[None]]) for ids, new in zip(seen, ids_B, strict=True)]


@every_backend
@every_kind
def test_some_rows_go_on_from_a_fresh_context(config: ModelConfig, backend: str) -> None:
    if isinstance(config, PerceiverARConfig) and backend == "native":
        pytest.skip("PerceiverAR has only eager steps")
    model = built(config)
    decoder = model.decoder(3, None, None, Execution(backend))  # type: ignore[arg-type]
    ids = symbols(3, 60)
    decoder.prefill(ids[:, :37])
    cut = 24  # a multiple of every alignment here
    logits = decoder.step(ids[:, 37], {1: ids[1, cut:38]})
    for t in range(38, 54):
        for row in range(3):
            begin = cut if row == 1 else 0
            with torch.no_grad():
                expected = model(F.pad(ids[row : row + 1, begin:t], (0, 1)))[0, -1]
            agree(logits[row], expected, 1e-4)
        logits = decoder.step(ids[:, t])


@every_backend
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["megabyte", "megabyte-extended", "megabyte-global-only", "transformer"])
def test_steps_of_lower_precision_are_those_of_rounded_weights(name: str, precision: str, backend: str) -> None:
    model = built(KINDS[name])
    rounded = with_rounded_weights(model, precision, model.tied_embeddings)  # type: ignore[arg-type]
    ids = symbols(2, 40)
    with torch.no_grad():
        exact, expected = model(ids), rounded(ids)
    decoder = rounded.decoder(2, None, None, Execution(backend, precision))  # type: ignore[arg-type]
    got = torch.stack([decoder.prefill(ids[:, :0]), *(decoder.step(ids[:, t]) for t in range(39))], dim=1)
    agree(got, expected, 1e-4)
    assert float((got - exact).abs().max()) > 1e-3 * float(exact.abs().max()), "something was rounded"


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("outputs", [1, 64, 65, 257])
@needs_native
def test_native_projections_equal_torchs(rows: int, outputs: int, threads: int) -> None:
    x, weight, bias = torch.randn(rows, 48), torch.randn(outputs, 48), torch.randn(outputs)
    agree(projection(weight, bias, Execution("native"))(x), F.linear(x, weight, bias))
    agree(projection(weight, None, Execution("native"))(x), F.linear(x, weight))


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_product_has_the_same_number_of_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megabyte_mm.models.decoding.steps.ROWS_PER_PRODUCT", {"cpu": 4})
    weight, seen = torch.randn(6, 5), set()
    product = F.linear

    def linear(x: Tensor, *rest: Tensor) -> Tensor:
        seen.add(len(x))
        return product(x, *rest)

    monkeypatch.setattr(F, "linear", linear)
    x = torch.randn(count, 5)
    torch.testing.assert_close(Projection(weight, None, None)(x), product(x, weight))
    assert seen == {4}


def test_without_a_compiler_steps_are_eager_and_native_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    library._found.cache_clear()
    try:
        model = built(KINDS["megabyte"])
        ids = symbols(1, 9)
        with torch.no_grad():
            expected = model(F.pad(ids, (0, 1)))[:, -1]
        agree(model.decoder(1).prefill(ids), expected, 1e-4)
        with pytest.raises(ValueError, match=r"backend native: native steps (need a C\+\+ compiler|are for Linux)"):
            model.decoder(1, execution=Execution("native"))
    finally:
        library._found.cache_clear()


@needs_native
def test_what_a_compiler_says_is_told(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "steps.cpp"
    broken.write_text("this is no C++\n")
    monkeypatch.setattr(library, "SOURCE", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library._found.cache_clear()
    try:
        with pytest.raises(NativeError, match=r"cannot build the native steps: .*steps\.cpp:1:1: error"):
            library.load()
    finally:
        library._found.cache_clear()
    assert list((tmp_path / "cache" / "megabyte-mm").iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_types_step_eagerly(dtype: torch.dtype) -> None:
    model = make(KINDS["megabyte"]).to(dtype)
    ids = symbols(2, 20)
    with torch.no_grad():
        expected = model(ids)[:, -1]
    agree(model.decoder(2).prefill(ids[:, :19]), expected, 1e-9 if dtype == torch.float64 else 0.1)
    with pytest.raises(ValueError, match="native steps are for float32 models on a CPU, this one is torch"):
        model.decoder(2, execution=Execution("native"))


@pytest.mark.parametrize(("field", "value"), [("backend", "fast"), ("precision", "int4")])
def test_an_execution_that_is_not_known_is_named(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is '{value}'; known: "):
        Execution(**{field: value})  # type: ignore[arg-type]


def test_a_perceiver_has_eager_steps_alone() -> None:
    with pytest.raises(ValueError, match="PerceiverAR has only eager steps"):
        built(KINDS["perceiver_ar"]).decoder(1, execution=Execution("compile"))


# torch's own import of its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_steps_equal_eager_ones() -> None:
    model = built(replace(WIDE, block=MODERN))
    ids = symbols(2, 40)
    found = []
    for backend in ("eager", "compile"):
        decoder = model.decoder(2, None, None, Execution(backend))
        found.append(torch.stack([decoder.prefill(ids[:, :11]), *(decoder.step(ids[:, t]) for t in range(11, 39))]))
    agree(found[1], found[0])


def test_a_long_prefix_is_read_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(KINDS["megabyte-extended"])
    ids = symbols(1, 63)
    whole = model.decoder(1).prefill(ids)
    monkeypatch.setattr("megabyte_mm.models.megabyte.decoder.PATCHES_AT_ONCE", 2)
    agree(model.decoder(1).prefill(ids), whole)


def test_rows_of_one_prefix_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(KINDS["megabyte-extended"])
    assert isinstance(model, Megabyte)
    reads, forward = [], model.embedder.forward

    def read(*arguments: Any) -> Tensor:
        reads.append(arguments)
        return forward(*arguments)

    monkeypatch.setattr(model.embedder, "forward", read)
    decoder = model.decoder(4)
    prefix = symbols(1, 24)[0]
    logits = decoder.prefill_rows([prefix] * 4)
    assert len(reads) == 1
    assert torch.equal(logits[0], logits[3])


@needs_native
@pytest.mark.parametrize("spoilt", ["cut short", "a folder that is a file", "no home"])
def test_a_cache_that_cannot_be_used_is_made_anew_or_done_without(
    spoilt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library._found.cache_clear()
    try:
        if spoilt == "cut short":
            # In another process: what is loaded here must not be cut.
            command = "from megabyte_mm.models.decoding.native import load; load()"
            subprocess.run([sys.executable, "-c", command], check=True)
            [file] = (tmp_path / "cache" / "megabyte-mm").iterdir()
            file.write_bytes(b"")
            assert library.load().width() > 0
            assert file.stat().st_size > 0
            return
        if spoilt == "no home":
            monkeypatch.delenv("XDG_CACHE_HOME")

            def nowhere() -> Path:
                raise RuntimeError("Could not determine home directory.")

            monkeypatch.setattr(Path, "home", nowhere)
        else:
            (tmp_path / "cache").touch()
        with pytest.raises(NativeError, match="native steps"):
            library.load()
        assert built(KINDS["megabyte"]).decoder(1).prefill(symbols(1, 3)).isfinite().all()
    finally:
        library._found.cache_clear()


@every_backend
@pytest.mark.parametrize("name", ["megabyte", "transformer", "perceiver_ar"])
def test_rows_that_were_not_begun_are_refused(name: str, backend: str) -> None:
    model = built(KINDS[name])
    decoder = model.decoder(2, execution=Execution("eager" if name == "perceiver_ar" else backend))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 rows; this decoder takes 1 to 2"):
        decoder.prefill_rows([symbols(1, 3)[0]] * 3)
    with pytest.raises(ValueError, match="0 rows; this decoder takes 1 to 2"):
        decoder.prefill_rows([])
    decoder.prefill_rows([symbols(1, 3)[0]])
    with pytest.raises(ValueError, match=r"symbols of shape \(2,\); 1 rows were prefilled"):
        decoder.step(torch.tensor([1, 2]))


@every_backend
@every_kind
def test_steps_under_autocast_are_steps(config: ModelConfig, backend: str) -> None:
    if isinstance(config, PerceiverARConfig) and backend == "native":
        pytest.skip("PerceiverAR has only eager steps")
    model, ids = built(config), symbols(2, 20)
    with torch.no_grad():
        expected = model(F.pad(ids, (0, 1)))[:, -1]
    with torch.autocast("cpu", torch.bfloat16):
        got = model.decoder(2, execution=Execution(backend)).prefill(ids)  # type: ignore[arg-type]
    agree(got.float(), expected, 0.2)


@needs_native
def test_a_decoder_keeps_the_weights_that_it_was_made_with() -> None:
    model, ids = built(KINDS["megabyte-extended"]), symbols(1, 5)
    decoder = model.decoder(1, execution=Execution("native"))
    decoder.prefill_rows([ids[0, :0]])
    before = decoder.step(ids[:, 0])
    decoder.prefill_rows([ids[0, :0]])
    assert isinstance(model, Megabyte)
    assert model.local_stack is not None
    with torch.no_grad():
        model.local_stack.norm.weight.mul_(7.0)
    assert torch.equal(decoder.step(ids[:, 0]), before)
