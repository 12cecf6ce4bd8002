"""Decoding steps in each backend: the numbers of `forward`, and bits of a row that do not depend on the other rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megabyte_mm.models import (
    Backend,
    BlockConfig,
    ByteModel,
    Decoder,
    Execution,
    Megabyte,
    MegabyteConfig,
    ModelConfig,
    PerceiverARConfig,
    Precision,
    StackConfig,
    TransformerConfig,
    with_rounded_weights,
)
from megabyte_mm.models.decoding.native import NativeError, library
from megabyte_mm.models.decoding.steps import Projection, projection
from tests.models.layouts import EACH
from tests.models.test_contracts import GRID, WINDOW, make, symbols

try:
    library.load()
    REASON = ""
except NativeError as error:
    REASON = str(error)
needs_native = pytest.mark.skipif(bool(REASON), reason=REASON)
every_backend = pytest.mark.parametrize("backend", [pytest.param("native", marks=needs_native), "eager"])
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
    "megabyte-neighbourhood": replace(WIDE, neighbourhood=EACH),
    "transformer-neighbourhood": TransformerConfig(64, STACK, conditions=3, init_std=0.1, neighbourhood=EACH),
    "perceiver_ar": PerceiverARConfig(64, STACK, conditions=3, init_std=0.1, latents=16),
}
every_kind = pytest.mark.parametrize(
    ("config", "backend"),
    [
        *(pytest.param(config, "eager", id=f"{name}-eager") for name, config in KINDS.items()),
        *(
            pytest.param(config, "native", id=f"{name}-native", marks=needs_native)
            for name, config in KINDS.items()
            if name != "perceiver_ar"
        ),
    ],
)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
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
    for prefix in (0, 7):
        got = [decoder.prefill(ids[:, :prefix])]
        got += [decoder.step(ids[:, t]) for t in range(prefix, WINDOW - 1)]
        agree(torch.stack(got, dim=1), expected[:, prefix:], 1e-4)


PREFIXES = [symbols(1, length, seed=length)[0] for length in (0, 21, 8, 33, 7, 40, 3, 21)]


def logits_of(decoder: Decoder, rows: list[int], steps: int) -> dict[int, list[Tensor]]:
    """Each row's logits, by its number: while it reads the rest of its prefix, and then 0, 1, 2, ..."""
    prefixes, condition = [PREFIXES[row] for row in rows], torch.tensor([row % 3 for row in rows])
    logits = decoder.prefill_rows(prefixes, condition)
    collected: dict[int, list[Tensor]] = {row: [logits[i]] for i, row in enumerate(rows)}
    assert decoder.lengths is not None
    rests = [prefix[length:] for prefix, length in zip(prefixes, decoder.lengths, strict=True)]
    for step in range(steps):
        ids = [rest[step] if step < len(rest) else torch.tensor(step - len(rest)) for rest in rests]
        logits = decoder.step(torch.stack(ids))
        for i, row in enumerate(rows):
            collected[row].append(logits[i])
    return collected


def check_same_bits(config: ModelConfig, backend: Backend) -> None:
    model = built(config)
    together = logits_of(model.decoder(8, execution=Execution(backend)), list(range(len(PREFIXES))), 12)
    for rows in ([3], [2, 7], [6, 4, 1]):
        few = logits_of(model.decoder(len(rows), execution=Execution(backend)), rows, 12)
        for row in rows:
            assert all(torch.equal(*pair) for pair in zip(few[row], together[row], strict=True)), row


@every_kind
def test_a_row_has_the_same_bits_alone_and_among_others(config: ModelConfig, backend: Backend) -> None:
    with num_threads(1):
        check_same_bits(config, backend)


@every_backend
def test_a_row_has_the_same_bits_on_several_threads(backend: Backend) -> None:
    with num_threads(2):
        check_same_bits(KINDS["megabyte-extended"], backend)


