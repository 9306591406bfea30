"""Passwords and tokens, kept out of whatever is printed or recorded."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

MASK = "***"
#: Environment variables whose whole value is a secret, such as MLFLOW_TRACKING_PASSWORD or AWS_SECRET_ACCESS_KEY.
SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|SECRET|(?:^|_)TOKEN(?:$|_)|ACCESS_KEY|API_KEY|PRIVATE_KEY|CONNECTION_STRING|CREDENTIAL",
    re.IGNORECASE,
)
#: A shorter value can't be told from a word of the message.
MIN_LENGTH = 4
#: `user:password@` or `token@` in an address; up to the last @, which a password may hold too.
USER_INFO = re.compile(r"(?<=://)\S*@")
#: `?token=...` in an address.
QUERY = re.compile(r"([?&][^=&\s]*(?:token|password|secret|signature|sig|key|credential)=)[^&\s'\")]+", re.IGNORECASE)


def mask_addresses(text: str) -> str:
    """Replaces what stands for a password or a token in the addresses that a text holds."""
    return QUERY.sub(rf"\1{MASK}", USER_INFO.sub(f"{MASK}@", text))


def mask_secrets(text: str) -> str:
    """Replaces the secrets of this process's environment too, wherever they stand in a text.

    For messages only: a password that is a common word would be replaced in names and paths as well.
    """
    for secret in sorted(_list_secrets(), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return mask_addresses(text)


def say_first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message without secrets, or its name where it has none."""
    return mask_secrets((str(error).splitlines() or [type(error).__name__])[0])


def _list_secrets() -> Iterator[str]:
    for name, value in os.environ.items():
        found = [value] if SECRET_NAME.search(name) else []
        if "://" in value:
            found += _list_passwords(value)
        for secret in found:
            yield from (form for form in {secret, unquote(secret)} if len(form) >= MIN_LENGTH)


def _list_passwords(address: str) -> list[str]:
    try:
        return [password] if (password := urlsplit(address).password) else []
    except ValueError:
        return []
