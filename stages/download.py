"""Gets the data set's files and the backbone's weights; lets verified bytes through only."""

import json
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.fetching import Fetcher
from cotejo.data.sources import SOURCES, describe_source
from cotejo.data.weights import fetch_weights
from cotejo.files import STATE_FOLDER
from cotejo.stage import Stage, run_stage


def download(stage: Stage) -> None:
    """Writes data/raw/ and data/weights/; a folder of your own is read by preprocess, from where it is."""
    name, transfer = stage.params.data.name, stage.params.transfer
    fetcher = Fetcher.from_environment(stage.params.runtime.download_timeout_s, STATE_FOLDER / "downloads")
    with stage.outputs("data/raw", "data/weights") as (raw, weights):
        for file in SOURCES[name].files:
            fetcher.fetch(file, raw)
        (raw / "source.json").write_text(json.dumps(describe_source(name), indent=2) + "\n")
        manifest = fetch_weights(fetcher, transfer.backbone, transfer.alpha, transfer.weights, weights)
        (weights / "weights.json").write_text(json.dumps(manifest, indent=2) + "\n")
    stage.run.log_artifact(Path("data/raw/source.json"))


if __name__ == "__main__":
    run_stage(download, "download", sections=("data.name", "transfer.backbone", "transfer.alpha", "transfer.weights"))
