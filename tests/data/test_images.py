import base64
import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_lapkl.data import images
from keras_lapkl.data.images import ImageError, find_files, find_images, read_image

# 16x16 pixels of cyan 0, magenta 1, yellow 1, black 0, as Photoshop stores them: red.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAW"
    "EBETFBUVFQwPFxgWFBgSFBUU/8AAFAgAEAAQBEMRAE0RAFkRAEsRAP/EABUAAQEAAAAAAAAAAAAAAAAAAAAJ/8QAFBAB"
    "AAAAAAAAAAAAAAAAAAAAAP/aAA4EQwBNAFkASwAAPwCqaVSVSqYAAAD/2Q=="
)
RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SUFFIXES = [".jpg", ".png", ".bmp", ".webp"]


def encode(suffix, image=RGB):
    """File content from RGB, RGBA or gray."""
    swapped = image[..., [2, 1, 0, *range(3, image.shape[-1])]] if image.ndim == 3 else image
    return cv2.imencode(suffix, swapped)[1].tobytes()


def with_orientation(jpeg, orientation):
    """A JPEG with an EXIF segment of one entry, the orientation (tag 0x112, a short)."""
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + jpeg[2:]


def png(header, *chunks):
    """A PNG from width, height, depth and color type, and (name, data) chunks."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


@pytest.fixture
def read(tmp_path):
    """Reads bytes as an image file."""

    def read_bytes(data, name="face.jpg"):
        (tmp_path / name).write_bytes(data)
        return read_image(tmp_path / name)

    return read_bytes


SCANNED = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def with_scans(count, channels=3, before=b""):
    """A progressive JPEG with its last scan many times more often, each behind other bytes."""
    image = SCANNED if channels == 3 else SCANNED[..., 0]
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    empty = scan[: 2 + struct.unpack(">H", scan[2:4])[0]] + bytes(8)
    return data[:-2] + (before + empty) * count + data[-2:]


class TestReadImage:
    @pytest.mark.parametrize("suffix", [".png", ".bmp"])
    def test_lossless(self, read, suffix):
        np.testing.assert_array_equal(read(encode(suffix)), RGB)

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_lossy_is_rgb(self, read, suffix):
        image = read(encode(suffix, np.full((40, 60, 3), [200, 30, 60], np.uint8)))
        assert image.shape == (40, 60, 3) and image.dtype == np.uint8
        assert abs(image - np.array([200.0, 30, 60])).max() < 5

    def test_content_decides_not_the_name(self, read):
        np.testing.assert_array_equal(read(encode(".png"), "face.jpg"), RGB)

    def test_any_path(self, read):
        np.testing.assert_array_equal(read(encode(".png"), "a face, ägä 顔.png"), RGB)

    def test_a_pipe_and_a_device_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        for name, kind in (("pipe.jpg", "a named pipe"), ("zero.jpg", "a device")):
            with pytest.raises(ImageError, match=rf"{name}: expected a regular file.*{kind}"):
                read_image(tmp_path / name)

    def test_a_chunk_that_claims_more_than_the_file(self, read):
        """OpenCV takes and clears so much memory before it notices."""
        data = bytearray(encode(".png"))
        at = data.index(b"IDAT") - 4
        data[at : at + 4] = struct.pack(">I", 0xFFFF0000)
        with pytest.raises(ImageError, match="truncated"):
            read(bytes(data))

    def test_too_many_bytes_are_refused_unread(self, tmp_path):
        with open(tmp_path / "large.bmp", "wb") as stream:
            stream.write(encode(".bmp"))
            stream.truncate(images.MAX_BYTES + 1)
        with pytest.raises(ImageError, match=r"large\.bmp: expected at most 1000000000 bytes"):
            read_image(tmp_path / "large.bmp")

    @pytest.mark.parametrize("error", [MemoryError, cv2.error("Insufficient memory")])
    def test_too_little_memory(self, read, monkeypatch, error):
        def decode(*_):
            raise error

        monkeypatch.setattr(cv2, "imdecode", decode)
        with pytest.raises(ImageError, match=r"face\.jpg: expected an (intact )?image"):
            read(encode(".png"))

    @pytest.mark.slow
    def test_a_process_that_may_not_have_the_memory(self, tmp_path):
        """81 megapixels of one color: a small file, and 243 MB decoded."""
        cv2.imwrite(str(tmp_path / "large.png"), np.zeros((9000, 9000), np.uint8))
        code = """
import resource, sys
from keras_lapkl.data.images import ImageError, read_image
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 150_000_000, -1))
try:
    read_image(sys.argv[1])
