"""Four stages that take a moment each, in a copy of the study: what DVC and the stage runner do is real."""

import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from copied_study import Workplace, copy_study
from cotejo.lineage.access import open_delivery
from cotejo.params import load_params
from cotejo.tracking.mlflow.delivery import Delivery
from cotejo.tracking.outbox.sync import send_left
from mlflow_faults import absent
from once import make_once

PIPELINE = """
stages:
  download:
    cmd: python stages/download.py
    deps: [stages/download.py]
    params: [data]
    outs: [data/raw]
  train:
    cmd: python stages/train.py
    deps: [data/raw, stages/train.py]
    params: [lenet]
    outs: [models/small]
    metrics:
      - reports/metrics/small.json: {cache: false}
  compare:
    cmd: python stages/compare.py
    deps: [reports/metrics/small.json, stages/compare.py]
    params: [compare.margin]
    outs: [reports/page.html]
  tally:
    cmd: python stages/tally.py
    deps: [data/raw, stages/tally.py]
    params: [evaluate.sample_seed]
    outs: [reports/tally.txt]
"""
SCRIPT = """
import json
from pathlib import Path
import _source
from cotejo.stage import run_stage

def body(stage):
    {body}

run_stage(body, "{name}", sections={sections})
"""
STAGES = {
    "download": (("data",), """
        with stage.output("data/raw") as folder:
            (folder / "inner").mkdir()
            (folder / "inner/labels é.txt").write_bytes(b"0 1\\r\\n")
            (folder / "images.bin").write_bytes(bytes(range(256)) * 9)
            (folder / "dataset.json").write_text(json.dumps({{"digest": "ab" * 32}}))
    """),
    "train": (("lenet",), """
        size = len(Path("data/raw/images.bin").read_bytes())
        with stage.outputs("models/small", "reports/metrics/small.json") as (folder, metrics):
            (folder / "seed-0").mkdir()
            (folder / "seed-0/model.bin").write_text(f"{{size}} {{stage.params.lenet.epochs}}")
            metrics.write_text(json.dumps({{"test_accuracy": stage.params.lenet.epochs / 100}}))
        stage.run.open_child("train seed 0").finish("FINISHED")
    """),
    "compare": (("compare.margin",), """
        with stage.output("reports/page.html") as page:
            page.write_text(f"{{Path('reports/metrics/small.json').read_text()}} {{stage.params.compare.margin}}")
    """),
    "tally": (("evaluate.sample_seed",), """
        with stage.output("reports/tally.txt") as file:
            file.write_text(str(stage.params.evaluate.sample_seed))
    """),
}  # fmt: skip
GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org")


class Pipeline(Workplace):
    """A folder with the four stages, and the environment of its user."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        own = {"PYTHONPATH": str(folder / "src"), "GIT_CONFIG_GLOBAL": os.devnull}  # its code, not this; no identity
        super().__init__(folder, {**environment, **own})

    def trace(self, target: str, expected: int = 0) -> str:
        """Returns what `cotejo lineage` says, without its line breaks."""
        printed = self.run("cotejo", "lineage", target, expected=expected)
        assert max(map(len, printed.splitlines())) <= 100 or expected
        return " ".join(printed.split())

    def edit(self, path: str, old: str, new: str) -> None:
        """Replaces text in a file."""
        file = self.folder / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    def copy(self, target: Path) -> "Pipeline":
        """Returns the same, with all that has been made, in a folder of its own."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Pipeline(target, self.environment)

    def run_without_mlflow(self, *command: str) -> str:
        """Runs a command whose stages needn't import MLflow, two seconds each; sends it all at the end."""
        with tempfile.TemporaryDirectory() as folder, absent(Path(folder)) as variables:
            paths = os.pathsep.join([self.environment["PYTHONPATH"], variables["PYTHONPATH"]])
            printed = self.run(*command, PYTHONPATH=paths)
        self.send_left()
        return printed

    def send_left(self) -> None:
        """Sends MLflow what it hasn't got, as the next stage would."""
        with self.connecting() as delivery:
            *_, last = send_left(self.folder / ".cotejo/journal", delivery)
            assert last.endswith("nothing left")

    @contextmanager
    def connecting(self) -> Iterator[Delivery]:
        """Connects to its MLflow database, and to no other that the process knows."""
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            yield open_delivery(self.folder, load_params([], self.folder / "params.yaml"))
            mlflow.set_tracking_uri(None)  # which is in the environment too

    @property
    def client(self) -> mlflow.MlflowClient:
        """What MLflow shows."""
        return mlflow.MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")

    def list_runs(self) -> list[mlflow.entities.Run]:
        """Lists the runs in MLflow, the newest first."""
        experiment = self.client.get_experiment_by_name("cotejo")
        return self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])

    def find_run(self, name: str) -> mlflow.entities.Run:
        """Returns the newest run of this name."""
        return next(run for run in self.list_runs() if run.info.run_name == name)


def make_pipeline(folder: Path, environment: dict[str, str]) -> Pipeline:
    """Copies the study, puts the four stages in the place of its own, and commits them."""
    copy_study(folder)
    (folder / "dvc.yaml").write_text(PIPELINE)
    for script in (folder / "stages").glob("[a-z]*.py"):
        script.unlink()
    for name, (sections, body) in STAGES.items():
        inner = textwrap.indent(textwrap.dedent(body).strip(), "    ").lstrip().replace("{{", "{").replace("}}", "}")
        text = SCRIPT.format(body="{body}", name=name, sections=repr(sections))
        (folder / "stages" / f"{name}.py").write_text(text.replace("{body}", inner))
    (folder / "reports").mkdir()
    (folder / "reports/.gitkeep").write_text("")
    pipeline = Pipeline(folder, environment)
    pipeline.run(*GIT, "add", "--all")
    pipeline.run(*GIT, "commit", "--quiet", "--message", "small pipeline")
    return pipeline


def find_experiment(made: Pipeline) -> Pipeline:
    """Returns the small pipeline after `dvc repro` and an experiment, two, of train; only to be read, or copied."""

    def make(folder: Path) -> None:
        command = ("dvc", "exp", "run", "-n", "two", "-S", "lenet.epochs=2")
        made.copy(folder / "study").run(*command)

    return Pipeline(make_once("small-experiment", make) / "study", made.environment)
