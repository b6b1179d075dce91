import os
import socket
import sys

import pytest

from keras_lapkl._support import reading

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")


def test_bytes_are_read_through_links(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert reading.read_bytes(tmp_path / "link", limit=7) == b"content"


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "file").write_bytes("\ufeffä".encode())
    assert reading.read_text(tmp_path / "file", limit=10) == "ä"


def test_more_bytes_than_the_limit_are_refused_before_they_are_read(tmp_path):
    with open(tmp_path / "sparse", "wb") as stream:
        stream.truncate(2**42)
    with pytest.raises(ValueError, match=r"sparse: expected at most 10 bytes.*4398046511104"):
        reading.read_bytes(tmp_path / "sparse", limit=10)


@posix
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg: expected a regular file.*a named pipe"):
        reading.read_bytes(tmp_path / "pipe.jpg", limit=10)


@posix
def test_a_link_to_an_endless_device_is_refused(tmp_path):
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"zero\.png: expected a regular file.*a device"):
        reading.read_bytes(tmp_path / "zero.png", limit=10)


@posix
def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(ValueError, match=r"socket: expected a regular file.*a socket"):
            reading.read_bytes("socket", limit=10)


@posix
def test_a_folder_and_a_missing_file_are_os_errors_with_the_path(tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        reading.read_bytes(tmp_path, limit=10)
    with pytest.raises(FileNotFoundError, match="missing"):
        reading.read_bytes(tmp_path / "missing", limit=10)


@posix
def test_refused_files_are_closed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        with pytest.raises(ValueError, match="pipe"):
            reading.open_regular(tmp_path / "pipe")
    assert len(os.listdir("/dev/fd")) == before
