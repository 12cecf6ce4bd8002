"""fit, validate and test as a user sees them: files, lines, exit codes, and the trainer's own options."""

import csv
import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger

from megabyte_mm import load_model
from megabyte_mm.training.run_folder import open_run
from tests.training.test_samples import CASES

PLAIN = (dict, list, tuple, str, int, float, bool, type(None), torch.Tensor)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root: Path, version: int = 0) -> list[dict[str, str]]:
    with (root / f"logs/version_{version}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def logged(root: Path, name: str, version: int = 0) -> list[float]:
    return [float(row[name]) for row in rows(root, version) if row.get(name)]


def test_a_run_leaves_its_files_and_a_resumed_one_adds_to_them(fit, root, capfd):
    assert fit() == 0
    lines = capfd.readouterr().err.splitlines()
    sizes = r"2 files \(640 bytes\) to train on and 1 file \(80 bytes\) to validate"
    assert re.fullmatch(rf"megabyte, 0\.0\d M parameters, patch 4; window 32; {sizes}; .*", lines[0])
    assert [line.split(":")[0] for line in lines[1:]] == [
        "step 4/8",
        "step 8/8",
        "run/best.ckpt",
    ]
    provenance = load_model(root / "best.ckpt").provenance
    assert (provenance.data_name, provenance.val_share, provenance.method) == ("texts", 0.05, "plain")
    assert provenance.data == {"": {"train": {"files": 2, "bytes": 640}, "val": {"files": 1, "bytes": 80}}}
    assert provenance.val_bpb == pytest.approx({"": min(logged(root, "val/bpb"))})
    before = files(root)
    names = {re.sub(r"tfevents.*", "tfevents", name) for name in before}
    log = "logs/version_0/"
    assert names == {"best.ckpt", "last.ckpt"} | {
        log + name for name in ("metrics.csv", "events.out.tfevents", "hparams.yaml", "config.yaml")
    }
    assert {"train/bpb", "train/loss", "val/bpb", "train/bytes_per_s", "train/flops_per_s", "lr-AdamW/pg1"} <= set(
        rows(root)[0]
    )
    assert fit() == 2
    assert capfd.readouterr().err.startswith("megabyte-mm fit: error: ")
    assert files(root) == before
    assert fit("--ckpt_path=last", "--trainer.max_steps=12") == 0
    after = files(root)
    assert all(after[name] == content for name, content in before.items() if name.startswith("logs"))
    assert logged(root, "step", 1)[-1] == 11
    assert logged(root, "train/bytes", 1)[-1] == 12 * 4 * 32
    provenance = load_model(root / "last.ckpt").provenance
    assert (provenance.steps, provenance.bytes) == (12, 12 * 4 * 32)
    assert provenance.val_bpb == pytest.approx({"": logged(root, "val/bpb", 1)[-1]})


def test_validate_and_test_measure_a_checkpoint_and_write_nothing(fit, root, capfd):
    assert fit() == 0
    before = files(root)
    best = min(logged(root, "val/bpb"))
    capfd.readouterr()
    assert fit("--ckpt_path=best", command="validate") == 0
    assert f"{best:.4f}"[:-1] in capfd.readouterr().out
    assert fit(f"--ckpt_path={root / 'best.ckpt'}", command="test") == 0
    assert "test/bpb" in capfd.readouterr().out
    assert files(root) == before
    broken = torch.load(root / "best.ckpt", weights_only=True)
    broken["state_dict"].popitem()
    torch.save(broken, "broken.ckpt")
    assert fit("--ckpt_path=broken.ckpt", command="validate") == 2
    assert "broken.ckpt: a damaged checkpoint: it lacks the weight" in capfd.readouterr().err


def test_a_checkpoint_holds_plain_values(fit, root):
    assert fit() == 0

    def plain(value: object) -> bool:
        inside: list = []
        if isinstance(value, dict):
            inside = [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            inside = [*value]
        return isinstance(value, PLAIN) and all(map(plain, inside))

    for name in ("best.ckpt", "last.ckpt"):
        assert plain(torch.load(root / name, weights_only=True))


def test_the_learning_rate_of_the_command_wins_over_the_checkpoint(fit, root):
    constant = ("--model.optimizer.decay=constant", "--model.optimizer.warmup_steps=0")
    assert fit(*constant) == 0
    assert set(logged(root, "lr-AdamW/pg1")) == {0.01}
    change = ("--model.optimizer.lr=0.002", "--model.optimizer.weight_decay=0.3", "--model.optimizer.beta2=0.9")
    assert fit(*constant, *change, "--ckpt_path=last", "--trainer.max_steps=12") == 0
    assert set(logged(root, "lr-AdamW/pg1", 1)) == {0.002}
    groups = torch.load(root / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [(group["lr"], group["weight_decay"], group["betas"]) for group in groups] == [
        (0.002, 0.3, (0.9, 0.9)),
        (0.002, 0.0, (0.9, 0.9)),
    ]


DIFFERENT = {
    "--model.net.local_stack.layers=2": "model.net.local_stack.layers is 2, but 1 in the checkpoint",
    "--data.window=16": "data.window is 16, but 32 in the checkpoint",
    "--data.adapter=data_adapters.FileAdapter": "data.adapter.name is 'file', but 'text' in the checkpoint",
}


def test_a_run_by_the_clock_resumes_with_the_time_of_its_warm_up(fit, root, monkeypatch):
    clock, arguments = "megabyte_mm.training.module.read_clock", ("--model.optimizer.final_lr=0.1",)
    monkeypatch.setattr(clock, lambda trainer: (40.0 * trainer.global_step, 100.0))
    assert fit(*arguments, "--trainer.max_steps=4") == 0
    # The clock is read at the start of an update, and used for the next: the warm-up of two ends at 40.
    assert logged(root, "lr-AdamW/pg1") == pytest.approx([0.01 / 3, 0.02 / 3, 0.01, 0.01 * (0.1 + 0.9 / 3)])
    checkpoint = torch.load(root / "last.ckpt", weights_only=True)
    assert checkpoint["lr_schedulers"][0]["lr_lambdas"] == [{"warmup_time": 40.0}] * 2
    # Three quarters of the time after warm-up have passed, and two thirds of the updates.
    monkeypatch.setattr(clock, lambda _: (85.0, 100.0))
    assert fit(*arguments, "--ckpt_path=last", "--trainer.max_steps=5", "--trainer.val_check_interval=1") == 0
    assert logged(root, "lr-AdamW/pg1", 1) == pytest.approx([0.01 * (0.1 + 0.9 / 4)])


def test_resuming_another_model_or_other_data_is_refused_by_field(fit, root, capfd):
    assert fit() == 0
    before = files(root)
    for argument, message in DIFFERENT.items():
        assert fit("--ckpt_path=last", argument) == 2
        (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
        assert message in line
    assert {name: files(root)[name] for name in ("best.ckpt", "last.ckpt")} == {
        name: before[name] for name in ("best.ckpt", "last.ckpt")
    }


def test_last_without_a_checkpoint_begins_and_says_so(fit, root, capfd):
    assert fit("--ckpt_path=last") == 0
    assert capfd.readouterr().err.splitlines()[0] == f"{root} holds no checkpoint yet: starting from the beginning"


MISTAKES = {
    "--trainer.val_check_interval=0.5": "`val_check_interval` should be an integer",
    "--trainer.nonsense=1": "--trainer.nonsense",
    "--model.net.global_stack.heads=3": "model.net.global_stack.dim 16 is not a multiple of heads 3",
    "--model.net.patch_size=5": "global_stack.dim 16 is not a multiple of patch_size 5",
    "--model.optimizer.lr=-1": "model.optimizer.lr is -1.0; it must be a number above 0",
    "--model.optimizer.weight_decay=.nan": "model.optimizer.weight_decay is nan; it must be a number",
    "--model.optimizer.final_lr=.inf": "model.optimizer.final_lr is inf; it must be a number",
    "--model.net.init_std=.nan": "model.net.init_std is nan; it must be a number above 0",
    "--model.net.embedding_scale=.inf": "model.net.embedding_scale is inf; it must be a number above 0",
    "--model.net.local_stack.heads=0": "model.net.local_stack.heads is 0; it must be at least 1",
    '--model.net=TransformerConfig --model.net.stack={"dim":8,"layers":0,"heads":1}': "model.net.stack.layers is 0",
    "--data.path=nowhere": "data.path nowhere: no such file or folder",
    "--samples.keep=7": "samples.keep is 7.0; it must be between 0 and 1",
    "--samples.temperature=.nan": "samples.temperature is nan",
    "--checkpoint_minutes=-1": "checkpoint_minutes is -1.0",
    "--checkpoint_minutes=.inf": "checkpoint_minutes is inf",
    "--ckpt_path=nowhere.ckpt": "--ckpt_path: there is no file nowhere.ckpt",
    "--ckpt_path=best": "--ckpt_path: there is no file",
    "--ckpt_path=small.yaml": "small.yaml: not a checkpoint, or a damaged one",
    "--config=twice.yaml": "twice.yaml, line 3: max_steps is set twice",
    "--config=unknown.yaml": "unknown.yaml: bogus is not a section of a config; known: trainer, model, data",
    "--config=empty.yaml": "empty.yaml: modle is not a section of a config",
    "--config=list.yaml": "list.yaml: model is [1]; it must hold settings, each with a name",
    "--config=text.yaml": "text.yaml: not a config file",
    "--model.net=TransfomerConfig": "--model.net TransfomerConfig: no such class; known are MegabyteConfig, Transf",
    "--model.net.crosspatch=3": "'crosspatch' is not accepted; --model.net.help MegabyteConfig",
    "--model.net.local_start=byte --model.net.embedding_scale=5 --model.net.local_stack=null": (
        "local_start is 'byte' and embedding_scale is 5.0, but there is no local_stack to use it: "
        "without one, set local_start: 'learned', embedding_scale: 1.0"
    ),
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(fit, root, capfd, argument):
    Path("twice.yaml").write_text("trainer:\n  max_steps: 3\n  max_steps: 4\n")
    Path("unknown.yaml").write_text("bogus: 1\n")
    Path("empty.yaml").write_text("modle: {net: {}}\n")
    Path("list.yaml").write_text("model: [1]\n")
    Path("text.yaml").write_text("a page of prose\n")
    assert fit(*argument.split(" ")) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("megabyte-mm fit: error: ")
    assert MISTAKES[argument] in line
    assert not list(root.glob("*.ckpt"))


@pytest.mark.parametrize(("kind", "has_groups"), [("images", False), ("audio", False), ("text", True)])
def test_options_without_effect_on_the_data_are_named(fit, tmp_path, capfd, kind, has_groups):
    write, settings, _ = CASES[kind]
    write(tmp_path / "media")
    run = (f"--data.path={tmp_path / 'media'}", *settings, "--trainer.fast_dev_run=true", "--samples.count=0")
    line = (
        "without effect: model.net.neighbourhood.rows 64, model.net.neighbourhood.max_group 2; "
        "this data's adapters look up no groups of bytes"
    )
    assert fit(*run, "--model.net.neighbourhood={rows: 64, dropout: 0.0, max_group: 2}") == 0
    assert (line in capfd.readouterr().err.splitlines()) != has_groups
    assert fit(*run, "--model.net.neighbourhood={}") == 0
    assert "without effect" not in capfd.readouterr().err


def test_validate_without_a_checkpoint_is_refused(fit, capfd):
    assert fit(command="validate") == 2
    assert "--ckpt_path is missing: a file, or best or last" in capfd.readouterr().err


OPTIONS = {
    "--trainer.fast_dev_run=true": set(),
    "--trainer.logger=false": {"best.ckpt", "last.ckpt", "config.yaml"},
    "--trainer.enable_checkpointing=false": {"logs"},
    "--trainer.enable_progress_bar=true": {"best.ckpt", "last.ckpt", "logs"},
    "--trainer.enable_model_summary=true": {"best.ckpt", "last.ckpt", "logs"},
    "--trainer.limit_val_batches=0": {"last.ckpt", "logs"},
    "--trainer.max_epochs=1": {"best.ckpt", "last.ckpt", "logs"},
    "--trainer.log_every_n_steps=0": {"best.ckpt", "last.ckpt", "logs"},
    "--trainer.callbacks=lightning.pytorch.callbacks.RichProgressBar": {"best.ckpt", "last.ckpt", "logs"},
    "--trainer.num_sanity_val_steps=1": {"best.ckpt", "last.ckpt", "logs"},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_trainer_options_do_what_lightning_users_expect(fit, root, option):
    assert fit(option) == 0
    assert {path.name for path in root.glob("*")} == OPTIONS[option]
    if "last.ckpt" in OPTIONS[option]:
        step = torch.load(root / "last.ckpt", weights_only=True)["global_step"]
        assert step == (5 if "max_epochs" in option else 8)


def test_overfitting_lowers_the_loss_on_the_same_batch(fit, root):
    assert fit("--trainer.overfit_batches=1", "--trainer.max_steps=16", "--trainer.val_check_interval=16") == 0
    losses = logged(root, "train/loss")
    assert losses[-1] < losses[0] - 1


def test_a_logger_of_ones_own_takes_the_place_of_ours(fit, root):
    own = ("--trainer.logger=lightning.pytorch.loggers.CSVLogger", f"--trainer.logger.save_dir={root}")
    assert fit(*own, "--samples.count=1", "--samples.length=4") == 0
    assert {path.name for path in (root / "lightning_logs/version_0").iterdir()} == {
        "metrics.csv",
        "config.yaml",
        "samples",
    }


def test_print_config_is_a_config_that_runs(fit, capfd, small, root):
    assert fit("--print_config") == 0
    printed = capfd.readouterr().out
    assert yaml.safe_load(printed)["trainer"]["default_root_dir"] == str(root)
    small.write_text(printed)
    assert fit() == 0


def test_best_is_the_lowest_val_bpb_after_a_resume_in_a_moved_folder_too(fit, root):
    assert fit("--trainer.val_check_interval=2") == 0
    best = torch.load(root / "best.ckpt", weights_only=True)["global_step"]
    moved = root.rename(root.with_name("moved"))
    bad = ("--model.optimizer.lr=9", "--model.optimizer.warmup_steps=0", "--trainer.max_steps=12")
    assert fit(f"--trainer.default_root_dir={moved}", "--ckpt_path=last", *bad) == 0
    assert torch.load(moved / "best.ckpt", weights_only=True)["global_step"] == best


class Elsewhere(CSVLogger):
    """A logger like those of services: its files are not in the run's folder."""

    @property
    def log_dir(self) -> str:
        return "."


@pytest.mark.parametrize(
    ("logger", "config"),
    [
        ("tests.training.test_fit.Elsewhere --trainer.logger.save_dir=other", "config.yaml"),
        (
            "lightning.pytorch.loggers.CSVLogger --trainer.logger.save_dir={root}",
            "lightning_logs/version_0/config.yaml",
        ),
        ("false", "config.yaml"),
    ],
)
def test_the_config_of_a_run_is_in_its_folder_with_any_logger(fit, root, logger, config):
    Path("config.yaml").write_text("of the user")
    assert fit(*f"--trainer.logger={logger.format(root=root)}".split()) == 0
    assert open_run(root).config == root / config
    assert Path("config.yaml").read_text() == "of the user"
