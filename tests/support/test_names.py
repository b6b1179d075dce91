import os

import pytest

from keras_lapkl._support.names import check_distinct, names_below, output_stems


def test_names_below(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names_below(["a/b/1.jpg"]) == ("1.jpg",)
    assert names_below(["a/b/1.jpg", "a/2.jpg"]) == ("b/1.jpg", "2.jpg")
    assert names_below(["a/b/1.jpg", "a/2.jpg"], ".") == ("a/b/1.jpg", "a/2.jpg")
    assert names_below([tmp_path / "a/../b/1.jpg"], tmp_path) == ("b/1.jpg",)
    assert names_below(["a/1.jpg", "c/2.jpg"], "a") == ("a/1.jpg", "c/2.jpg")


@pytest.mark.parametrize(
    "paths",
    [
        ("a/../../victim.jpg",),
        ("/etc/passwd.jpg", "x.jpg"),
        ("a/../../b.jpg", "../../../../../../../../../../c.jpg", "d/./e.jpg"),
        ("../a/b.jpg", "../../c.jpg"),
    ],
)
def test_no_name_leads_out_of_the_folder(paths):
    for name in names_below(paths):
        assert not os.path.isabs(name) and ".." not in name.split("/")


@pytest.mark.parametrize(
    ("names", "folders", "stems"),
    [
        (["a.jpg", "b.jpg", "b.png"], [], ["a", "b.jpg", "b.png"]),
        (["a.bmp", "a.png", "a.png.bmp"], [], ["a.bmp", "a.png", "a.png.bmp"]),
        (["x.jpg", "x.face1.jpg"], [], ["x", "x.face1.jpg"]),
        (["x.jpg", "x.png", "x.jpg.face2.bmp"], [], ["x.jpg", "x.png", "x.jpg.face2.bmp"]),
        (["x.face1.jpg", "x.face2.jpg"], [], ["x.face1", "x.face2"]),
        (
            ["x.jpg", "X.png", "É.jpg", "e\u0301.png"],
            [],
            ["x.jpg", "X.png", "É.jpg", "e\u0301.png"],
        ),
        (["clip.mp4", "clip/000000.jpg"], ["clip.mp4"], ["clip.mp4", "clip/000000"]),
        (["clip.jpg", "clip/000000.jpg"], [], ["clip", "clip/000000"]),
        (["a.jpg", "a.pts/b.jpg"], [], ["a.jpg", "a.pts/b"]),
        (
            ["a\nb.jpg", "🙂.png", os.fsdecode(b"\xff.jpg")],
            [],
            ["a\nb", "🙂", os.fsdecode(b"\xff")],
        ),
    ],
)
def test_stems_are_distinct(names, folders, stems):
    assert output_stems(names, folders) == dict(zip(names, stems, strict=True))


@pytest.mark.parametrize("letter", ["x", "é", "🙂", os.fsdecode(b"\xff")])
def test_long_names_are_cut_and_stay_distinct(letter):
    size = len(os.fsencode(letter))
    names = [f"folder/{letter * (250 // size - 1)}{i}.jpg" for i in range(3)]
    stems = output_stems(names)
    assert len(set(stems.values())) == 3
    for stem in stems.values():
        last = os.fsencode(stem.removeprefix("folder/"))
        assert 200 < len(last) <= 220 and b"~" in last
        if letter != os.fsdecode(b"\xff"):
            last.decode()


def test_outputs_that_are_one():
    check_distinct([("a.pts", "a.jpg"), ("b.pts", "b.jpg"), ("a.pts", "a.jpg")])
    with pytest.raises(ValueError, match=r"'one' and 'other' would both be written to 'a\.pts'"):
        check_distinct([("a.pts", "one"), ("a.pts", "other")])
    with pytest.raises(ValueError, match=r"'file' and 'inside' .* to 'a\.pts'"):
        check_distinct([("a.pts/b.pts", "inside"), ("a.pts", "file")])
    with pytest.raises(ValueError, match="'video' and 'photo'"):
        check_distinct([("clip/", "video"), ("clip/0.pts", "photo")])
    check_distinct([("A.pts", "one"), ("a.pts", "other")])
    with pytest.raises(ValueError, match="'one' and 'other'"):
        check_distinct([("A.pts", "one"), ("a.pts", "other")], fold_case=True)
