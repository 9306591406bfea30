"""Secrets that a message or a record must not hold."""

import pytest

from cotejo.masking import mask_addresses, mask_secrets


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET https://ana:s3cret@host/x failed", "GET https://***@host/x failed"),
        ("https://ghp_abc123@github.com/ana/study.git", "https://***@github.com/ana/study.git"),
        ("postgresql+psycopg2://ana:p@ss/w@rd@db:5432/runs", "postgresql+psycopg2://***@db:5432/runs"),
        ("https://host/data?version=2&sig=Ab%2B1&se=2026", "https://host/data?version=2&sig=***&se=2026"),
        ("https://host/f?X-Amz-Signature=abc&X-Amz-Date=1", "https://host/f?X-Amz-Signature=***&X-Amz-Date=1"),
        ("Failed to parse: 'http://u:pw@h'.", "Failed to parse: 'http://***@h'."),
        ("two: http://a:b@c http://d:e@f", "two: http://***@c http://***@f"),
        ("sqlite:////home/ana/mlflow.db", "sqlite:////home/ana/mlflow.db"),
        ("http://127.0.0.1:5000 refused; mail ana@example.org", "http://127.0.0.1:5000 refused; mail ana@example.org"),
    ],
)
def test_an_address_loses_what_opens_it_and_nothing_else(text, masked):
    assert mask_addresses(text) == masked
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "hunter22", "401 for hunter22"),
        ("MLFLOW_TRACKING_TOKEN", "eyJ.abc", "Bearer eyJ.abc"),
        ("AWS_SECRET_ACCESS_KEY", "wJalr/XUtn", "signed with wJalr/XUtn"),
        ("PGPASSWORD", "hunter22", "hunter22"),
        ("MLFLOW_TRACKING_URI", "http://ana:hun%40ter@host", "login ana hun@ter or hun%40ter"),
        ("COTEJO_MIRROR", "ftp://ana:hunter22@host/x", "530 ana hunter22"),
    ],
)
def test_a_secret_of_the_environment_is_masked_wherever_it_stands(monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)
    masked = mask_secrets(text)
    assert "***" in masked
    assert not any(secret in masked for secret in ("hunter22", "eyJ", "XUtn", "hun@ter", "hun%40ter"))


@pytest.mark.parametrize(
    ("name", "value"), [("TOKENIZERS_PARALLELISM", "false"), ("MLFLOW_TRACKING_PASSWORD", "a"), ("HOME", "false")]
)
def test_what_is_no_secret_or_no_more_than_a_letter_stays(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert mask_secrets("a false alarm") == "a false alarm"