except ImageError as error:
    print(error)
"""
        words = [sys.executable, "-c", code, str(tmp_path / "large.png")]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert "large.png: expected an" in said

    def test_gray(self, read):
        image = read(encode(".png", RGB[..., 0]))
        np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bit_is_scaled(self, read, channels):
        wide = RGB[..., :channels].astype(np.uint16) * 257
        image = read(encode(".png", wide.squeeze()))
        np.testing.assert_array_equal(image, np.broadcast_to(RGB[..., :channels], RGB.shape))

    @pytest.mark.parametrize("alpha", [0, 100, 255])
    def test_alpha_is_dropped(self, read, alpha):
        rgba = np.dstack([RGB, np.full(RGB.shape[:2], alpha, np.uint8)])
        np.testing.assert_array_equal(read(encode(".png", rgba)), RGB)

    def test_palette(self, read):
        rows = zlib.compress((b"\0" + b"\1" * 20) * 17)
        data = png((20, 17, 8, 3), (b"PLTE", b"\0\0\0\xfa\x14\x1e"), (b"IDAT", rows))
        np.testing.assert_array_equal(read(data), np.full((17, 20, 3), [250, 20, 30]))

    def test_cmyk(self, read):
        assert abs(read(CMYK_JPEG) - np.array([255.0, 0, 0])).max() < 5

    @pytest.mark.parametrize(
        ("orientation", "upright"),
        [
            (1, lambda x: x),
            (2, lambda x: x[:, ::-1]),
            (3, lambda x: x[::-1, ::-1]),
            (6, lambda x: np.rot90(x, -1)),
            (8, np.rot90),
        ],
    )
    def test_exif_orientation_is_applied(self, read, orientation, upright):
        jpeg = encode(".jpg", cv2.resize(RGB, (64, 48)))
        expected = upright(read(jpeg))
        np.testing.assert_array_equal(read(with_orientation(jpeg, orientation)), expected)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_trailing_bytes_are_fine(self, read, suffix):
        data = encode(suffix)
        np.testing.assert_array_equal(read(data + b"\xff\xda trailer \xff"), read(data))

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
    def test_truncated(self, read, suffix, share):
        data = encode(suffix)
        with pytest.raises(ImageError, match=r"face\.jpg.*expected"):
            read(data[: int(share * len(data))])

    def test_thumbnail_does_not_hide_truncation(self, read):
        """EXIF may hold a whole JPEG, with an end marker of its own."""
        jpeg = encode(".jpg")
        thumbnail = b"Exif\0\0" + jpeg
        data = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail + jpeg[2:]
        assert read(data).shape == RGB.shape
        with pytest.raises(ImageError, match="truncated"):
            read(data[:-100])

    @pytest.mark.parametrize(
        ("data", "received"),
        [
            (b"", "empty"),
            (b"<html>404</html>", "<html>"),
            (b"GIF89a" + bytes(50), "GIF89a"),
            (b"RIFF\x20\0\0\0WAVEfmt " + bytes(30), "RIFF"),
            (b"\xff\xd8\xff", "truncated"),
            (b"\x89PNG\r\n\x1a\n", "truncated"),
            (b"BM", "truncated"),
            (b"BMW is a make of car, not a bitmap", "expected"),
            (b"\xff\xd8\xff\xd9", "truncated"),
        ],
    )
    def test_no_image(self, read, data, received):
        with pytest.raises(ImageError, match=received):
            read(data)

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "an AVIF"),
            (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera's raw picture"),
            (b"II*\0" + bytes(20), "a TIFF"),
            (b"MM\0*" + bytes(20), "a TIFF"),
            (b"GIF89a" + bytes(20), "a GIF"),
            (b"8BPS" + bytes(20), "a Photoshop file"),
        ],
    )
    def test_pictures_that_are_not_read_are_named_with_the_remedy(self, read, data, kind):
        with pytest.raises(ImageError, match=f"Received: {kind}.*Save it as JPEG or PNG"):
            read(data)

    def test_heic_without_its_extra_is_named_with_the_remedy(self, read, monkeypatch):
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(
            ImageError, match=r"a HEIC\. Save it as JPEG or PNG; .*'keras_lapkl\[heic\]'"
        ):
            read(HEIC_HEAD)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("shape", [(1, 1, 3), (15, 40, 3), (40, 15, 3)])
    def test_tiny(self, read, suffix, shape):
        with pytest.raises(ImageError, match=f"16 pixels.*{shape[1]}x{shape[0]}"):
            read(encode(suffix, np.zeros(shape, np.uint8)))

    @pytest.mark.parametrize("size", [(30_000, 30_000), (40_000, 100), (2**31, 2**31)])
    def test_bomb_is_refused_unopened(self, read, monkeypatch, size):
        monkeypatch.setattr(images.cv2, "imdecode", None)
        with pytest.raises(ImageError, match=f"200 megapixels.*{size[0]}x{size[1]}"):
            read(png((*size, 8, 2)))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_scans_over_and_over(self, read, monkeypatch, channels):
        """Each empty one has few bytes, and the decoder goes over all pixels for it."""
        data = with_scans(1000, channels)
        assert read(data).shape == (96, 128, 3)
        monkeypatch.setattr(images, "MAX_SCANNED_PIXELS", 500 * 96 * 128)
        monkeypatch.setattr(images.cv2, "imdecode", None)
        with pytest.raises(ImageError, match=r"at most 500 scans of 128x96 .*Save it again"):
            read(data)

    @pytest.mark.parametrize(
        "hidden",
        [
            b"\xff\xfe\0\6\xff\xd9\xff\xd9",  # a comment with end markers
            b"\xff\xd0\xff\xff\xff\x02\0\x08\xff",  # no segment, though it may look like one
        ],
    )
    def test_scans_behind_what_ends_none(self, read, monkeypatch, hidden):
        monkeypatch.setattr(images, "MAX_SCANNED_PIXELS", 500 * 96 * 128)
        monkeypatch.setattr(images.cv2, "imdecode", None)
        with pytest.raises(ImageError, match="at most 500 scans"):
            read(with_scans(1000, before=hidden))

    @pytest.mark.parametrize("progressive", [0, 1])
    def test_markers_that_are_no_scans(self, read, monkeypatch, progressive):
        """In the thumbnail, in a comment, and behind the end, where phones put a video."""
        monkeypatch.setattr(images, "MAX_SCANNED_PIXELS", 10 * 96 * 128)
        data = cv2.imencode(".jpg", SCANNED, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1]
        data = data.tobytes()
        comment = b"\xff\xfe" + struct.pack(">H", 402) + b"\xff\xda" * 200
        data = data[:2] + comment + data[2:-2] + comment + data[-2:] + b"\xff\xda" * 200
        assert read(data).shape == (96, 128, 3)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("shape", [(16, 16), (17, 301), (300, 19)])
    def test_size_in_the_header(self, suffix, shape):
        data = encode(suffix, np.zeros((*shape, 3), np.uint8))
        inspect = next(f for magic, f in images._FORMATS.items() if data.startswith(magic))
        assert tuple(inspect(data)) == (shape[1], shape[0], True)

    @pytest.mark.parametrize(
        ("kind", "quality", "channels"), [(b"VP8L", 101, 3), (b"VP8 ", 80, 3), (b"VP8X", 80, 4)]
    )
    def test_kinds_of_webp(self, read, kind, quality, channels):
        rgba = np.dstack([RGB, np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)])
        quality = [cv2.IMWRITE_WEBP_QUALITY, quality]
        data = cv2.imencode(".webp", rgba[..., :channels], quality)[1].tobytes()
        assert data[12:16] == kind
        assert tuple(images._inspect_webp(data)) == (32, 24, True)
        assert read(data).shape == RGB.shape

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @given(damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8))
    def test_damage_gives_an_image_or_an_error(self, tmp_path_factory, suffix, damage):
        data = bytearray(encode(suffix))
        for where, value in damage:
            data[int(where * len(data))] = value
        path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
        path.write_bytes(data)
        try:
            image = read_image(path)
        except ImageError as error:
            assert str(path) in str(error)
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
            read_image(tmp_path / "none.jpg")


class TestHeic:
    """As phones write it. The files are made by the package that reads them."""

    @pytest.fixture
    def encoded(self):
        heif = pytest.importorskip("pillow_heif")

        def encoded(image, mode="RGB", orientation=1):
            stream = io.BytesIO()
            exif = b"Exif\0\0MM\0\x2a" + struct.pack(
                ">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0
            )
            file = heif.from_bytes(mode, image.shape[1::-1], image.tobytes())
            file[0].info["exif"] = exif
            file.save(stream, quality=-1)
            return stream.getvalue()

        return encoded

    def test_rgb_without_alpha(self, read, encoded):
        red = np.full((24, 32, 3), [200, 30, 60], np.uint8)
        np.testing.assert_allclose(read(encoded(red), "a.heic"), red, atol=4)
        clear = np.dstack([red, np.zeros_like(red[..., :1])])
        np.testing.assert_allclose(read(encoded(clear, "RGBA")), red, atol=4)

    def test_upright(self, read, encoded):
        side = np.zeros((48, 80, 3), np.uint8)
        side[:24, :40] = (250, 0, 0)
        image = read(encoded(side, orientation=6))
        assert image.shape == (80, 48, 3)
        assert image[4, -4, 0] > 200 > 60 > image[4, 4, 0]

    def test_gray(self, read, encoded):
        image = read(encoded(RGB[..., 0], "L"))
        np.testing.assert_allclose(image, np.repeat(RGB[..., :1], 3, -1), atol=3)

    def test_gray_of_more_than_8_bits(self, read, encoded):
        ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
        image = read(encoded(ramp, "L;16"))
        assert image.dtype == np.uint8 and image.shape == (48, 64, 3)
        np.testing.assert_allclose(image[..., 1], ramp / 257, atol=3)

    def test_limits(self, read, encoded, monkeypatch):
        with pytest.raises(ImageError, match=r"16 pixels.*40x15"):
            read(encoded(np.zeros((15, 40, 3), np.uint8)))
        monkeypatch.setattr(images, "MAX_PIXELS", 767)
        with pytest.raises(ImageError, match=r"megapixels.*32x24"):
            read(encoded(RGB))

    def test_broken(self, read, encoded):
        whole = encoded(RGB)
        for data in (HEIC_HEAD, whole[: len(whole) // 2], whole[:-40]):
            with pytest.raises(ImageError, match="intact image"):
                read(data)


class TestFindImages:
    def test_below_in_any_case_sorted(self, tmp_path):
        names = ["b.JPG", "a/z.jpeg", "a/b/c.Png", "d.bmp", "e.webp", "f.jfif", "g.JPE"]
        others = ["f.txt", "g.jpg.part", ".hidden.jpg", ".cache/h.jpg", "jpg"]
        for name in (*names, *others):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
        assert found == ["a/b/c.Png", "a/z.jpeg", "b.JPG", "d.bmp", "e.webp", "f.jfif", "g.JPE"]
        passed_by = find_files(tmp_path, (".png", ".bmp"))[1]
        assert passed_by == {
            **{".jpg": 1, ".jpeg": 1, ".webp": 1, ".jfif": 1, ".jpe": 1},
            **{".txt": 1, ".part": 1, "hidden": 2, "no suffix": 1},
        }

    def test_folders_that_can_not_be_read_are_told(self, tmp_path, monkeypatch, caplog):
        for name in ("a.png", "no/b.png", "yes/c.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        scandir = os.scandir

        def scan(path):
            if os.path.basename(os.path.normpath(path)) == "no":
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(images.os, "scandir", scan)
        found, passed_by = find_files(tmp_path, (".png",))
        assert [path.name for path in found] == ["a.png", "c.png"]
        assert passed_by == {"unreadable folders": 1}
        assert f"Passed by what is in {tmp_path / 'no'}: Permission denied" in caplog.text
        with pytest.raises(PermissionError, match="Permission denied"):
            find_files(tmp_path / "no", (".png",))

    def test_order_is_that_of_paths(self, tmp_path):
        """A folder stands where its name does among the files; Path compares part by part."""
        for name in ("a/z.jpg", "a.jpg", "a-b/c.jpg", "A.jpg", "b/a/x.jpg", "b/a.jpg", "ü.jpg"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = find_images(tmp_path)
        assert len(found) == 7 and list(found) == sorted(found)

    def test_links(self, tmp_path):
        """A linked folder is followed, a loop ends."""
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "a.jpg").touch()
        os.symlink(tmp_path / "there", tmp_path / "here" / "link")
        os.symlink(tmp_path / "here", tmp_path / "there" / "loop")
        assert find_images(tmp_path / "here") == (tmp_path / "here" / "link" / "a.jpg",)

    def test_none(self, tmp_path):
        with pytest.raises(ImageError, match=r"\.jpg.*none"):
            find_images(tmp_path)

    def test_none_among_others(self, tmp_path):
        for name in ("a.txt", "b.txt", "c.mp4"):
            (tmp_path / name).touch()
        with pytest.raises(ImageError, match=r"Received: 2 \.txt, 1 \.mp4"):
            find_images(tmp_path)

    def test_no_folder(self, tmp_path):
        with pytest.raises(NotADirectoryError, match="nowhere"):
            find_images(tmp_path / "nowhere")
