"""The pod's environment, read once and checked."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from failure import Failure

UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}
# A part must be at least 5 MiB on S3, and hop 1 needs one part on its way in and one on its way out.
SMALLEST_BUFFER = 32 * 2**20
MODEL = re.compile(
    r"(?!.*(--|\.\.))[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?(/[A-Za-z0-9_]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?)?"
)


# What a header can carry; the errors of anything else would show it.
_WORD = re.compile(r"[!-~]+")
SECRETS = ("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Settings:
    """What one run is asked to do. Sizes in bytes; `exclude` is None when the default applies; no secret is printed by repr."""

    model: str
    revision: str
    include: tuple[str, ...]
    exclude: tuple[str, ...] | None
    bucket: str
    endpoint: str
    region: str
    hf_endpoint: str
    buffer: int
    models_dir: Path
    job_uid: str
    level: str
    # None where nobody asked for one: a check then takes what is there.
    asked_revision: str | None
    repair: bool
    confirmed: bool
    secrets: "Secrets"

    @property
    def prefix(self) -> str:
        """The model's prefix in the bucket, always with its slash: a prefix without one takes in a sibling model."""
        return f"models/{self.model}/"


class Secrets:
    """Tokens and keys, stripped of the white space that `kubectl create secret --from-file` lets in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    @property
    def hf_token(self) -> str | None:
        """The Hub token, or None: a public model works without it. Raises Failure("bad-token")."""
        token = self._environment.get("HF_TOKEN", "").strip()
        if token and not _WORD.fullmatch(token):
            raise Failure("bad-token", "HF_TOKEN in Secret hf-token is more than one word of plain ASCII")
        return token or None

    @property
    def spaces_key(self) -> tuple[str, str]:
        """Access key id and secret; with `envFrom` a missing key is no pod error, so it is one here."""
        pair = []
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            value = self._environment.get(name, "").strip()
            if not value:
                raise Failure("spaces-credentials", f"Secret spaces-credentials has no key {name}")
            if not _WORD.fullmatch(value):
                raise Failure(
                    "spaces-credentials", f"{name} in Secret spaces-credentials is more than one word of plain ASCII"
                )
            pair.append(value)
        return pair[0], pair[1]


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the pod's variables. Raises Failure("bad-settings")."""
    model = environment.get("MODEL", "")
    if not MODEL.fullmatch(model) or model.endswith(".git"):
        raise Failure("bad-settings", f"MODEL is no model id of the Hub: {model!r}")
    buffer = _size("BUFFER", environment.get("BUFFER") or "256Mi")
    if buffer < SMALLEST_BUFFER:
        raise Failure("bad-settings", f"BUFFER is {buffer} bytes, the smallest that works is {SMALLEST_BUFFER} (32Mi)")
    level = environment.get("LEVEL") or "sizes"
    if level not in ("names", "sizes", "hashes"):
        raise Failure("bad-settings", f"LEVEL is names, sizes or hashes, not {level!r}")
    exclude = environment.get("EXCLUDE")
    return Settings(
        model=model,
        revision=environment.get("REVISION") or "main",
        include=tuple(environment.get("INCLUDE", "").split()),
        exclude=None if exclude is None else tuple(exclude.split()),
        bucket=environment.get("BUCKET", ""),
        endpoint=_url("ENDPOINT", environment.get("ENDPOINT", "")),
        region=environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        hf_endpoint=_url("HF_ENDPOINT", environment.get("HF_ENDPOINT") or "https://huggingface.co"),
        buffer=buffer,
        models_dir=Path(environment.get("MODELS_DIR") or "/models"),
        job_uid=environment.get("JOB_UID", ""),
        level=level,
        asked_revision=environment.get("REVISION") or None,
        repair=environment.get("REPAIR") == "true",
        confirmed=environment.get("CONFIRMED") == "true",
        secrets=Secrets(environment),
    )


def _size(name: str, text: str) -> int:
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|k|M|G|)", text)
    if not match:
        raise Failure("bad-settings", f"{name} is a size such as 256Mi, not {text!r}")
    return int(match[1]) * UNITS[match[2]]


def _url(name: str, text: str) -> str:
    """An http(s) URL without its last slash, or empty where this verb has none."""
    if text and (urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).hostname):
        raise Failure("bad-settings", f"{name} is an http or https URL, not {text!r}")
    return text.rstrip("/")