def logits_behind(model: ByteModel, ids: Tensor, condition: int = 0) -> Tensor:
    """Logits of the symbol behind each of these, by `forward`: (T,) -> (T + 1, V)."""
    with torch.no_grad():
        logits: Tensor = model(F.pad(ids, (0, 1))[None], torch.tensor([condition]))[0]
    return logits


@every_kind
def test_rows_of_different_lengths_have_the_numbers_of_forward(config: ModelConfig, backend: Backend) -> None:
    model, steps = built(config), 12
    decoder = model.decoder(8, execution=Execution(backend))
    logits = [decoder.prefill_rows(PREFIXES, torch.tensor([row % 3 for row in range(8)]))]
    assert decoder.lengths is not None
    starts = [prefix[:length] for prefix, length in zip(PREFIXES, decoder.lengths, strict=True)]
    ids = torch.arange(8 * steps).view(steps, 8)
    logits += [decoder.step(ids_B) for ids_B in ids]
    for row, start in enumerate(starts):
        expected = logits_behind(model, torch.cat([start, ids[:, row]]), row % 3)[len(start) :]
        agree(torch.stack(logits)[:, row], expected, 1e-4)


@every_kind
def test_some_rows_restart_from_a_new_context(config: ModelConfig, backend: Backend) -> None:
    model = built(config)
    decoder = model.decoder(3, execution=Execution(backend))
    ids = symbols(3, 60)
    decoder.prefill(ids[:, :37])
    cut = 24  # a multiple of every alignment here
    logits = [decoder.step(ids[:, 37], {1: ids[1, cut:38]})]
    logits += [decoder.step(ids[:, t]) for t in range(38, 54)]
    for row, begin in enumerate((0, cut, 0)):
        expected = logits_behind(model, ids[row, begin:54])[38 - begin :]
        agree(torch.stack(logits)[:, row], expected, 1e-4)


