"""dvc.yaml says what the code does, and `check_pipeline` notices when it no longer does."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import cotejo.imports
import cotejo.pipeline
from cotejo.imports import EXEMPT, find_imports, find_sources
from cotejo.lineage.digests import load_stages
from cotejo.pipeline import ROWS, check_pipeline

ROOT = Path(__file__).parents[1]
STAGES = [
    "download", "preprocess", "train-lenet", "train-resnet", "transfer-learn", "finetune", "search", "evaluate",
    "compare",
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def cached_imports() -> Iterator[None]:
    """Parses each text for its imports once: the pipeline is checked some twenty times here."""
    parse = find_imports
    imports: dict[tuple[bytes, tuple[str, ...]], set[str]] = {}

    def find_once(path: Path, arguments: Iterable[str] = ()) -> set[str]:
        key = path.read_bytes(), tuple(arguments)
        if key not in imports:
            imports[key] = parse(path, arguments)
        return imports[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (cotejo.imports, cotejo.pipeline, sys.modules[__name__]):
            patch.setattr(module, "find_imports", find_once)
        yield


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_pipeline_has_no_fault():
    assert check_pipeline(ROOT) == []


def test_the_stages_have_the_names_of_the_design():
    assert list(load_stages(ROOT)) == STAGES


def test_every_stage_says_what_it_does():
    assert all(stage["desc"] for stage in load_stages(ROOT).values())


@cache
def reads_test_images(name: str, text: str) -> bool:
    """Whether a module loads a split that isn't surely train or val, or names the arrays that preprocess saves."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("load_split"):
            split = node.args[1] if len(node.args) > 1 else None
            if not isinstance(split, ast.Constant) or split.value not in ("train", "val"):
                return True
        file = str(node.value).rpartition("/")[2] if isinstance(node, ast.Constant) else ""
        if file.endswith(("_images.npy", "_labels.npy")) and not file.startswith(("train_", "val_")):
            return name != "splits.py"  # which writes them all and reads what it is asked for
    return False


def find_test_readers(root: Path) -> list[str]:
    """Names the stages whose script, or a module that it imports directly or not, reads test images."""
    readers = []
    for name, stage in load_stages(root).items():
        script = root / stage["cmd"].split()[1]
        waiting, found = [script], {script}
        while waiting:
            # every module, also those that needn't be a dep
            names = find_imports(waiting.pop(), stage["cmd"].split()[2:])
            paths = {(root / "src").joinpath(*module.split(".")).with_suffix(".py") for module in names}
            new = {path for path in paths if path.exists()} - found
            waiting, found = [*waiting, *new], found | new
        if any(reads_test_images(path.name, path.read_text()) for path in found):
            readers.append(name)
    return readers


def test_only_evaluate_reads_test_images():
    assert find_test_readers(ROOT) == ["evaluate"]


@pytest.mark.parametrize(
    ("path", "line", "reader"),
    [
        ("stages/transfer_learn.py", 'test = load_split(Path("data/processed"), "test")', "transfer-learn"),
        ("stages/finetune.py", "from cotejo.evaluation.summary import Splits", "finetune"),
        ("stages/compare.py", 'images = np.load("data/processed/test_images.npy")', "compare"),
        ("src/cotejo/tuning/trial.py", "test = splits.load_split(folder, split)", "search"),
        ("src/cotejo/tuning/trial.py", "from cotejo.evaluation import robustness", "search"),
    ],
)
def test_another_stage_that_reads_test_images_is_found(study, path, line, reader):
    with (study / path).open("a") as file:
        file.write(f"\n{line}\n")
    assert sorted(find_test_readers(study)) == sorted(["evaluate", reader])


MODELLESS = ("download", "preprocess", "compare")


@pytest.fixture(scope="module")
def tensorflow_importers() -> list[str]:
    """Imports the stages without a model, one after the other; those after which TensorFlow has been imported."""
    code = f"import sys; sys.path.insert(0, 'stages')\nfor stage in {MODELLESS}:\n"
    code += " __import__(stage)\n if 'tensorflow' in sys.modules: print(stage)\nprint('end')"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    *importers, end = printed.stdout.split()
    assert end == "end"
    return importers


@pytest.mark.parametrize("stage", MODELLESS)
def test_a_stage_without_a_model_never_imports_tensorflow(tensorflow_importers, stage):
    assert stage not in tensorflow_importers


