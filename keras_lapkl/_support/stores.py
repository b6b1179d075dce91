"""Object stores, such as s3://bucket/photos, by fsspec, in the place of folders of this machine.

A put of a store is atomic: an object is there whole or not at all, so nothing is renamed. What is
tried again when a connection breaks, and how often, is the business of the store's own package.
"""

import contextlib
import dataclasses
import datetime
import errno
import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote

from keras_lapkl._support import extras
from keras_lapkl._support.types import PathLike

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
_USER = re.compile(
    r"(?<=://)[^/@\s]*:(?!\d*(?:[/?#\s'\"]|$))(?:\S*|[^/?#]*)@"
    r"|(?:(?<=http://)|(?<=https://)|(?<=ftp://)|(?<=ftps://))[^/?#\s'\"]*@"
)
"""User and password. A secret may have a / or another sign that a URL should not have there. Alone
a user may be a token, but of Azure's addresses it is the container."""
_QUERY = re.compile(r"((?:https?|ftps?)://[^\s?'\"]*\?)([^\s#'\"]*)")
"""Elsewhere a ? is part of a name."""
_SECRET = re.compile(
    r"([?&][\w-]*(?:key|secret|token|sig|signature|password|credential)[\w-]*=)([^&\s#'\"/]*)", re.I
)
_HIDDEN = "***"
_ATOMIC = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"))
_STAMPS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
"""What stores call that which changes with an object, in listings and of one object alike."""

State: TypeAlias = tuple[int, int]
"""Size in bytes and a number that changes with the content: a time, or of a store another."""


class StoreError(ConnectionError):
    """A store that can't be reached, or refuses."""


_CREDENTIALS = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("ProfileNotFound", "SSOError", "TokenRetrievalError", "DefaultCredentialsError"),
    )
)
"""Errors, by name, of what looks for credentials: of botocore and google.auth."""
_AWS = (
    "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for a bucket that all may "
    """read, FSSPEC_S3='{"anon": true}'."""
)
_GOOGLE = "Set GOOGLE_APPLICATION_CREDENTIALS."
_WHERE = {"s3": _AWS, "s3a": _AWS, "gs": _GOOGLE, "gcs": _GOOGLE}
_REGION = (
    "The bucket is in another region, or another store's: see AWS_DEFAULT_REGION and "
    "AWS_ENDPOINT_URL."
)
_ADVICE = {
    **dict.fromkeys(("PermanentRedirect", "301", "AuthorizationHeaderMalformed"), _REGION),
    **dict.fromkeys(("IllegalLocationConstraintException", "IncorrectEndpoint"), _REGION),
    "RequestTimeTooSkewed": "Set the clock of this machine.",
}
"""What to do about answers of S3, by their codes; of a request by HEAD that is the status."""
_NOT_IMPLEMENTED = 501
_LATER = frozenset((408, 409, 429, *range(500, 600))) - {_NOT_IMPLEMENTED}
"""HTTP's statuses that tell of the moment: they may be others when asked again."""
_SETTINGS = frozenset(
    ("ValueError", "TypeError", "ParamValidationError", "NoRegionError", "RecursionError")
)
"""Errors, by name, that are made on this machine; the last one by botocore, of redirections."""


def _causes(error):
    """An error, and those that it was made of."""
    while error is not None:
        yield error
        error = error.__cause__


def _answer(error):
    """Code and HTTP status of what a store has answered; None where it has not, or none is told."""
    for each in _causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):  # botocore's
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return response.get("Error", {}).get("Code"), status
        for name in ("status_code", "status", "code"):  # Azure's, aiohttp's, gcsfs's
            if isinstance(status := getattr(each, name, None), int):
                return None, status
    return None, None