@every_backend
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["megabyte", "megabyte-extended", "megabyte-global-only", "transformer"])
def test_steps_of_lower_precision_are_those_of_rounded_weights(
    name: str, precision: Precision, backend: Backend
) -> None:
    model = built(KINDS[name])
    rounded = with_rounded_weights(model, precision, model.tied_embeddings)
    ids = symbols(2, 40)
    with torch.no_grad():
        exact, expected = model(ids), rounded(ids)
    decoder = rounded.decoder(2, execution=Execution(backend, precision))
    got = torch.stack([decoder.prefill(ids[:, :0]), *(decoder.step(ids[:, t]) for t in range(39))], dim=1)
    agree(got, expected, 1e-4)
    assert float((got - exact).abs().max()) > 1e-3 * float(exact.abs().max()), "something was rounded"


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("outputs", [1, 64, 65, 257])
@needs_native
def test_native_projections_equal_torchs(rows: int, outputs: int) -> None:
    x, weight, bias = torch.randn(rows, 48), torch.randn(outputs, 48), torch.randn(outputs)
    for threads in (1, 2):
        with num_threads(threads):
            agree(projection(weight, bias, Execution("native"))(x), F.linear(x, weight, bias))
            agree(projection(weight, None, Execution("native"))(x), F.linear(x, weight))


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_every_product_has_the_same_number_of_rows(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megabyte_mm.models.decoding.steps.rows_per_product", lambda *_: (4, 4))
    weight, seen = torch.randn(6, 5), set()
    product = F.linear

    def linear(x: Tensor, *rest: Tensor) -> Tensor:
        seen.add(len(x))
        return product(x, *rest)

    monkeypatch.setattr(F, "linear", linear)
    x = torch.randn(count, 5)
    torch.testing.assert_close(Projection(weight, None, Execution())(x), product(x, weight))
    assert seen == {4}


@pytest.fixture
def fresh_library() -> Iterator[None]:
    """The native library is loaded again in this test, and once more after it."""
    library._library_or_reason.cache_clear()
    yield
    library._library_or_reason.cache_clear()


@pytest.mark.usefixtures("fresh_library")
def test_without_a_compiler_steps_are_eager_and_native_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    model, ids = built(KINDS["megabyte"]), symbols(1, 9)
    agree(model.decoder(1).prefill(ids), logits_behind(model, ids[0])[-1:], 1e-4)
    with pytest.raises(ValueError, match=r"backend native: native steps (need a C\+\+ compiler|are for Linux)"):
        model.decoder(1, execution=Execution("native"))


@needs_native
@pytest.mark.usefixtures("fresh_library")
def test_a_failed_build_names_the_error_of_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "steps.cpp"
    broken.write_text("this is no C++\n")
    monkeypatch.setattr(library, "SOURCE", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(NativeError, match=r"cannot build the native steps: .*steps\.cpp:1:1: error"):
        library.load()
    assert list((tmp_path / "cache" / "megabyte-mm").iterdir()) == []


@needs_native
@pytest.mark.usefixtures("fresh_library")
def test_a_truncated_library_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(library, "FLAGS", ("-O0", *library.FLAGS[1:]))
    file = library._build(library._compiler())
    file.write_bytes(b"")
    assert library.load().width() > 0
    assert file.stat().st_size > 0


@needs_native
@pytest.mark.parametrize("home", ["a file", "missing"])
@pytest.mark.usefixtures("fresh_library")
def test_without_a_cache_folder_steps_are_eager(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if home == "a file":
        (tmp_path / "cache").touch()
    else:
        monkeypatch.delenv("XDG_CACHE_HOME")

        def nowhere() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(NativeError, match="native steps"):
        library.load()
    assert built(KINDS["megabyte"]).decoder(1).prefill(symbols(1, 3)).isfinite().all()


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
def test_an_unknown_execution_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is '{value}'; known: "):
        Execution(**{field: value})  # type: ignore[arg-type]


def test_a_perceiver_has_only_eager_steps() -> None:
    with pytest.raises(ValueError, match="PerceiverAR has only eager steps"):
        built(KINDS["perceiver_ar"]).decoder(1, execution=Execution("compile"))


# torch's own import of its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiled_steps_equal_eager_ones() -> None:
    stack = replace(STACK, layers=1)
    model, ids = built(MegabyteConfig(8, 64, stack, stack, block=MODERN, init_std=0.1)), symbols(2, 40)
    results = []
    backends: tuple[Backend, Backend] = ("eager", "compile")
    for backend in backends:
        decoder = model.decoder(2, execution=Execution(backend))
        results.append(torch.stack([decoder.prefill(ids[:, :11]), *(decoder.step(ids[:, t]) for t in range(11, 30))]))
    agree(results[1], results[0])


def test_a_long_prefix_is_read_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
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


@every_kind
def test_rows_that_were_not_prefilled_are_refused(config: ModelConfig, backend: Backend) -> None:
    decoder = built(config).decoder(2, execution=Execution(backend))
    with pytest.raises(ValueError, match="3 rows; this decoder takes 1 to 2"):
        decoder.prefill_rows([symbols(1, 3)[0]] * 3)
    with pytest.raises(ValueError, match="0 rows; this decoder takes 1 to 2"):
        decoder.prefill_rows([])
    decoder.prefill_rows([symbols(1, 3)[0]])
    with pytest.raises(ValueError, match=r"symbols of shape \(2,\); 1 rows were prefilled"):
        decoder.step(torch.tensor([1, 2]))


@every_kind
def test_steps_under_autocast_are_steps(config: ModelConfig, backend: Backend) -> None:
    model, ids = built(config), symbols(1, 20)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.decoder(1, execution=Execution(backend)).prefill(ids)
    agree(logits.float(), logits_behind(model, ids[0])[-1:], 0.2)


@needs_native
def test_a_decoder_keeps_its_weights_when_the_model_changes() -> None:
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