def test_a_missing_dep_is_named(study):
    edit(study / "dvc.yaml", "      - src/cotejo/models/lenet.py\n", "")
    (fault,) = check_pipeline(study)
    assert "stages.train-lenet.deps: src/cotejo/models/lenet.py is missing" in fault


def test_a_dep_of_an_import_within_an_import_is_named(study):
    edit(study / "src/cotejo/models/layers.py", "import keras\n", "import keras\nfrom cotejo.data import imaging\n")
    (study / "src/cotejo/data/imaging.py").write_text("")
    faults = check_pipeline(study)
    missing = [fault.split(".deps")[0] for fault in faults if "imaging.py is missing" in fault]
    assert missing == [
        f"dvc.yaml: stages.{name}"
        for name in ("train-lenet", "train-resnet", "transfer-learn", "finetune", "search", "evaluate")
    ]


def test_a_needless_dep_is_named(study):
    edit(study / "dvc.yaml", "      - stages/download.py\n", "      - stages/download.py\n      - stages/train.py\n")
    (fault,) = check_pipeline(study)
    assert "stages.download.deps: stages/train.py is not imported" in fault


def test_a_stage_depends_on_the_families_that_its_section_allows_and_no_other():
    families = {Path(path).stem for path in find_sources(ROOT, "python stages/train.py resnet") if "/models/" in path}
    built = {"alexnet", "basic_cnn", "inception", "resnet", "vgg"}
    assert families == built | {"blocks", "families", "layers"}


def test_a_section_that_is_read_but_not_declared_is_named(study):
    edit(study / "dvc.yaml", "params: [base, lenet]", "params: [lenet]")
    (fault,) = check_pipeline(study)
    assert "stages.train-lenet.params: expected ['base', 'lenet']" in fault


def test_the_search_depends_on_the_model_that_it_searches(study):
    edit(study / "params.yaml", "  model: lenet ", "  model: resnet ")
    assert check_pipeline(study) == []
    search = load_stages(study)["search"]
    assert "resnet" in search["params"]
    assert "src/cotejo/models/resnet.py" in find_sources(study, search["cmd"])


def test_transfer_learning_depends_on_the_model_that_serves_as_its_backbone(study):
    assert "data/weights" in load_stages(study)["transfer-learn"]["deps"]
    path = "models/lenet/seed-0/model.keras"
    edit(study / "params.yaml", "  weights_path: data/weights", f"  weights_path: {path}")
    edit(study / "params.yaml", "  weights: imagenet", f"  weights: model:{path}")
    assert check_pipeline(study) == []
    deps = load_stages(study)["transfer-learn"]["deps"]
    assert path in deps
    assert "data/weights" not in deps


def test_an_import_against_the_layers_is_named(study):
    path = study / "src/cotejo/params.py"
    path.write_text(path.read_text() + "\nimport cotejo.stage\n")
    faults = check_pipeline(study)
    assert "src/cotejo/params.py: imports cotejo.stage, which stands below it in the house (see ROWS)." in faults


def test_a_module_that_has_no_row_is_named(study):
    (study / "src/cotejo/attic.py").write_text("import cotejo.errors\n")
    (fault,) = check_pipeline(study)
    assert fault.startswith("src/cotejo/attic.py: expected a module of errors, ")
    assert fault.endswith("Add attic to ROWS.")


@pytest.mark.parametrize("line", ["epochs = 2 * 3", "total = sum([1, 2])", "rest = 5 - 3", "rest **= 2"])
def test_a_stage_that_calculates_is_named(study, line):
    path = study / "stages" / "download.py"
    path.write_text(path.read_text() + f"\n{line}\n")
    faults = [fault for fault in check_pipeline(study) if "stages/download.py" in fault]
    assert len(faults) == 1
    assert faults[0].startswith("stages/download.py: expected no arithmetic. Received: `")
    assert faults[0].endswith("Move it into src/.")


def test_every_module_has_a_row():
    modules = {path.stem for path in (ROOT / "src/cotejo").iterdir() if path.name[0] not in "._"}
    assert modules == set(ROWS)


def test_package_files_hold_nothing_that_could_change_a_result():
    packages = list((ROOT / "src/cotejo").glob("*/**/__init__.py"))
    assert packages
    for path in packages:
        assert path.read_text().strip().startswith('"""')
        assert path.read_text().strip().endswith('"""')


@pytest.mark.parametrize("module", EXEMPT)
def test_every_exempt_module_exists_and_has_its_reason(module):
    path = ROOT / "src" / Path(*module.split("."))
    assert path.is_dir() or path.with_suffix(".py").exists()
    assert EXEMPT[module]
