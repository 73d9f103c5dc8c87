"""Download one official file: complete and with the published checksum, or not at all."""

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from lure.errors import InputError

PIECE = 1 << 20


def download_file(url: str, target: Path, sha256: str, max_bytes: int) -> None:
    """Download `url` to the file `target`; an existing file of that name is kept.

    The bytes go to a temporary file next to the target, which is renamed once the checksum is right. After a failure
    the folder is as it was before; a new folder is removed.

    Args:
        url: where the file is published.
        target: where to put it; missing folders are created.
        sha256: its checksum in hexadecimal.
        max_bytes: the download fails beyond this size.

    Raises:
        InputError: if the server cannot be reached, the checksum is wrong, or the file cannot be written.
    """
    if target.exists():
        return
    new_folders = [folder for folder in target.parents if not folder.exists()]
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=target.name, suffix=".part", dir=target.parent)
        temporary = Path(name)
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=60) as response:
            size = 0
            while piece := response.read(PIECE):
                size += len(piece)
                if size > max_bytes:
                    raise InputError(f"{url} is longer than the {max_bytes} bytes that are allowed; nothing was kept")
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise InputError(
                f"{url} has the wrong checksum (SHA-256 {digest.hexdigest()} instead of {sha256}); nothing was kept"
            )
        temporary.replace(target)
    except (HTTPException, urllib.error.URLError, TimeoutError) as error:
        raise InputError(
            f"cannot download {url} ({error}): download it in another way and put it into {target.parent}"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if not target.exists():
            for folder in new_folders:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
