"""DigitalOcean Spaces, or any S3: botocore speaks the control calls and signs; urllib3 moves the bytes, those of many small
objects http.client (volley.py).

Checksums of newer SDKs are switched off (`when_required`): Ceph RGW, on which Spaces is built, refuses their trailers
over https. Instead every body goes out under its own SHA-256 (x-amz-content-sha256), which the server checks.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

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

from evidence import DOCUMENT_BYTES, UPLOAD_SENTINEL
from failure import BETWEEN, Again, Failure
from retry import retry
from settings import Settings
from volley import Request
from web import CONNECT_SECONDS, STALL_SECONDS, Web, ca_bundle, retry_after, tls_failure

SIDE = "Spaces"
PARTS_LIMIT = 10_000
PIECE = 256 * 1024
# Joining the parts of a large object can take a server minutes before its first byte of answer.
COMPLETE_SECONDS = 300.0
# Causes that may be the damage of one object rather than the state of the server.
UNREADABLE = ("wrong-answer", "short-body", "spaces-error")
_NOTHING = hashlib.sha256(b"").hexdigest()
_BUSY = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "RequestTimeout"}
# A gateway's answers, behind which nobody has looked at the object.
_BUSY_STATUS = (408, 429, 502, 503, 504)
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
_ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "TemporaryRedirect",
    "IllegalLocationConstraintException",
}
_REFUSED = {"KeyTooLongError", "InvalidRequest", "InvalidArgument", "InvalidURI", "EntityTooLarge"}


class Gone(Again):
    """The upload or the object is gone: another run completed, aborted or replaced it. Look at the object again."""


class Unreadable(Again):
    """Spaces keeps failing to hand out one object, as if its bytes were damaged."""


def unreadable(key: str) -> Callable[[Failure], Exception]:
    """What a failure to read this object in all its tries means."""

    def judge(failure: Failure) -> Exception:
        return Unreadable(f"{key} cannot be read: {failure.detail}") if failure.cause in UNREADABLE else failure

    return judge


@dataclass(frozen=True)
class Stored:
    """An object as listed: bytes, ETag without quotes, and when the server took it in."""

    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Listing:
    """The objects under the prefix, by key, and the server's clock at the end of the listing."""

    objects: dict[str, Stored]
    at: datetime


@dataclass(frozen=True)
class Upload:
    """An unfinished multipart upload."""

    key: str
    id: str
    initiated: datetime


