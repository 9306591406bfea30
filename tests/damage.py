"""Damage that a disk or a cut transfer does to a file."""

from pathlib import Path


def damage_half(file: Path) -> None:
    """Cuts off its second half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def damage_byte(file: Path) -> None:
    """Changes the byte in its middle; the length stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
