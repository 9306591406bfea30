"""Train, validation and test: every image once, every class in proportion, the same bytes on every run."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotejo.data.readers import LabelledImages, PublishedSplits
from cotejo.data.splits import SPLITS, load_dataset, load_split, split_published
from cotejo.errors import DataError
from saved_splits import save_splits

CLASS_NAMES = ("bag", "coat", "dress")


def make_images(num_samples, first=0):
    """Images whose pixels spell their number, in three classes of 1/2, 1/3 and 1/6."""
    numbers = np.arange(first, first + num_samples)
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    labels = np.array([0, 1, 0, 1, 0, 2])[numbers % 6].astype(np.int64)
    return LabelledImages(images, labels)


def number(split):
    return split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]


PUBLISHED = PublishedSplits(make_images(600), make_images(120, first=600))


def test_validation_comes_out_of_training_and_the_test_set_stays_as_published():
    splits = split_published(PUBLISHED, 0.1, 0.2, seed=0)
    assert tuple(splits) == SPLITS
    assert [len(split.labels) for split in splits.values()] == [540, 60, 120]
    np.testing.assert_array_equal(number(splits["test"]), range(600, 720))
    assert sorted([*number(splits["train"]), *number(splits["val"])]) == list(range(600))


def test_a_test_set_is_held_out_only_where_the_authors_made_none():
    splits = split_published(PublishedSplits(make_images(600), None), 0.1, 0.2, seed=0)
    assert [len(splits[split].labels) for split in SPLITS] == [432, 48, 120]
    assert sorted(np.concatenate([number(split) for split in splits.values()])) == list(range(600))


@given(st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.integers(0, 2**32 - 1))
def test_every_split_keeps_labels_order_and_the_shares_of_the_classes(validation_fraction, test_fraction, seed):
    splits = split_published(PublishedSplits(make_images(600), None), validation_fraction, test_fraction, seed)
    for split in splits.values():
        assert (np.diff(number(split)) > 0).all(), "not in the published order"
        np.testing.assert_array_equal(split.labels, np.array([0, 1, 0, 1, 0, 2])[number(split) % 6])
        counts = np.bincount(split.labels, minlength=3)
        np.testing.assert_allclose(counts, len(split.labels) * np.array([1 / 2, 1 / 3, 1 / 6]), atol=1.5)


def test_the_seed_decides_which_images_are_held_out():
    first, again, other = (number(split_published(PUBLISHED, 0.1, 0.2, seed)["val"]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_few_images_of_a_class_are_refused_with_the_keys_to_change():
    few = LabelledImages(PUBLISHED.train.images[:7], np.array([0, 0, 0, 1, 1, 1, 2]))
    with pytest.raises(DataError, match=r"preprocess\.validation_fraction or preprocess\.test_fraction"):
        split_published(PublishedSplits(few, None), 0.1, 0.2, seed=0)


@pytest.fixture
def prepared(tmp_path):
    def prepare(name="prepared", published=PUBLISHED):
        (tmp_path / name).mkdir()
        splits = split_published(published, 0.1, 0.2, seed=0)
        save_splits(splits, tmp_path / name, "letters", CLASS_NAMES, {"title": "Lëtters"})
        return tmp_path / name

    return prepare


def test_what_is_loaded_is_what_was_saved(prepared):
    folder = prepared()
    dataset = load_dataset(folder)
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("letters", [*CLASS_NAMES], (1, 2, 1))
    assert dataset.num_classes == 3
    for name, expected in split_published(PUBLISHED, 0.1, 0.2, seed=0).items():
        split = load_split(folder, name)
        np.testing.assert_array_equal(split.images, expected.images)
        np.testing.assert_array_equal(split.labels, expected.labels)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        assert isinstance(split.images, np.memmap), "60,000 images would be read to look at one"


def test_operations_on_the_images_are_read_where_they_are_recorded(prepared):
    path = prepared() / "dataset.json"
    assert load_dataset(path.parent)[4:] == ((), None)
    described = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**described, "operations": [{"name": "canny"}], "color": "grey"}), encoding="utf-8")
    assert load_dataset(path.parent)[4:] == (({"name": "canny"},), "grey")


def test_two_runs_write_the_same_bytes_and_no_other_files(prepared):
    def hashes(folder):
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}

    first = hashes(prepared("first"))
    assert first == hashes(prepared("second"))
    assert set(first) == {"dataset.json", *(f"{split}_{part}.npy" for split in SPLITS for part in ("images", "labels"))}


def test_the_description_counts_the_images_of_each_class(prepared):
    description = json.loads((prepared() / "dataset.json").read_text(encoding="utf-8"))
    assert description["splits"]["test"]["per_class"] == {"bag": 60, "coat": 40, "dress": 20}
    assert [description["splits"][split]["num_samples"] for split in SPLITS] == [540, 60, 120]
    assert description["source"] == {"title": "Lëtters"}


def test_a_class_that_a_split_lacks_is_counted_as_zero(tmp_path):
    splits = split_published(PUBLISHED, 0.1, 0.2, seed=0)
    splits["test"] = LabelledImages(splits["test"].images[:2], splits["test"].labels[:2])
    described = save_splits(splits, tmp_path, "letters", CLASS_NAMES, {})
    assert described["splits"]["test"]["per_class"] == {"bag": 1, "coat": 1, "dress": 0}


@pytest.mark.parametrize("part", ["images", "labels"])
def test_the_digest_tells_a_change_of_one_pixel_or_one_label(prepared, part):
    changed = LabelledImages(PUBLISHED.test.images.copy(), PUBLISHED.test.labels.copy())
    getattr(changed, part).flat[-1] += 1 if part == "images" else -1
    other = prepared("other", PublishedSplits(PUBLISHED.train, changed))
    assert load_dataset(prepared()).digest != load_dataset(other).digest


@pytest.mark.parametrize("damage", [None, b"", b"{}", b"not JSON", b"\x93NUMPY\x01\x00"])
def test_a_folder_that_preprocess_did_not_write_is_refused_with_what_to_run(prepared, damage):
    folder = prepared()
    for file in folder.iterdir():
        file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(DataError, match="Run `dvc repro preprocess`"):
        load_dataset(folder)
    with pytest.raises(DataError, match="Run `dvc repro preprocess`"):
        load_split(folder, "val")


def test_a_truncated_split_is_refused(prepared):
    folder = prepared()
    images = folder / "val_images.npy"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match="Run `dvc repro preprocess`"):
        load_split(folder, "val")
