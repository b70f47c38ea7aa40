"""A bucket of DigitalOcean Spaces, or of any S3, as seen from one model's prefix: botocore speaks the control calls and signs,
urllib3 moves the bytes, those of many small objects http.client (volley.py, by requests that are signed here).

Checksums of newer SDKs are switched off (`when_required`): Ceph RGW, on which Spaces is built, refuses their trailers
over https. Instead every body goes out under its own SHA-256 (x-amz-content-sha256), which the server checks.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    ParamValidationError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.exceptions import ConnectionError as EndpointError
from botocore.session import Session
from urllib3.response import BaseHTTPResponse

from failure import Failure
from refusal import Refusals
from retry import retry
from settings import Settings
from web import CONNECT_SECONDS, STALL_SECONDS, Web, ca_bundle, retry_after, tls_failure

SIDE = "Spaces"
PIECE = 256 * 1024
# The SHA-256 of a request without a body.
NOTHING = hashlib.sha256(b"").hexdigest()


class _Signer(S3SigV4Auth):
    """Signs with the payload's hash as given: botocore would read the body a second time."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])


class Bucket:
    """Sends requests about one model's prefix in one bucket; keys are relative to it. Every refusal is raised as Failure or Gone."""

    def __init__(self, settings: Settings, web: Web, stop: threading.Event) -> None:
        self.prefix = settings.prefix
        self._name = settings.bucket
        self._endpoint = settings.endpoint
        self._region = settings.region
        self._refusals = Refusals(settings.bucket, settings.endpoint, settings.region)
        self._web = web
        self._stop = stop
        for name, value in (("BUCKET", settings.bucket), ("ENDPOINT", settings.endpoint)):
            if not value:
                raise Failure("bad-settings", f"{name} is not set")
        key, secret = settings.secrets.spaces_key
        self._credentials = Credentials(key, secret)
        self._session = Session()
        # botocore reads each object's time with dateutil, which takes most of a long list's CPU.
        self._session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
        self.client = self.make_client(STALL_SECONDS)

    def make_client(self, read_seconds: float) -> Any:
        """A botocore client that waits so long at most for an answer; a session makes one at a time, and takes a while."""
        return self._session.create_client(
            "s3",
            region_name=self._region,
            endpoint_url=self._endpoint,
            aws_access_key_id=self._credentials.access_key,
            aws_secret_access_key=self._credentials.secret_key,
            verify=ca_bundle(),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=read_seconds,
                max_pool_connections=16,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def key_options(self, key: str) -> dict[str, str]:
        """What names an object in a call of botocore."""
        return {"Bucket": self._name, "Key": self.prefix + key}

    def prefix_options(self) -> dict[str, str]:
        """What names all of the model's objects in a call of botocore."""
        return {"Bucket": self._name, "Prefix": self.prefix}

    def pages(
        self, fetch: Callable[[Any], dict[str, Any]], start: Any, what: str, rows: str, name: str
    ) -> Iterator[dict[str, Any]]:
        """The pages behind `start`, each behind the last row's `name` of the one before, up to one that is empty."""

        def check(marker: Any) -> dict[str, Any]:
            page = with_members(fetch(marker), what, "IsTruncated")
            entries = page.get(rows, [])
            for entry in entries:
                with_members(entry, what, name)
            if entries[-1][name] <= marker if entries else page["IsTruncated"]:
                raise Failure("wrong-answer", f"Spaces cuts its list of {what} short after {marker!r}")
            return page

        marker = start
        while True:
            page = self.control(lambda marker=marker: check(marker), what)
            yield page
            if not page.get(rows):
                return
            marker = page[rows][-1][name]

    def send(
        self,
        method: str,
        key: str,
        query: str,
        body: memoryview | bytes | None,
        sha256: str,
        headers: dict[str, str] | None = None,
    ) -> BaseHTTPResponse:
        """One request in one try, `sha256` being its body's; the answer's body is left to the caller. Raises Failure or Gone."""
        url, signed = self.sign(method, key, query, sha256, headers or {})
        if body is not None:
            signed["Content-Length"] = str(len(body))
        response = self._web.send(SIDE, method, url, signed, _slices(body))
        if response.status in (200, 206):
            return response
        code = re.search(rb"<Code>([^<]+)</Code>", self._web.read_words(SIDE, response))
        raise self._refusals.meaning_of(
            code[1].decode() if code else "", response.status, key, retry_after(response.headers)
        )

    def sign(
        self, method: str, key: str, query: str, sha256: str, headers: dict[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The URL of a request and its headers, with those that sign it."""
        url = f"{self._endpoint}/{self._name}/{quote(self.prefix + key, safe='/~')}{'?' if query else ''}{query}"
        request = AWSRequest(method=method, url=url, headers=headers)
        request.context["sha256"] = sha256
        _Signer(self._credentials, "s3", self._region).add_auth(request)
        return url, dict(request.headers.items())

    def store(self, key: str, query: str, body: memoryview | bytes, sha256: str) -> str:
        """Writes bytes in one try; gives what the server calls them, their ETag. A status of 200 alone may be anybody's."""
        response = self.send("PUT", key, query, body, sha256)
        self._web.read_words(SIDE, response)
        etag = response.headers.get("ETag", "").strip('"')
        if not etag:
            raise Failure("spaces-error", f"Spaces gave {key} no ETag")
        return etag

    def control(self, call: Callable[[], Any], what: str, patience: float = STALL_SECONDS) -> Any:
        """What a call of botocore gives, retried where that may help; `what` is how messages name what it is about,
        `patience` for how many seconds its client waits.

        Raises Failure, or Gone where the object or the upload is not as it was.
        """

        def once() -> Any:
            try:
                return call()
            except ClientError as error:
                meta = error.response.get("ResponseMetadata", {})
                raise self._refusals.meaning_of(
                    str(error.response.get("Error", {}).get("Code", "")),
                    int(meta.get("HTTPStatusCode", 0)),
                    what,
                    retry_after(meta.get("HTTPHeaders", {})),
                ) from error
            except SSLError as error:
                raise tls_failure(SIDE, str(error)) from error
            except ReadTimeoutError as error:
                raise Failure("stalled", f"Spaces moved no byte for {patience:.0f} s") from error
            except ProxyConnectionError as error:
                raise Failure("connection", "the proxy on the way to Spaces does not answer") from error
            except (EndpointError, HTTPClientError) as error:
                raise Failure(
                    "connection", f"the connection to {self._endpoint} failed: {type(error).__name__}"
                ) from error
            except ParamValidationError as error:
                raise Failure("bad-settings", f"BUCKET {self._name!r} or a name in it is not possible") from error
            except (BotoCoreError, ValueError) as error:
                raise Failure("spaces-error", f"Spaces' answer for {what} cannot be read: {error}") from error

        return retry(once, self._stop)


def with_members(answer: dict[str, Any], what: str, *members: str) -> dict[str, Any]:
    """The answer, if it has what every one of its kind has: a status of 200 alone may be anybody's."""
    for member in members:
        if member not in answer:
            raise Failure("spaces-error", f"Spaces' answer for {what} has no {member}")
    return answer


def server_time(answer: dict[str, Any]) -> datetime:
    """The server's clock, which is the one that its objects' times are read by."""
    try:
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    except (KeyError, ValueError) as error:
        raise Failure("spaces-error", "Spaces answers without the time (Date)") from error


def _moment(text: str) -> datetime:
    """A time in an answer: in XML as ISO 8601, in a header as in mail. Raises ValueError."""
    moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _slices(body: memoryview | bytes | None) -> Iterator[memoryview] | None:
    """A body in small pieces: a socket's timeout bounds one send as a whole, and only small ones can tell a stall from a slow link."""
    if body is None:
        return None
    view = memoryview(body)
    return (view[start : start + PIECE] for start in range(0, len(view), PIECE))
