"""What Spaces' refusals mean: a table from S3's codes and the HTTP status to a cause and its words."""

from collections.abc import Callable
from dataclasses import dataclass

from failure import BETWEEN, Again, Failure

# Causes that may be the damage of one object rather than the state of the server.
UNREADABLE = ("wrong-answer", "short-body", "spaces-error")
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
class Refusals:
    """The refusals of one bucket, named as users know it."""

    bucket: str
    endpoint: str
    region: str

    def meaning_of(self, code: str, status: int, key: str, wait: float | None) -> Exception:
        """Gone where the object or the upload is not as it was, else a Failure; `wait` is what the server asks for, in seconds."""
        where = f"bucket {self.bucket} at {self.endpoint}"
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
            return Failure("other-region", f"{where} is not in region {self.region}: Spaces answered {what} for {key}")
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