class _Signer(S3SigV4Auth):
    """Signs with the payload's hash as given: botocore would read the body a second time."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])


class Spaces:
    """One model's prefix in one bucket; keys are relative to it. Methods retry what is transient and raise Failure for the rest."""

    def __init__(self, settings: Settings, web: Web, stop: threading.Event) -> None:
        self._bucket = settings.bucket
        self._prefix = settings.prefix
        self._endpoint = settings.endpoint
        self._region = settings.region
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
        self._client = self._connect(STALL_SECONDS)
        self._joiner: Any = None
        self._joining = threading.Lock()

    def _connect(self, read_seconds: float) -> Any:
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

    # --- documents and small objects ---

    def read(self, key: str) -> tuple[bytes, datetime] | None:
        """A document's bytes and time, or None when the server says that it is not there; no bytes where it can be none."""

        def get() -> tuple[bytes, datetime] | None:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                _whole(answer, key, "ETag", "LastModified")
                # Its length need not be announced: then what comes is counted.
                announced, etag = answer.get("ContentLength", 0), answer["ETag"].strip('"')
                body = answer["Body"].read(DOCUMENT_BYTES + 1) if announced <= DOCUMENT_BYTES else b""
                if max(announced, len(body)) > DOCUMENT_BYTES:
                    answer["Body"].close()
                    return b"", answer["LastModified"]
                # With KMS keys an ETag is no hash; one request's is an MD5 in all other cases.
                if "ServerSideEncryption" not in answer and len(etag) == 32 and _md5(body) != etag:
                    raise Failure("short-body", f"Spaces sent other bytes of {key} than it took in")
                return body, answer["LastModified"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    return None
                raise

        return self._control(get, key)

    def put(self, key: str, body: memoryview | bytes, sha256: str | None = None) -> str:
        """Writes an object in one request under its SHA-256; gives its ETag."""
        digest = sha256 or hashlib.sha256(body).hexdigest()

        def send() -> str:
            return self._store(key, "", body, digest)

        return retry(send, self._stop)

    def delete(self, key: str) -> None:
        """Removes one object; one that is not there is fine."""

        def remove() -> None:
            answer = self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
            if answer["ResponseMetadata"]["HTTPStatusCode"] != 204:
                raise Failure("spaces-error", f"Spaces did not confirm that {key} is removed")

        self._control(remove, key)

    def listing(self) -> Listing:
        """Every object under the model's prefix.

        Pages by the last key until a page comes back empty: Spaces has been seen to say "not truncated" too early
        with ListObjectsV2. Raises Failure("wrong-answer") when the server does not move on.
        """
        objects: dict[str, Stored] = {}

        def fetch(marker: str) -> dict[str, Any]:
            return self._client.list_objects(Bucket=self._bucket, Prefix=self._prefix, Marker=marker)

        for page in self._pages(fetch, "", self._prefix, "Contents", "Key"):
            for entry in page.get("Contents", []):
                _whole(entry, self._prefix, "Size", "ETag", "LastModified")
                objects[entry["Key"][len(self._prefix) :]] = Stored(
                    entry["Size"], entry["ETag"].strip('"'), entry["LastModified"]
                )
        return Listing(objects, _date(page))

    def _pages(
        self, fetch: Callable[[Any], dict[str, Any]], start: Any, what: str, rows: str, name: str
    ) -> Iterator[dict[str, Any]]:
        """The pages behind `start`, each behind the last row's `name` of the one before, up to one that is empty."""

        def check(marker: Any) -> dict[str, Any]:
            page = _whole(fetch(marker), what, "IsTruncated")
            entries = page.get(rows, [])
            for entry in entries:
                _whole(entry, what, name)
            if entries[-1][name] <= marker if entries else page["IsTruncated"]:
                raise Failure("wrong-answer", f"Spaces cuts its list of {what} short after {marker!r}")
            return page

        marker = start
        while True:
            page = self._control(lambda marker=marker: check(marker), what)
            yield page
            if not page.get(rows):
                return
            marker = page[rows][-1][name]

    def clock(self) -> datetime:
        """The server's clock, in whole seconds, for the price of a list of one object."""
        options = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": 1}
        return _date(self._control(lambda: self._client.list_objects(**options), self._prefix))

    # --- bytes ---

    def fetch(
        self, key: str, stored: Stored, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        """Fills `view` with an object's bytes from `start`; one try, as the caller owns the retry.

        Raises Failure, or Gone when it is no longer the object that was listed (If-Match on its ETag).
        """
        try:
            self._fetch(key, stored, start, view, on_chunk)
        except Failure as failure:
            failure.tell(key)
            if failure.cause == "spaces-error":
                self._demand_service(failure)
            raise

    def connect(self, seconds: float) -> HTTPConnection | None:
        """A connection for requests that were signed; see Web.connect."""
        return self._web.connect(self._endpoint, seconds)

    def whole(self, key: str, stored: Stored) -> Request:
        """The request for all bytes of an object (at least one), if it still is the one that was listed."""
        url, headers = self._sign("GET", key, "", _NOTHING, _same(stored))
        return Request("GET", urlsplit(url).path, headers, stored.size)

    def storing(self, key: str, body: memoryview | bytes, sha256: str) -> Request:
        """The request that writes an object under its SHA-256; the answer has its ETag."""
        url, headers = self._sign("PUT", key, "", sha256, {})
        headers["Content-Length"] = str(len(body))
        return Request("PUT", urlsplit(url).path, headers, None, body)

    def _demand_service(self, failure: Failure) -> None:
        """Raises Failure("spaces-busy") where Spaces reads no other object either, and so says nothing of this one."""
        try:
            # Where there is none, Spaces has looked for it.
            with suppress(Gone):
                self._send("GET", UPLOAD_SENTINEL, "", None, _NOTHING).close()
        except Failure as other:
            raise Failure("spaces-busy", failure.detail, retry_after=failure.retry_after) from other

    def _fetch(
        self, key: str, stored: Stored, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        size, end = stored.size, start + len(view) - 1
        headers = _same(stored)
        whole = start == 0 and len(view) == size
        if not whole:
            headers["Range"] = f"bytes={start}-{end}"
        response = self._send("GET", key, "", None, _NOTHING, headers)
        wanted = f"bytes {start}-{end}/{size}"
        got = response.headers.get("Content-Range", wanted if whole else "")
        announced = response.headers.get("Content-Length", str(len(view)))
        if got != wanted or announced != str(len(view)):
            response.close()
            # The object is not what its evidence says: no retry of the part can mend that.
            raise Failure(
                "wrong-answer",
                f"Spaces answered {got or 'the whole object'!r}, {announced} bytes, for {key}; {wanted!r} was asked for",
            )
        count = self._web.read_into(SIDE, response, view, on_chunk)
        if count < len(view):
            raise Failure("short-body", f"Spaces sent {count} of {len(view)} bytes of {key}")

    # --- multipart uploads ---

    def create_upload(self, key: str) -> str:
        """Starts a multipart upload; gives its id. No metadata is set: it would be a claim made before the proof."""
        where = {"Bucket": self._bucket, "Key": self._prefix + key}
        answer = self._control(lambda: _whole(self._client.create_multipart_upload(**where), key, "UploadId"), key)
        return str(answer["UploadId"])

    def upload_part(self, key: str, upload: str, number: int, view: memoryview, sha256: str) -> str:
        """Sends part `number` (from 1); gives its ETag. Raises Gone."""
        query = f"partNumber={number}&uploadId={quote(upload, safe='')}"

        def send() -> str:
            return self._store(key, query, view, sha256)

        return retry(send, self._stop)

    def complete_upload(self, key: str, upload: str, etags: list[str]) -> None:
        """Joins the parts, which the server checks by their ETags. Raises Gone when the upload or a part is not as it was."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        which = {"Bucket": self._bucket, "Key": self._prefix + key, "UploadId": upload}
        # Made where it is needed: a client takes a while to make, and a session makes one at a time.
        with self._joining:
            self._joiner = self._joiner or self._connect(COMPLETE_SECONDS)
        self._control(lambda: self._joiner.complete_multipart_upload(**which, MultipartUpload={"Parts": parts}), key)

    def abort_upload(self, key: str, upload: str) -> None:
        """Drops an unfinished upload and its parts; one that is gone is fine."""
        which = {"Bucket": self._bucket, "Key": self._prefix + key, "UploadId": upload}
        with suppress(Gone):
            self._control(lambda: self._client.abort_multipart_upload(**which), key)

    def list_parts(self, key: str, upload: str) -> dict[int, tuple[int, str, datetime]]:
        """Parts of an unfinished upload: number -> (bytes, ETag, time). Raises Gone (Ceph says NoSuchKey)."""
        parts: dict[int, tuple[int, str, datetime]] = {}

        def fetch(marker: int) -> dict[str, Any]:
            return self._client.list_parts(
                Bucket=self._bucket, Key=self._prefix + key, UploadId=upload, PartNumberMarker=marker
            )

        for page in self._pages(fetch, 0, key, "Parts", "PartNumber"):
            for entry in page.get("Parts", []):
                _whole(entry, key, "Size", "ETag", "LastModified")
                parts[entry["PartNumber"]] = (entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])
        return parts

    def uploads(self) -> Iterator[Upload]:
        """The unfinished uploads under the model's prefix, by pages up to one that brings nothing new."""
        markers: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()

        def ask() -> list[Upload]:
            page = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix, **markers)
            rows = _whole(page, self._prefix, "IsTruncated").get("Uploads", [])
            for row in rows:
                _whole(row, self._prefix, "Key", "UploadId", "Initiated")
            return [Upload(row["Key"][len(self._prefix) :], row["UploadId"], row["Initiated"]) for row in rows]

        while True:
            found = [upload for upload in self._control(ask, self._prefix) if (upload.key, upload.id) not in seen]
            if not found:
                return
            yield from found
            seen |= {(upload.key, upload.id) for upload in found}
            markers = {"KeyMarker": self._prefix + found[-1].key, "UploadIdMarker": found[-1].id}

    def last_write(self, upload: Upload) -> datetime | None:
        """When the newest part of an unfinished upload came, by the server's clock; None when the upload is gone."""
        try:
            parts = self.list_parts(upload.key, upload.id)
        except Gone:
            return None
        return max((modified for _, _, modified in parts.values()), default=upload.initiated)

    # --- requests ---

    def _send(
        self,
        method: str,
        key: str,
        query: str,
        body: memoryview | bytes | None,
        sha256: str,
        headers: dict[str, str] | None = None,
    ) -> BaseHTTPResponse:
        url, signed = self._sign(method, key, query, sha256, headers or {})
        if body is not None:
            signed["Content-Length"] = str(len(body))
        response = self._web.send(SIDE, method, url, signed, _slices(body))
        if response.status in (200, 206):
            return response
        code = re.search(rb"<Code>([^<]+)</Code>", self._web.read_words(SIDE, response))
        raise self._failure(code[1].decode() if code else "", response.status, key, retry_after(response.headers))

    def _sign(
        self, method: str, key: str, query: str, sha256: str, headers: dict[str, str]
    ) -> tuple[str, dict[str, str]]:
        url = f"{self._endpoint}/{self._bucket}/{quote(self._prefix + key, safe='/~')}{'?' if query else ''}{query}"
        request = AWSRequest(method=method, url=url, headers=headers)
        request.context["sha256"] = sha256
        _Signer(self._credentials, "s3", self._region).add_auth(request)
        return url, dict(request.headers.items())

    def _store(self, key: str, query: str, body: memoryview | bytes, sha256: str) -> str:
        """What the server calls the bytes it took in. A status of 200 alone may be anybody's."""
        response = self._send("PUT", key, query, body, sha256)
        self._web.read_words(SIDE, response)
        etag = response.headers.get("ETag", "").strip('"')
        if not etag:
            raise Failure("spaces-error", f"Spaces gave {key} no ETag")
        return etag

    def _control(self, call: Callable[[], Any], what: str) -> Any:
        def once() -> Any:
            try:
                return call()
            except ClientError as error:
                meta = error.response.get("ResponseMetadata", {})
                raise self._failure(
                    str(error.response.get("Error", {}).get("Code", "")),
                    int(meta.get("HTTPStatusCode", 0)),
                    what,
                    retry_after(meta.get("HTTPHeaders", {})),
                ) from error
            except SSLError as error:
                raise tls_failure(SIDE, str(error)) from error
            except ReadTimeoutError as error:
                raise Failure("stalled", f"Spaces moved no byte for {STALL_SECONDS:.0f} s") from error
            except ProxyConnectionError as error:
                raise Failure("connection", "the proxy on the way to Spaces does not answer") from error
            except (EndpointError, HTTPClientError) as error:
                raise Failure(
                    "connection", f"the connection to {self._endpoint} failed: {type(error).__name__}"
                ) from error
            except ParamValidationError as error:
                raise Failure("bad-settings", f"BUCKET {self._bucket!r} or a name in it is not possible") from error
            except (BotoCoreError, ValueError) as error:
                raise Failure("spaces-error", f"Spaces' answer for {what} cannot be read: {error}") from error

        return retry(once, self._stop)

    def _failure(self, code: str, status: int, key: str, wait: float | None) -> Exception:
        where = f"bucket {self._bucket} at {self._endpoint}"
        # botocore gives the status where an answer has no code: then it is not S3 that speaks, and nothing is for good.
        code = "" if code.isdigit() else code
        what = f"{status} {code}".rstrip()
        if code in ("NoSuchUpload", "InvalidPart") or status == 412:
            return Gone(key)
        if code in _CREDENTIALS:
            return Failure(
                "spaces-credentials", f"Spaces does not accept the key in Secret spaces-credentials ({code})"
            )
        if code in _ELSEWHERE or 300 <= status < 400:
            return Failure("other-region", f"{where} is not in region {self._region}: Spaces answered {what} for {key}")
        if code == "QuotaExceeded":
            return Failure("spaces-full", f"the quota of {where} is used up: Spaces does not take {key}")
        if code in _REFUSED:
            return Failure("spaces-refused", f"Spaces does not take {key} ({code})")
        if code == "RequestTimeTooSkewed":
            return Failure("clock-skew", "the node's clock and Spaces' differ by more than 15 minutes")
        if code == "NoSuchBucket":
            return Failure("no-bucket", f"there is no {where}")
        if code in _BUSY or status in _BUSY_STATUS:
            return Failure("spaces-busy", f"Spaces answered {what} for {key}", retry_after=wait)
        if code in ("XAmzContentSHA256Mismatch", "BadDigest"):
            words = f"Spaces received other bytes of {key} than were sent"
            return Failure("wrong-bytes", words, next=f"{BETWEEN}: it changes them on their way")
        if code == "IncompleteBody":
            return Failure("short-body", f"Spaces received fewer bytes of {key} than were sent")
        if code == "AccessDenied" or (code and status in (401, 403)):
            return Failure(
                "spaces-denied", f"the key in Secret spaces-credentials may not use {key} in {where} ({code or status})"
            )
        if code == "NoSuchKey":
            return Gone(key)
        return Failure("spaces-error", f"Spaces answered {what} for {key}", retry_after=wait)


def _whole(answer: dict[str, Any], what: str, *members: str) -> dict[str, Any]:
    """The answer, if it has what every one of its kind has: a status of 200 alone may be anybody's."""
    for member in members:
        if member not in answer:
            raise Failure("spaces-error", f"Spaces' answer for {what} has no {member}")
    return answer


def _same(stored: Stored) -> dict[str, str]:
    """Headers that ask for the bytes of just this object."""
    return {"If-Match": f'"{stored.etag}"', "Accept-Encoding": "identity"}


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _date(answer: dict[str, Any]) -> datetime:
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
