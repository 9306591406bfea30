"""Images that are there twice: pixel by pixel, or to the eye."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cotejo.data.decoding import Pixels

#: Bytes of a digest: among a billion images, two that differ share it with a probability of 1e-21.
IDENTITY_BYTES = 16
#: Side to which an image is shrunk: imagehash's `phash`.
SHRUNK = 32
#: The lowest frequencies of it that are kept, both ways.
FREQUENCIES = 8
#: Side of the miniature that decides.
MINIATURE = 16
#: Of 64 bits, what the hashes of two images may differ by whose miniatures are worth a look.
MAX_BITS = 8
#: What their miniatures may differ by, on average and apart from brightness and contrast, as a share of the latter. The
#: hash alone calls every tenth image of Fashion-MNIST's test a double of another one; with 0.06 the pairs there are
#: 141 instead of 54, and most of those that come with it are different clothes of one cut.
MAX_DIFFERENCE = 0.05
#: Grey levels of contrast that count as such, so that blank images are alike despite their noise.
LEAST_CONTRAST = 10.0
#: Those of a sorted list that each image is compared with, which bounds the time by the number of images.
NEIGHBOURS = 32
#: The discrete cosine transform (DCT-II) of 32 values, as far as the lowest 8 frequencies.
COSINES = np.cos(np.pi / SHRUNK * np.outer(np.arange(FREQUENCIES), np.arange(SHRUNK) + 0.5)).astype(np.float32)


class Fingerprint(NamedTuple):
    """Fingerprint of an image: 64 bits as a number, and a miniature of 16 x 16 grey levels, uint8, as bytes."""

    bits: int
    miniature: bytes


class NearPair(NamedTuple):
    """Two images that look alike: their numbers, the lower one first, and their difference as a share of contrast."""

    first: int
    second: int
    difference: float


def identify(image: Pixels) -> bytes:
    """Returns a digest of an image's size and pixels; what a file says besides, and how it is packed, is no part."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=IDENTITY_BYTES)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def compute_fingerprint(image: Pixels) -> Fingerprint:
    """Returns what changes little with an image's size, packing and brightness.

    The bits are a perceptual hash: which of the lowest frequencies, in both directions, are above their median.

    Args:
        image: uint8 of shape (height, width, channels), 1 or 3 channels.

    References:
        C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1.
    """
    whole = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    small = np.asarray(whole.resize((SHRUNK, SHRUNK), Image.Resampling.BOX).convert("L"), np.float32)
    low = (COSINES @ small @ COSINES.T).ravel()
    low[np.abs(low) < 1.0] = 0  # an image of one shade has no frequencies but rounding
    bits = np.packbits(low > np.sort(low)[len(low) // 2])
    half = small[0::2] + small[1::2]
    miniature = (half[:, 0::2] + half[:, 1::2]) / 4
    return Fingerprint(int.from_bytes(bits.tobytes(), "big"), miniature.astype(np.uint8).tobytes())


def find_near_pairs(fingerprints: Sequence[Fingerprint], groups: Sequence[int]) -> list[NearPair]:
    """Finds images of different groups that look alike: other sizes, packings or shades of one picture.

    The hashes are sorted four times, each quarter of their bits first once, and each is compared with the 32 that
    follow. Two that differ in at most 3 bits share a quarter, so they are found unless more than 32 others share it
    too. So the time grows with the number of images and not with its square.

    Args:
        fingerprints: A fingerprint per image.
        groups: The split of each image.

    Returns:
        Pairs by difference, then by number; each once. Of more than 33 images there may be others that weren't found.
    """
    bits, where = np.array([fingerprint.bits for fingerprint in fingerprints], np.uint64), np.array(groups)
    miniatures = np.frombuffer(b"".join(fingerprint.miniature for fingerprint in fingerprints), np.uint8).reshape(
        -1, MINIATURE**2
    )
    found: dict[tuple[int, int], float] = {}
    for part in range(4):
        # rotated: the part comes first
        turned = (bits << np.uint64(16 * part)) | (bits >> np.uint64((64 - 16 * part) % 64))
        order = np.argsort(turned, kind="stable")
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            one, other = order[:-step], order[step:]
            near = (np.bitwise_count(bits[one] ^ bits[other]) <= MAX_BITS) & (where[one] != where[other])
            one, other = one[near], other[near]
            differences = _compare(miniatures[one], miniatures[other])
            for index in np.flatnonzero(differences <= MAX_DIFFERENCE):
                pair = int(one[index]), int(other[index])
                found[min(pair), max(pair)] = round(float(differences[index]), 4)
    return sorted(
        (NearPair(*pair, difference) for pair, difference in found.items()),
        key=lambda pair: (pair.difference, pair.first, pair.second),
    )


def _compare(miniatures: Pixels, others: Pixels) -> NDArray[np.float32]:
    """Returns by how much pairs of miniatures differ on average, their brightness and contrast made the same."""
    differences: NDArray[np.float32] = np.abs(_normalise(miniatures) - _normalise(others)).mean(axis=1)
    return differences


def _normalise(miniatures: Pixels) -> NDArray[np.float32]:
    """Subtracts each miniature's mean, and divides by the mean absolute value of the rest."""
    centred = miniatures - miniatures.mean(axis=1, keepdims=True, dtype=np.float32)
    contrast = np.abs(centred).mean(axis=1, keepdims=True)
    normal: NDArray[np.float32] = centred / np.maximum(contrast, LEAST_CONTRAST)
    return normal
