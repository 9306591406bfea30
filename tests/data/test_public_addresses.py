"""The public addresses of data sets and weights still answer; needs the network."""

import pytest
import requests

from cotejo.data.sources import SOURCES
from cotejo.data.weights import find_weights
from cotejo.pretrained import BACKBONES

FILES = [file for source in SOURCES.values() for file in source.files]
FILES += [find_weights(name, alpha) for name, net in BACKBONES.items() for alpha in net.files]
ADDRESSES = [address for file in FILES for address in file.addresses if address.startswith("http")]


@pytest.mark.network
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_address_answers(address):
    assert requests.head(address, timeout=20, allow_redirects=True).ok
