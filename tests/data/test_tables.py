"""What all readers of CSV share; each reader's own tests have the forms that it reads."""

import numpy as np
import pytest

from keras_lapkl.data import tables


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "x.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tables.read_table(path)

    return read


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ('a.png,1,"2"\n', ["a.png", "1", "2"]),
        ("a.png;1,5;-,25\n", ["a.png", "1.5", "-.25"]),
        ("a.png\t1,5\t2,5e1\n", ["a.png", "1.5", "2.5e1"]),
        ("a.png;1.5;2\n", ["a.png", "1.5", "2"]),
        ("a;b;c.png,1,2\n", ["a;b;c.png", "1", "2"]),
        ('"a,b.png";1;2\n', ["a,b.png", "1", "2"]),
        ('"a;\nb.png",1,2\n', ["a;\nb.png", "1", "2"]),
        ("sep=\t\r\na.png\t1\t2\r\n", ["a.png", "1", "2"]),
        ("a.png;512,125;0,125\n", ["a.png", "512.125", "0.125"]),
        ("frame_7,3,5\n", ["frame_7", "3", "5"]),
        ("a.png\t1\t2\t\n", ["a.png", "1", "2"]),
        ("a.png;1;2;;\n", ["a.png", "1", "2", "", ""]),
    ],
)
def test_lines_without_a_header(read, text, cells):
    table = read(text)
    assert table.header is None and [row for _, row in table.rows] == [cells]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("path,x1,y1\n", ("path", "x1", "y1")),
        ("\ufeff path ; x1;y1;;\r\n\r\na.png;1;2;;\r\n", ("path", "x1", "y1")),
        ("path,x1,,y1\na.png,1,,2\n", ("path", "x1", "", "y1")),
        ("file\tnose x\n", ("file", "nose x")),
        ("3,x1,7\n", ("3", "x1", "7")),
        ("path,'=a_x\n", ("path", "=a_x")),
        ("path,ne\u0301z_x\n", ("path", "n\xe9z_x")),  # an accent as a letter of its own
    ],
)
def test_headers(read, text, header):
    assert read(text).header == header


def test_lines_keep_their_numbers(read):
    assert read("sep=;\n\npath;x1\n\na.png;1\n").rows == [(5, ["a.png", "1"])]
    assert read("\n,\n").rows == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png;1,5\nb.png;2.5\n", "'1,5' in line 1 and '2.5' in line 2"),
        ("a.png;1,024\nb.png;900\n", "line 1: '1,024' may be"),
        ("a.png;900;1.024\n", "line 1: '1.024' may be"),
        ("a.png,1\nb.png,1,2\n", None),
        ("path,x1\nb.png,1,2\n", "line 2: expected 2 cells, as the header in line 1 has"),
        ("[[1, 2]]", "JSON"),
        ("<svg>", "XML"),
    ],
)
def test_refused(read, text, message):
    if message is None:  # the reader that knows what it wants tells of these
        assert read(text).header is None
        return
    with pytest.raises(ValueError, match=r"x\.csv.*" + message):
        read(text)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[0, 0], [1, 1]], True),
        ([[0.2, 0.3], [-0.9, 1]], True),
        ([[0.2, 0.3]] * 30 + [[1.2, 0.5]], True),
        ([[0.2, 0.3], [1.2, 1.5]], False),
        ([[0.2, 0.3]] * 30 + [[3, 0.5]], False),
        ([[0.2, 0.3]], False),
        (np.zeros((0, 2)), False),
    ],
)
def test_fractions(points, expected):
    assert tables.are_fractions(np.array(points)) is expected
