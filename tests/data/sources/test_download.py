import hashlib
import urllib.request

import pytest

from lure.data.sources.download import download_file
from lure.errors import InputError

CONTENT = b"official bytes" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "file").write_bytes(CONTENT)
    return (tmp_path / "server" / "file").as_uri()


def test_a_complete_download_is_kept(tmp_path, url):
    target = tmp_path / "a" / "b" / "file"
    download_file(url, target, SHA256, 1 << 20)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_an_existing_file_is_kept(tmp_path, url):
    target = tmp_path / "file"
    target.write_bytes(b"mine")
    download_file(url, target, SHA256, 1 << 20)
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("sha256", "max_bytes", "message"),
    [("0" * 64, 1 << 20, "wrong checksum"), (SHA256, 100, "longer than the 100 bytes")],
)
def test_another_file_than_the_official_one_leaves_nothing(tmp_path, url, sha256, max_bytes, message):
    for target in (tmp_path / "new" / "folder" / "file", tmp_path / "server" / "other"):
        with pytest.raises(InputError, match=message):
            download_file(url, target, sha256, max_bytes)
    assert not (tmp_path / "new").exists()
    assert [file.name for file in (tmp_path / "server").iterdir()] == ["file"]


def test_an_unreachable_server_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="cannot download") as caught:
        download_file((tmp_path / "absent").as_uri(), tmp_path / "new" / "file", SHA256, 100)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_download_leaves_nothing(tmp_path, url, monkeypatch):
    opened = urllib.request.urlopen

    def interrupted(*arguments, **options):
        response = opened(*arguments, **options)
        monkeypatch.setattr(response, "read", lambda size: (_ for _ in ()).throw(KeyboardInterrupt))
        return response

    monkeypatch.setattr(urllib.request, "urlopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download_file(url, tmp_path / "new" / "file", SHA256, 1 << 20)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, url):
    (tmp_path / "file").write_bytes(b"no folder")
    with pytest.raises(InputError, match="cannot write"):
        download_file(url, tmp_path / "file" / "target", SHA256, 1 << 20)