@dataclasses.dataclass(frozen=True)
class StorePath:
    """A folder of a store, or what is below it, as much as is needed of `pathlib.Path`.

    Pickled it is no more than these words: each process makes its own connection, by the
    credentials and settings that it finds.

    Attributes:
        root: URL of the folder, without a slash at the end.
        below: name below it, with /; never parsed as a part of a URL.
        size: bytes of the object, where a listing has told.
    """

    root: str
    below: str = ""
    size: int | None = None

    def __str__(self) -> str:
        """For messages and results: without the secrets that a URL may have."""
        root = redacted(self.root)
        return f"{root}/{self.below}" if self.below else root

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(self.root, f"{self.below}/{name}" if self.below else name)

    @property
    def name(self) -> str:
        return str(self).rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "StorePath":
        return StorePath(self.root, self.below.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> "StorePath":
        return StorePath(self.root, str(PurePosixPath(self.below).with_suffix(suffix)))

    def absolute(self) -> "StorePath":
        return self

    resolve = absolute

    def exists(self) -> bool:
        try:
            self.state()
        except FileNotFoundError:
            return False
        return True

    is_file = exists

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """What is in the folder and has such a name."""
        with contextlib.suppress(FileNotFoundError):
            for name, _, _ in self.scan():
                if fnmatch.fnmatchcase(name, pattern):
                    yield self / name

    def state(self) -> State:
        """Asks for size and stamp.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: the store can't be reached, or refuses.
        """
        with self._asked() as (files, path):
            about = files.info(path)
        if about["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return self._state(about)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from one to before another; raises as `state`."""
        if start == stop:  # stores refuse such a range
            return b""
        with self._asked() as (files, path):
            return files.cat_file(path, start=start, end=stop)

    def scan(self) -> Iterator[tuple[str, bool, State]]:
        """Name, whether it is a folder, and state of all that is in a folder, in no order.

        The name of a folder is empty where an address has two slashes in a row.

        Raises:
            FileNotFoundError: nothing is in it, or there is no such bucket.
            StoreError: as `state`.
            ValueError: a listing of this kind of store tells no sizes.
        """
        with self._asked() as (files, path):
            files.invalidate_cache()
            entries = list(files.ls(path, detail=True))
            files.invalidate_cache()  # which has no bound
        entries.reverse()
        while entries:  # given back one by one: they are large
            entry = entries.pop()
            name = entry["name"].lstrip("/").removeprefix(path.strip("/")).removeprefix("/")
            if entry["type"] == "directory":
                yield name.rstrip("/"), True, (0, 0)
            elif name:  # some programs make an empty object in the place of a folder
                yield name, False, self._state(entry)

    def write(self, data: bytes) -> None:
        """Puts an object, in the place of one that is there; raises StoreError."""
        with self._asked("write") as (files, path):
            files.pipe_file(path, data)

    def create(self, data: bytes) -> None:
        """Puts an object where none is.

        Raises:
            FileExistsError: there is one.
            StoreError: as `write`.
            ValueError: a store of this kind may be left with half a file.
        """
        scheme = self.root.partition("://")[0]
        if scheme not in _ATOMIC:
            raise ValueError(
                f"{self}: a kill may leave half a file on {scheme}://. Write to a folder, or to "
                f"one of {', '.join(sorted(_ATOMIC - {'memory'}))}."
            )
        with self._asked("write", make=True) as (files, path):
            files.pipe_file(path, data, mode="create")

    def put(self, file: PathLike) -> None:
        """Puts a file of this machine; raises as `write`."""
        with self._asked("write") as (files, path):
            files.put_file(os.fspath(file), path)

    def remove(self) -> None:
        """Removes an object, if it is there; raises StoreError."""
        with contextlib.suppress(FileNotFoundError), self._asked("delete") as (files, path):
            files.rm_file(path)

    @contextlib.contextmanager
    def _asked(self, right: str = "list and read", make: bool = False) -> Iterator[tuple[Any, str]]:
        """The file system of fsspec and the path in it; errors in our words.

        Args:
            right: what is done there.
            make: whether an object is put where none is.
        """
        extras.require(str(self), "fsspec")
        import fsspec.core

        try:
            files, root = fsspec.core.url_to_fs(self.root)
        except ImportError as error:  # names the package
            raise ModuleNotFoundError(f"{self} needs another package: {error}") from error
        except ValueError as error:
            raise ValueError(
                f"Expected a path, or an address that fsspec knows, such as s3://bucket/folder. "
                f"Received: {self} ({self._said(error)})"
            ) from error
        except Exception as error:  # some connect at once
            raise self._failed(error, right, make) from error
        try:
            yield files, f"{root}/{self.below}" if self.below else root
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            if right == "write":
                raise StoreError(f"{self} can't be written: there is no such bucket.") from error
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from error
        except Exception as error:  # packages of stores raise all kinds
            raise self._failed(error, right, make) from error

    def _failed(self, error, right, make):
        """What is raised for an error of the store's package; what is to be mended, by its kind."""
        words = getattr(error, "strerror", None) or str(error)  # without the number of an errno
        said = (" ".join(self._said(words).split()) or type(error).__name__).removesuffix(".")
        code, status = _answer(error)
        kinds = [{kind.__name__ for kind in type(each).__mro__} for each in _causes(error)]
        if any(kind & _CREDENTIALS for kind in kinds):
            scheme = self.root.partition("://")[0]
            return StoreError(
                f"{self}: the package of the store has no credentials: {said}. "
                f"{_WHERE.get(scheme, 'Its documentation says where it looks for them.')}"
            )
        if code in _ADVICE:
            return StoreError(f"{self}: the store says: {said}. {_ADVICE[code]}")
        if isinstance(error, PermissionError):
            return StoreError(
                f"{self}: the store refuses: {said}. Have its credentials expired? May they "
                f"{right} there?"
            )
        if make and status == _NOT_IMPLEMENTED:
            return StoreError(
                f"{self}: the store says: {said}. The object is put only if none is there "
                "(If-None-Match), which a store must know to be written to: write to a folder, or "
                "to another store."
            )
        if status in _LATER or (status is None and not kinds[0] & _SETTINGS):
            return StoreError(
                f"{self}: the store does not answer: {said}. When it does, the same command "
                "starts or goes on again."
            )
        says = "the package of the store says" if status is None else "the store says"
        return StoreError(f"{self}: {says}: {said}.")

    def _said(self, words):
        """Words of an error without our secrets, which packages may take apart."""
        said, root = redacted(str(words)), self.root
        hidden = [found[0] for found in _USER.finditer(root)]
        hidden += [found[2] for each in (_QUERY, _SECRET) for found in each.finditer(root)]
        for each in re.split(r"[:/@&=]", ":".join((*hidden, *map(unquote, hidden)))):
            if len(each) > 3:
                said = said.replace(each, _HIDDEN)
        return said

    def _state(self, about):
        if about["size"] is None:
            scheme = self.root.partition("://")[0]
            raise ValueError(
                f"{self}: {scheme}:// tells no sizes of what it has: copy it to a folder, or to a "
                "store such as s3://bucket/folder."
            )
        stamp = next((about[key] for key in _STAMPS if about.get(key)), "")
        if isinstance(stamp, datetime.datetime):  # a number in the listing of the same store
            stamp = stamp.timestamp()
        digest = hashlib.blake2b(str(stamp).encode(), digest_size=8).digest()
        return about["size"], int.from_bytes(digest, "little") >> 1


AnyPath: TypeAlias = Path | StorePath
"""What most code need not tell apart."""


def redacted(text: str) -> str:
    """A text without user, password and values of a query in the addresses that are in it.

    Example:

    >>> redacted("ftp://me:secret@host/photos"), redacted("https://host/photos?token=secret")
    ('ftp://***@host/photos', 'https://host/photos?token=***')
    """
    text = _SECRET.sub(rf"\1{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))
    return _QUERY.sub(_without_values, text)


def _without_values(found):
    parts = (part.partition("=")[:2] for part in found[2].split("&"))
    return found[1] + "&".join(f"{name}={_HIDDEN}" if sign else _HIDDEN for name, sign in parts)


def is_address(path: PathLike) -> bool:
    """Whether a path is the URL of a store, whose slashes `pathlib` may have merged."""
    scheme, found, _ = os.fspath(path).partition(":/")
    return bool(found) and _URL.fullmatch(f"{scheme}://") is not None


def at(path: PathLike | StorePath) -> AnyPath:
    """A path of this machine, or of a store where a URL is given.

    Raises:
        ValueError: a URL without a bucket, or one of several.

    Example:

    >>> at("s3://bucket/photos/") / "a.jpg"
    StorePath('s3://bucket/photos/a.jpg')
    """
    if isinstance(path, StorePath):
        return path
    url = _URL.fullmatch(os.fspath(path))
    if url is None:
        return Path(path)
    scheme, rest = url[1].lower(), url[2].rstrip("/")
    if scheme in ("file", "local"):
        return Path(rest or "/")
    if "::" in rest or not rest.strip("/"):
        raise ValueError(
            f"Expected one address with a bucket, such as s3://bucket/folder. Received: "
            f"{redacted(os.fspath(path))}"
        )
    return StorePath(f"{scheme}://{rest}")
