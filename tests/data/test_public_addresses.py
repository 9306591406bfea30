"""The public addresses of data sets and weights still answer; needs the network."""

import pytest
import requests

from cotejo.data.sources import SOURCES, WEIGHTS

FILES = [file for source in SOURCES.values() for file in source.files] + list(WEIGHTS.values())
ADDRESSES = [address for file in FILES for address in file.addresses if address.startswith("http")]


@pytest.mark.network
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_address_answers(address):
    assert requests.head(address, timeout=20, allow_redirects=True).ok
