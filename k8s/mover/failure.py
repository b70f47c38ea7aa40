"""Every way the mover can fail: cause -> permanent or transient -> the next step for its user.

The table is the contract with the scripts: `cause` reaches the termination message, and the exit code follows from
`permanent` (64: the Job must not retry; 1: it may).
"""

from dataclasses import dataclass

EXIT_TRANSIENT = 1
EXIT_PERMANENT = 64
EXIT_STOPPED = 143


@dataclass(frozen=True)
class Cause:
    """One row: whether a new pod could do better, what to do, and how often one call is tried before it ends the run."""

    permanent: bool
    next: str
    tries: int


def _permanent(next: str, tries: int = 1) -> Cause:
    return Cause(True, next, tries)


def _transient(next: str, tries: int = 8) -> Cause:
    return Cause(False, next, tries)


BETWEEN = "check what stands between the pod and the server, such as a proxy"
SAME_COMMAND = "run the same command again: it goes on where this run stopped"

CAUSES: dict[str, Cause] = {
    # what was asked for
    "bad-settings": _permanent("correct the setting and run the same command again"),
    "no-model": _permanent(
        "check the model id and its spelling; if it is private, put a token with access into Secret hf-token"
    ),
    "no-revision": _permanent("name a branch, tag or commit of this model with --revision"),
    "empty-listing": _permanent("check the repository on its Hub page, and --include and --exclude"),
    "hostile-listing": _permanent(
        "do not stage this repository; leave the file out with --exclude if you trust the rest"
    ),
    # the Hub
    "bad-token": _permanent("put a valid token into Secret hf-token, key HF_TOKEN, and run the same command again"),
    "gated": _permanent(
        "ask for access on the model's Hub page, or put a token that has access into Secret hf-token, key HF_TOKEN"
    ),
    "hub-denied": _permanent("give the token in Secret hf-token read access to this repository"),
    "hub-busy": _transient("wait a few minutes; a token in Secret hf-token raises the Hub's rate limit"),
    "hub-error": _transient(SAME_COMMAND),
    # Spaces
    "spaces-credentials": _permanent(
        "put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a valid Spaces key into Secret spaces-credentials"
    ),
    "clock-skew": _permanent("correct the clock of the node"),
    "no-bucket": _permanent("create the bucket, or correct --bucket, --endpoint and --region"),
    "spaces-denied": _permanent("give the key in Secret spaces-credentials read and write access to the bucket"),
    "other-region": _permanent("correct --region and --endpoint: they have to be those of the bucket"),
    "spaces-full": _permanent(
        "enlarge the quota, or remove a model that is not needed (make clean-model), and run the same command again"
    ),
    "spaces-refused": _permanent("leave the file out with --exclude, or use a storage that takes it"),
    "spaces-busy": _transient(SAME_COMMAND),
    "spaces-error": _transient(SAME_COMMAND),
    "no-evidence": _permanent("run make model-to-spaces for this model first"),
    "other-evidence": _permanent("run make model-to-spaces with the same settings, or ask for what Spaces holds"),
    "spaces-unsteady": _transient("stop whatever else writes to this prefix, then run the same command again", tries=1),
    "spaces-incomplete": _permanent(
        "run make model-to-spaces for this model: it finds and mends what is wrong in Spaces"
    ),
    # the bytes
    "wrong-bytes": _permanent("run the same command again later; if it stays, the source itself is damaged", tries=6),
    # They last for 10 s: a proxy may be starting anew.
    "wrong-answer": _permanent(BETWEEN, tries=6),
    "short-body": _transient(SAME_COMMAND),
    "stalled": _transient(SAME_COMMAND),
    "connection": _transient("check that the node reaches the server, then run the same command again"),
    "tls": _permanent(
        "check the endpoint, or put the CA that signed its certificate into Secret mover-network (key CA_BUNDLE)"
    ),
    # the volume
    "no-space": _permanent("make room on the volume or enlarge it, then run the same command again"),
    "read-only": _permanent("mount the volume read-write: check the PV's mount options and the export"),
    "volume-denied": _permanent(
        "let the pod's user write to the model folder: check its owner and the export's squash settings"
    ),
    "volume-obstacle": _permanent("move it away, then run the same command again"),
    "volume-io": _transient("check the NFS server and the mount, then run the same command again", tries=5),
    "mismatch": _permanent("run make model-to-nfs for this model: it moves what is missing or wrong"),
    # a removal
    "not-removed": _transient("stop whatever else writes to this model, then run the same command again", tries=1),
    # the pod itself
    "install": _transient(
        "check that the pod reaches its package index, or name a mirror with --pip-index-url", tries=1
    ),
    "stopped": _transient(SAME_COMMAND, tries=1),
    "internal": _transient("this is a defect of the mover: report it with the log above", tries=1),
}


class Failure(Exception):
    """A failure that has a row in `CAUSES`.

    `detail` is one sentence naming the object and both sides of a mismatch; it never contains a secret.
    `retry_after` is what the server asked for, in seconds.
    """

    def __init__(self, cause: str, detail: str, *, next: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.row = CAUSES[cause]
        self.next = next or self.row.next
        self.retry_after = retry_after
        self.given_up = False

    def tell(self, path: str) -> None:
        """Says in its detail what it is about."""
        if path not in self.detail:
            self.detail += f" ({path})"

    @property
    def exit_code(self) -> int:
        """64 for a permanent cause, 143 after SIGTERM, else 1."""
        if self.cause == "stopped":
            return EXIT_STOPPED
        return EXIT_PERMANENT if self.row.permanent else EXIT_TRANSIENT


class Stopped(Failure):
    """SIGTERM arrived: what can be resumed has been kept."""

    def __init__(self) -> None:
        super().__init__("stopped", "the pod was told to stop; what was moved so far is kept")


class Again(Exception):
    """One file, and only this one, has to be taken up again: wrong bytes, or an upload or object that is gone."""
