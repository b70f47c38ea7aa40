"""Multipart uploads under one model's prefix: begun, filled, joined, dropped, and found again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bucket import Bucket, with_members
from refusal import Gone
from retry import retry

PARTS_LIMIT = 10_000
# Joining the parts of a large object can take a server minutes before its first byte of answer.
COMPLETE_SECONDS = 300.0


@dataclass(frozen=True)
class Unfinished:
    """An unfinished multipart upload."""

    key: str
    id: str
    initiated: datetime


@dataclass(frozen=True)
class Sifted:
    """Unfinished uploads: those that nobody is at any more, and how many are so young that they may be of a run elsewhere."""

    abandoned: list[Unfinished]
    young: int


class MultipartUploads:
    """The multipart uploads of one model; keys and retries are as in Spaces."""

    def __init__(self, bucket: Bucket, stop: threading.Event) -> None:
        self._bucket = bucket
        self._stop = stop
        self._joiner: Any = None
        self._joining = threading.Lock()

    def create(self, key: str) -> str:
        """Starts a multipart upload; gives its id. No metadata is set: it would be a claim made before the proof."""
        where = self._bucket.key_options(key)
        answer = self._bucket.control(
            lambda: with_members(self._bucket.client.create_multipart_upload(**where), key, "UploadId"), key
        )
        return str(answer["UploadId"])

    def store_part(self, key: str, upload: str, number: int, view: memoryview, sha256: str) -> str:
        """Sends part `number` (from 1); gives its ETag. Raises Gone."""
        query = f"partNumber={number}&uploadId={quote(upload, safe='')}"

        def send() -> str:
            return self._bucket.store(key, query, view, sha256)

        return retry(send, self._stop)

    def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Joins the parts, which the server checks by their ETags. Raises Gone when the upload or a part is not as it was."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        which = {**self._bucket.key_options(key), "UploadId": upload}
        # Made where it is needed, one at a time.
        with self._joining:
            self._joiner = self._joiner or self._bucket.make_client(COMPLETE_SECONDS)
        self._bucket.control(
            lambda: self._joiner.complete_multipart_upload(**which, MultipartUpload={"Parts": parts}),
            key,
            COMPLETE_SECONDS,
        )

    def abort(self, key: str, upload: str) -> None:
        """Drops an unfinished upload and its parts; one that is gone is fine."""
        which = {**self._bucket.key_options(key), "UploadId": upload}
        with suppress(Gone):
            self._bucket.control(lambda: self._bucket.client.abort_multipart_upload(**which), key)

    def list_parts(self, key: str, upload: str) -> dict[int, tuple[int, str, datetime]]:
        """Parts of an unfinished upload: number -> (bytes, ETag, time). Raises Gone (Ceph says NoSuchKey)."""
        parts: dict[int, tuple[int, str, datetime]] = {}

        def fetch(marker: int) -> dict[str, Any]:
            return self._bucket.client.list_parts(
                **self._bucket.key_options(key), UploadId=upload, PartNumberMarker=marker
            )

        for page in self._bucket.pages(fetch, 0, key, "Parts", "PartNumber"):
            for entry in page.get("Parts", []):
                with_members(entry, key, "Size", "ETag", "LastModified")
                parts[entry["PartNumber"]] = (entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])
        return parts

    def sift(self, is_ours: Callable[[str], bool], before: datetime) -> Sifted:
        """Of the unfinished uploads of keys that are ours, abandoned are those whose last write was `before` this.

        Not every upload under the prefix is ours: a model `org` has those of `org/name` under it too.
        """
        abandoned: list[Unfinished] = []
        young = 0
        for upload in self._unfinished():
            last = self._last_write(upload) if is_ours(upload.key) else None
            if last is None:
                continue
            if last < before:
                abandoned.append(upload)
            else:
                young += 1
        return Sifted(abandoned, young)

    def _unfinished(self) -> Iterator[Unfinished]:
        """The unfinished uploads under the model's prefix, by pages up to one that brings nothing new."""
        markers: dict[str, str] = {}
        seen: set[tuple[str, str]] = set()

        def ask() -> list[Unfinished]:
            page = self._bucket.client.list_multipart_uploads(**self._bucket.prefix_options(), **markers)
            rows = with_members(page, self._bucket.prefix, "IsTruncated").get("Uploads", [])
            for row in rows:
                with_members(row, self._bucket.prefix, "Key", "UploadId", "Initiated")
            return [
                Unfinished(row["Key"][len(self._bucket.prefix) :], row["UploadId"], row["Initiated"]) for row in rows
            ]

        while True:
            found = [
                upload
                for upload in self._bucket.control(ask, self._bucket.prefix)
                if (upload.key, upload.id) not in seen
            ]
            if not found:
                return
            yield from found
            seen |= {(upload.key, upload.id) for upload in found}
            markers = {"KeyMarker": self._bucket.prefix + found[-1].key, "UploadIdMarker": found[-1].id}

    def _last_write(self, upload: Unfinished) -> datetime | None:
        """When the newest part of an unfinished upload came, by the server's clock; None when the upload is gone."""
        try:
            parts = self.list_parts(upload.key, upload.id)
        except Gone:
            return None
        return max((modified for _, _, modified in parts.values()), default=upload.initiated)
