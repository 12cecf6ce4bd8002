"""Continue validation files with a trained model, and compare what comes out with the originals.

Of pictures: pixels that are right, the outline of shapes, and, where files lie in class folders, what a classifier
trained on the real pictures takes them for. Of sounds: pitch and loudness after the cut. Of text: known words. Of
records of several parts: whether the last part that is generated is that of the record.
docs/benchmarks.md explains the columns.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.completion.cases import Case, Cases, open_cases
from benchmarks.completion.judge import Judge, train_judge
from benchmarks.completion.records import record_table
from benchmarks.completion.tables import picture_table, sound_table, text_table
from benchmarks.harness.program import add_device, check_at_least, check_device
from benchmarks.harness.report import Table, describe_machine, one_line, write_json
from data_adapters import AudioAdapter, ImageAdapter, TextAdapter
from megabyte_mm import load_model
from megabyte_mm.generation import Continuations, SamplingParams, generate_continuations, write_continuations

PROG = "python -m benchmarks.completion"


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 2 for a mistake in the arguments or the files, 130 after Ctrl-C. Figures go to stdout."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    machine = describe_machine(torch.device(options.device))
    print(one_line(machine), flush=True)
    try:
        table = _measure(options)
    except (ValueError, OSError) as error:
        print(f"{PROG}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"\n{table.text()}")
    if options.json is not None:
        write_json(options.json, machine, {"completion": [table]})
    return 0


def _measure(options: argparse.Namespace) -> Table:
    bundle = load_model(options.checkpoint, device=options.device)
    if bundle.reads_records:
        sampling = SamplingParams(options.temperature)
        return record_table(bundle, options.data, options.count, sampling, options.guidance, options.seed, options.out)
    if options.modality is not None:
        bundle = bundle.for_modality(options.modality)
    adapter = bundle.adapter
    if not isinstance(adapter, ImageAdapter | AudioAdapter | TextAdapter):
        raise ValueError(f"{adapter.name}: only continuations of pictures, sounds and text can be compared")
    cases = open_cases(bundle, options.data, options.count, options.keep, options.bytes)
    judge = _judge(adapter, cases, options.seed) if isinstance(adapter, ImageAdapter) else None
    print(f"continuing {len(cases.val)} files ...", file=sys.stderr, flush=True)
    sampling = SamplingParams(options.temperature)
    results = generate_continuations(
        bundle.model, adapter, [case.request for case in cases.val], sampling, options.seed
    )
    if options.out is not None:
        write_continuations(options.out, adapter, results)
    title = f"{options.checkpoint}, {len(results)} files, temperature {options.temperature:g}"
    pairs: list[tuple[Case, Continuations]] = list(zip(cases.val, results, strict=True))
    if isinstance(adapter, ImageAdapter):
        return picture_table(title, adapter, pairs, judge)
    if isinstance(adapter, AudioAdapter):
        return sound_table(title, adapter, pairs)
    return text_table(title, adapter, pairs, cases)


def _judge(adapter: ImageAdapter, cases: Cases, seed: int) -> Judge | None:
    """A judge that was tried on the originals; None where pictures lie in no class folders, or all in one."""
    if not cases.val_classes or len({*cases.classes, *cases.val_classes}) == 1:
        return None
    judge = judge_of(adapter, cases, seed)
    labelled = [case for case in cases.val if case.label]
    labels = judge.labels([adapter.pixels(case.original) for case in labelled])
    right = sum(label == case.label for label, case in zip(labels, labelled, strict=True))
    print(f"the judge is right on {right} of {len(labelled)} originals", file=sys.stderr, flush=True)
    return judge


def judge_of(adapter: ImageAdapter, cases: Cases, seed: int) -> Judge:
    """A judge of the classes of the training pictures. Raises ValueError before it trains where it could not judge."""
    labelled = [(record, label) for record, label in enumerate(cases.labels) if label]
    pictures = [adapter.pixels(cases.train.stream(record)) for record, _ in labelled]
    judged = [adapter.pixels(case.original) for case in cases.val if case.label]
    return train_judge(pictures, [label for _, label in labelled], judged, cases.val_classes, seed)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    add = parser.add_argument
    add("checkpoint", help="a checkpoint, an exported folder or a hub id: what load_model takes")
    add("data", help="the folder of files that it was trained on; without a val folder, it is split as in the run")
    add("--count", type=int, default=250, help="validation files, evenly spaced (default: 250)")
    add("--keep", type=float, default=0.5, help="share of each that is given (default: 0.5)")
    add(
        "--bytes",
        type=int,
        help="use only so many bytes of each sound or text (default: one window of text, two seconds of sound)",
    )
    add("--temperature", type=float, default=0.1, help="of sampling (default: 0.1: nearly the likeliest bytes)")
    add("--guidance", type=float, default=1.0, help="of records of several parts, as of generate (default: 1: none)")
    add("--seed", type=int, default=0, help="of sampling and of the classifier (default: 0)")
    add("--modality", help="one modality of a model of several")
    add("--threads", type=int, default=1, help="CPU threads (default: 1)")
    add_device(parser)
    add("--out", type=Path, metavar="FOLDER", help="also write the continuations there, with a contact sheet")
    add("--json", type=Path, metavar="FILE", help="also write the machine and all figures there")
    options = parser.parse_args(arguments)
    check_device(parser, options)
    for name in ("count", "threads"):
        check_at_least(parser, options, name, 1)
    if options.bytes is not None:
        check_at_least(parser, options, "bytes", 2)
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: no such folder")
    return options


if __name__ == "__main__":
    sys.exit(main())
