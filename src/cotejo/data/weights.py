"""The ImageNet weights of the pretrained backbones: fetched, and on record with what is known of their bytes."""

import sys
from pathlib import Path
from typing import Any

from cotejo.data.fetching import Fetcher
from cotejo.data.sources import DIGEST_NAMES, RemoteFile
from cotejo.files import digest_file
from cotejo.pretrained import BACKBONES, HDF5_SIGNATURE, BackboneName


def find_weights(backbone: BackboneName, alpha: float | None) -> RemoteFile:
    """Returns the file with a backbone's weights; `alpha` is a width that it is published in, or None."""
    file = BACKBONES[backbone].files[alpha]
    return RemoteFile(
        name=file.name,
        sha256=file.sha256,
        md5=file.md5,
        signature=HDF5_SIGNATURE,
        addresses=(file.address,),
        mirror_path=f"weights/{file.name}",
        keras_path=f"models/{file.keras_name or file.name}",
    )


def fetch_weights(
    fetcher: Fetcher, backbone: BackboneName, alpha: float | None, weights: str, folder: Path
) -> dict[str, Any]:
    """Gets the weights that the `transfer` section declares, if it declares ImageNet's.

    Keras states no digest of some files. Such a file is taken as it comes, and a line on stderr says so: the SHA-256
    that is recorded then tells whether two studies had the same bytes, not that they were Keras's.

    Args:
        fetcher: Gets the file.
        backbone: The backbone's name.
        alpha: Its width, or None.
        weights: `transfer.weights`.
        folder: Where to put the file.

    Returns:
        What is on record of the weights: backbone, alpha, the file's name (None if there is none), its SHA-256, and
        the kind of digest that it was verified by (None if by none).

    Raises:
        DataError: No place serves the file.
    """
    described: dict[str, Any] = {"backbone": backbone, "alpha": alpha, "file": None, "sha256": None, "verified": None}
    if weights != "imagenet":
        return described
    wanted = find_weights(backbone, alpha)
    path = fetcher.fetch(wanted, folder)
    sha256 = digest_file(path)
    if wanted.digest is None:
        print(
            f"warning: {path.name} can't be verified, since Keras publishes no digest of it. It is taken as it came, "
            f"with its SHA-256, {sha256}, on record in weights.json beside it.",
            file=sys.stderr,
        )
    verified = DIGEST_NAMES[wanted.digest[0]] if wanted.digest else None
    return {**described, "file": path.name, "sha256": sha256, "verified": verified}
