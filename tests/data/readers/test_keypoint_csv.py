import csv
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from keras_lapkl import schemes
from keras_lapkl.data import read_csv
from keras_lapkl.data.crops import load_crops
from keras_lapkl.data.keypoints import KeypointError, croppable

NAN = float("nan")
NAMED = "path,nose_x,nose_y,left_ear_x,left_ear_y,right_ear_x,right_ear_y\n"


@pytest.fixture
def read(tmp_path):
    """Reads text or bytes as a CSV file, of pictures that are not there."""

    def read(content, **kwargs):
        path = tmp_path / "some points.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_csv(path, missing_ok=True, **kwargs)

    return read


class TestCSV:
    @pytest.mark.parametrize(
        "text",
        [
            "a.png,1,2,3.5,-4\nb.png,5,6,7,8e1\n",
            "a.png,1,2,3.5,-4\nb.png,5,6,7,8e1",
            "file,x1,y1,x2,y2\na.png,1,2,3.5,-4\nb.png,5,6,7,8e1\n",
            "file,p_y,q_x,p_x,q_y\na.png,2,3.5,1,-4\nb.png,6,7,5,8e1\n",
            '"a.png", 1 , 2,3.5,"-4"\n\n , ,\nb.png,5,6,7,80.0\n',
        ],
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_forms(self, read, tmp_path, text, end, mark):
        found = read(mark + text.replace("\n", end))
        assert found.paths == (tmp_path / "a.png", tmp_path / "b.png")
        assert found.landmarks.dtype == np.float32 and found.boxes is found.sizes is None
        np.testing.assert_array_equal(found.landmarks, [[[1, 2], [3.5, -4]], [[5, 6], [7, 80]]])
        assert found.visible.all()

    @pytest.mark.parametrize(
        "text",
        [
            "a.png;1;2;3,5;-4\nb.png;5;6;7;8,0e1\n",
            "a.png\t1\t2\t3.5\t-4\nb.png\t5\t6\t7\t80\n",
            "Path;X1;Y1;X2;Y2\na.png;1,000;2,000;3,500;-4,000\nb.png;5,000;6,0000;7,0;80,000\n",
            "sep=;\nfile;x_0;y_0;x_1;y_1\na.png;1;2;3.5;-4\nb.png;5;6;7;80\n",
            ",Image,2_x,2_y,1_x,1_y\n0,a.png,3.5,-4,1,2\n1,b.png,7,80,5,6\n",
            "x2,x1,y2,y1,path\n3.5,1,-4,2,a.png\n7,5,80,6,b.png\n",
            "path,x01,y01,x02,y02,,\na.png,1,2,3.5,-4,,\nb.png,5,6,7,80,,\n",
            'path,x1,y1,x2,y2\n"a.png",1,2,3.5,-4\n"b.png",5,6,7,80\n',
            "path,P.X,P.Y,q x,q y\na.png,1,2,3.5,-4\nb.png,5,6,7,80\n",
        ],
    )
    def test_forms_of_other_programs(self, read, text):
        found = read(text)
        assert [path.name for path in found.paths] == ["a.png", "b.png"]
        np.testing.assert_array_equal(found.landmarks, [[[1, 2], [3.5, -4]], [[5, 6], [7, 80]]])

    @pytest.mark.parametrize("head", ["path\tx1\ty1\tx2\ty2\n", "path\tx1\ty1\tx2\ty2\t\t\n"])
    def test_separators_at_the_end_are_no_points(self, read, head):
        text = f"{head}a.png\t1\t2\t3\t4\t\t\nb.png\t5\t6\t\t\t\t\n"
        found = read(text)
        assert found.visible.tolist() == [[True, True], [True, False]]

    def test_a_separator_at_the_end_of_lines_without_a_header(self, read):
        found = read("a.png;1;2;3;4;\nb.png;5;6;;;\n")
        assert found.visible.tolist() == [[True, True], [True, False]]

    def test_points_that_no_object_has_are_told(self, read, caplog):
        assert read("a.png\t1\t2\t3\t4\t\t\n").scheme.num_landmarks == 3
        assert "labeled in no object: point_2" in caplog.text

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("form", ["{a}{i}", "{a}_{i}", "{i}_{a}", "{i}{a}"])
    def test_points_by_number_wherever_they_stand(self, read, first, form):
        """As pandas sorts columns: x1, x10, x11, x12, x2, …."""
        values = {
            form.format(a=a, i=i + first): 10 * i + 3 + (a == "y") for i in range(12) for a in "xy"
        }
        columns = sorted(values)
        text = ",".join(["path", *columns]) + "\na.png," + ",".join(str(values[c]) for c in columns)
        expected = [[10 * i + 3, 10 * i + 4] for i in range(12)]
        scheme = schemes.Scheme("twelve", tuple(f"part{i}" for i in range(12)))
        for each in (None, scheme, read(text).scheme):
            np.testing.assert_array_equal(read(text, scheme=each).landmarks[0], expected)

    def test_a_picture_before_numbers_that_count_is_an_object(self, read):
        np.testing.assert_array_equal(read("a.png,0,1,2,3\n").landmarks, [[[0, 1], [2, 3]]])

    def test_semicolons_and_tabs_in_names(self, read):
        found = read("a;b.png,1,2,3,4\nc\td.png,1,2,3,4\n")
        assert [path.name for path in found.paths] == ["a;b.png", "c\td.png"]

    def test_names_make_the_scheme(self, read):
        found = read(NAMED + "a.png,1,2,3,4,5,6\n")
        assert found.scheme == schemes.Scheme(
            "custom", ("nose", "left_ear", "right_ear"), flip=(0, 2, 1)
        )
        assert found.name == "csv some points"
        assert found.summary == (
            "csv some points: 1 objects in 1 images, 3 of 3 points labeled on average"
        )

    def test_numbers_make_no_mirror(self, read):
        assert read("a.png,1,2,3,4\n").scheme == schemes.Scheme("custom", ("point_0", "point_1"))
        named = read("path,x1,y1,x2,y2\na.png,1,2,3,4\n").scheme
        assert named.names == ("point_1", "point_2") and named.flip is None

    def test_what_is_not_annotated(self, read):
        found = read("a.png,1,2,,,5,6\nb.png,,,3,4,5,6\n")
        np.testing.assert_array_equal(
            found.landmarks, [[[1, 2], [NAN, NAN], [5, 6]], [[NAN, NAN], [3, 4], [5, 6]]]
        )
        np.testing.assert_array_equal(found.visible, [[True, False, True], [False, True, True]])
        assert "2 of 3 points labeled" in found.summary

    def test_visibility(self, read):
        found = read(
            "path,x1,y1,v1,b_x,b_y,b_visible,c_x,c_y\n"
            "a.png,1,2,0,3,4,1,5,6\n"
            "b.png,1,2,2,,,0,5,6\n"
            "c.png,1,2,,,,,5,6\n"
        )
        np.testing.assert_array_equal(
            found.visible, [[False, True, True], [True, False, True], [True, False, True]]
        )
        np.testing.assert_array_equal(found.landmarks[0, 0], [1, 2])
        assert np.isnan(found.landmarks[1:, 1]).all()

    def test_visibility_is_in_the_order_of_the_scheme(self, read):
        text = "path,b_x,b_y,a_x,a_y,c_x,c_y\na.png,1,2,,,50,60\n"
        found = read(text, scheme=schemes.Scheme("three", ("a", "b", "c")))
        assert found.visible.tolist() == [[False, True, True]]

    def test_boxes(self, read):
        head = "path,x1,y1,x2,y2,box_x0,box_y0,box_x1,box_y1\n"
        found = read(head + "a.png,1,2,3,4,-0.5,0,9.5,20\nb.png,1,2,3,4,,,,\n")
        np.testing.assert_array_equal(found.boxes, [[-0.5, 0, 9.5, 20], [NAN] * 4])
        assert read(head + "a.png,1,2,3,4,,,,\n").boxes is None
        box = read(head + "a.png,,,3,4,0,0,9,9\n", crop_from="box")
        assert box.scheme.crop_from == "box" and croppable(box) is box

    def test_several_objects_of_an_image(self, read):
        found = read("a.png,1,2,3,4\na.png,5,6,7,8\n./a.png,9,6,7,8\n")
        assert len(found) == 3 and len(set(found.paths)) == 1
        assert "3 objects in 1 images" in found.summary

    def test_paths(self, read, tmp_path):
        found = read('"b,c/d e.png",1,2,3,4\na/../f.png,1,2,3,4\n', images="pictures")
        assert found.paths == (
            pathlib.Path("pictures/b,c/d e.png"),
            pathlib.Path("pictures/a/../f.png"),
        )
        found = read(f"{tmp_path}/f.png,1,2,3,4\n", images="/")
        assert found.paths == (tmp_path / "f.png",)

    @pytest.mark.parametrize("name", ["/etc/f.png", "../f.png", "a/../../f.png"])
    def test_paths_that_lead_out_of_the_folder(self, read, name):
        with pytest.raises(KeypointError, match=r"below the folder of the images, .*/pictures\. "):
            read(f"a.png,1,2,3,4\n{name},1,2,3,4\n", images="pictures")

    @pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
    def test_a_name_that_no_file_can_have_is_missing(self, tmp_path, name):
        (tmp_path / "a.csv").write_text(f"{name}.png,1,2,3,4\n")
        assert len(read_csv(tmp_path / "a.csv", missing_ok=True)) == 1
        with pytest.raises(FileNotFoundError, match=r"line 1: there is no image"):
            read_csv(tmp_path / "a.csv")

    def test_quotes_for_spreadsheets(self, read):
        found = read("path,'-eye_x,'-eye_y,b_x,b_y\n'=1+1.png,1,-2,3,4\n'90s.png,1,2,3,4\n")
        assert [path.name for path in found.paths] == ["=1+1.png", "'90s.png"]
        assert found.scheme.names == ("-eye", "b") and found.landmarks[0, 0, 1] == -2

    def test_one_point(self, read):
        found = read("a.png,7,9\nb.png,8,9\n", crop_from="image")
        assert found.landmarks.shape == (2, 1, 2) and found.scheme.flip == (0,)
        assert croppable(found) is found
        with pytest.raises(KeypointError, match="line 1: expected two distinct points or more"):
            croppable(read("a.png,7,9\n"))

    def test_hundreds_of_points(self, read, rng):
        points = rng.uniform(0, 500, (4, 300, 2)).astype(np.float32)
        text = "".join(
            f"{i}.png,{','.join(map(repr, each.ravel().tolist()))}\n"
            for i, each in enumerate(points)
        )
        np.testing.assert_array_equal(read(text).landmarks, points)

    def test_without_a_labeled_point_is_left_out(self, read):
        head = "path,x1,y1,v1,x2,y2,v2\n"
        found = read(head + "a.png,1,2,0,3,4,1\nb.png,,,,,,\nc.png,1,2,0,3,4,0\n")
        assert [path.name for path in found.paths] == ["a.png"]
        assert found.summary.endswith("; 2 without a labeled point left out")
        with pytest.raises(KeypointError, match=r"labeled points\. Received: none"):
            read("b.png,,,,,,\n")

    def test_without_two_points_has_no_crop_by_them(self, read):
        text = "a.png,1,2,,,5,6\nb.png,,,3,4,,\nc.png,1,1,1,1,1,1\n"
        found = read(text)
        assert len(found) == 3
        some = croppable(found)
        assert [path.name for path in some.paths] == ["a.png"]
        assert some.summary == (
            f"{found.summary.replace('3 objects in 3', '1 objects in 1')}; 2 with fewer than two "
            "points to crop by left out"
        )
        assert len(croppable(read(text, crop_from="image"))) == 3
        with pytest.raises(
            KeypointError, match=r"line 1: .* fewer, in 1 of 1 objects\. Crop from a"
        ):
            croppable(read("b.png,,,3,4,,\n"))

    def test_the_origin_is_suspicious(self, read, caplog):
        read("a.png,1,2,0,0\nb.png,0,0,5,6\nc.png,0,6,5,6\n")
        assert "2 points lie at exactly (0, 0)" in caplog.text

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "an empty file"),
            (" \n,,\n", "an empty file"),
            (NAMED, "a header alone"),
            ("a.png\n", "line 1: expected a path and pairs.*1 in 'a.png'"),
            ("a.png,1,2,3\n", "line 1: expected a path and pairs.*4 in 'a.png,1,2,3'"),
            ("a.png;1,5;2,5;3,5\n", "line 1: expected a path and pairs.*4 in 'a.png,1.5,2.5"),
            ("a.png;1,5;2.5\n", "decimal points, or else.*'1,5' in line 1 and '2.5' in line 1"),
            ("a.png;1,024;512\n", "line 1: '1,024' may be a number below ten or one above"),
            ("path,0,1\na.png,1,2\n", "line 1: this looks like a header"),
            ("image_name,0,1,2,3\na.png,1,2,3,4\n", "line 1: this looks like a header"),
            (",0,1,2,3\na.png,1,2,3,4\n", "line 1: this looks like a header.*Name them"),
            ("0,1,2\na.png,1,2\n", "line 1: this looks like a header"),
            ("1,2,a.png\n", "line 1: expected the picture as the first cell.*number 3 of 3"),
            ("path,x1,y1,x3,y3\n", "line 1: .*from 0 or 1 on, without a gap.*without 2"),
            ("path,x2,y2,x3,y3\n", "line 1: .*without a gap.*without 1"),
            ("path,x1,y1,x99999,y99999\n", "line 1: .*without a gap.*99999, without 2, 3"),
            ("path,x1,y1,1_x,1_y\n", "line 1: expected point 1 once"),
            ("path,x1,y1,x01,y01\n", "line 1: expected each column once.*'x01'.*'x1'"),
            ("path,Nose_x,Nose_y,nose_x,nose_y\n", "line 1: .*once.*'nose_x'.*'Nose_x'"),
            ("path,x0,y0,x1,y1,nose_x,nose_y\n", "line 1: .*may be a box or two points"),
            ("head_x,head_y\n1,2\n", "line 1: expected a column of pictures' paths"),
            (",x1,y1\n0,1,2\n1,3,4\n", "line 1: .*'', counts lines"),
            ("Image,x1,y1\n12 13 14,1,2\n", "line 2: .*3 numbers, such as the pixels in Kaggle"),
            ("path,image,x1,y1\n", "line 1: expected one column of pictures"),
            ("path,x1,y1\na.png,1\n", "line 2: expected 3 cells, as the header in line 1"),
            ("a.png,-.1,.2,.3,-.4\n", r"2 points in -2\.\.2, like fractions"),
            ("1.5 2 3.5 4 0 0 9 9 a.png\n", "line 1: .*WFLW"),
            ("a.png 0.1 0.2 0.3 0.4\n", "line 1: .*PFLD"),
            ("0 .5 .5 .2 .2 .1 .1 2\n", "line 1: .*YOLO"),
            ("<?xml version='1.0'?>\n<dataset><images></images></dataset>", "XML of dlib"),
            ("<annotations><image/></annotations>", "XML of CVAT"),
            ('{"shapes": []}', "JSON"),
            ("version: 1\nn_points: 2\n", r"a \.pts file"),
            ("scorer,,\nbodyparts,nose,nose\ncoords,x,y\n", "line 1: .*DeepLabCut"),
            ("image_name,scale,center_w,center_h,original_0_x,original_0_y\n", "HRNet"),
            ("track,frame_idx,instance.score,nose.x,nose.y\n", "SLEAP"),
            ("filename,region_shape_attributes\n", "VGG Image Annotator"),
            ("a.png,1,2\nb.png,1\n", "line 2: expected a path and 2 more.*2 cells, 'b.png,1'"),
            ("a.png,1,2\n\n,1,2\n", "line 3: expected a path and 2 more"),
            ("a.png,1,2\nb.png,x,2\n", "line 2: expected a number of pixels for x1.*'x'"),
            (NAMED + "a.png,1,2,3,4,5,6px\n", "line 2: .* for right_ear_y.*'6px'"),
            ("a.png,1,2\nb.png,1,nan\n", "line 2: .* for y1.*'nan'"),
            ("a.png,inf,2\n", "line 1: .* for x1.*'inf'"),
            ("a.png,1_0,2\n", "line 1: expected columns.*not a number.*'1_0'"),
            ("a.png,1,2\nb.png,1_0,2\n", "line 2: .*'1_0'"),
            ("a.png,1e300,2\n", "line 1: .*'1e300'"),
            ("a.png,1,2\nb.png,,2\n", "line 2: expected both x1 and y1.*'' and '2'"),
            ("a.png,1,2,-1,-1\n", "line 1: expected empty cells .*-1 for x2 and y2"),
            ("a.png,.1,.2,.3,.4\nb.png,0,1,.2,.2\n", "4 points in 0..1, like fractions"),
            ("a.png,5,6,1,7,8,2\nb.png,5,6,0,7,8,2\n", "as visibilities are.*header"),
            ("a.png,5,6,.9,7,8,.95\nb.png,5,6,1,7,8,0\n", "in 0..1, as visibilities are"),
            ("path,x1,x1,y1\n", "line 1: expected each column once.*'x1'"),
            ("path,x1,y1,who\na.png,1,2,me\n", "line 1: expected columns.*'who'"),
            ("path,x1,y1,a_x\n", "line 1: expected x and y of 'a'. Received: x"),
            ("path,x1,y1,v2\n", "line 1: expected x and y of 'point_2'. Received: visible"),
            ("path,box_x0,box_y0,box_x1,box_y1\n", "line 1: expected columns of points"),
            ("path,x1,y1,box_x0\n", "line 1: expected all of box_x0,box_y0.*Received: box_x0"),
            ("path,x1,y1,v1\na.png,1,2,3\n", "line 2: expected 0, 1 or 2 for v1. Received: 3"),
            ("path,x1,y1,v1\na.png,,,1\n", "line 2: expected a position .* v1 1 and empty x1"),
            (
                "path,x1,y1,box_x0,box_y0,box_x1,box_y1\na.png,1,2,5,5,5,9\n",
                "line 2: expected a box with x0 < x1 .*'5,5,5,9'",
            ),
            (
                "path,x1,y1,box_x0,box_y0,box_x1,box_y1\na.png,1,2,5,5,,9\n",
                "line 2: expected a box with x0 < x1 .*'5,5,,9'",
            ),
            ('a.png,1,2\n"b.png,1,2\n', "line 2: no CSV: unexpected end"),
            ('a.png,1,2\n"b"x,1,2\n', "line 2: no CSV: ',' expected"),
            ("a.png,1," + "1" * 200_000, "line 1: no CSV: field larger"),
            (b"a\xff.png,1,2\n", "expected UTF-8 text.*0xff"),
            ("a.png,1,2\n".encode("utf-16"), "expected UTF-8 text"),
        ],
    )
    def test_malformed(self, read, text, message):
        with pytest.raises(KeypointError, match=r"some points\.csv.*" + message):
            read(text, crop_from="image")

    def test_box_that_is_needed(self, read):
        head = "path,x1,y1,x2,y2,box_x0,box_y0,box_x1,box_y1\n"
        lines = "a.png,1,2,3,4,0,0,9,9\nb.png,1,2,3,4,,,,\n"
        for text, line in ((head + lines, 3), ("a.png,1,2,3,4\n", 1)):
            with pytest.raises(KeypointError, match=f"line {line}: expected a box of the object"):
                croppable(read(text, crop_from="box"))

    def test_two_objects_of_a_whole_picture(self, read):
        found = read("a.png,1,2,3,4\nb.png,1,2,3,4\na.png,5,6,7,8\n", crop_from="image")
        with pytest.raises(
            ValueError, match=r"csv, line 3: .* one object.*a\.png, beside .* line 1"
        ):
            load_crops(found)

    def test_missing_pictures(self, tmp_path):
        path = tmp_path / "points.csv"
        path.write_text("a.png,1,2,3,4\nb.png,1,2,3,4\nb.png,1,2,3,4\nc.png,1,2,3,4\n")
        (tmp_path / "a.png").touch()
        with pytest.raises(FileNotFoundError, match=r"points\.csv, line 2: .*b\.png; 2 of 3 are"):
            read_csv(path)
        with pytest.raises(FileNotFoundError, match=r"none\.csv"):
            read_csv(tmp_path / "none.csv")


class TestScheme:
    SCHEME = schemes.Scheme("head", ("right_ear", "nose", "left_ear"), (2, 1, 0), edges=((0, 1),))

    def test_columns_go_by_name(self, read):
        found = read(NAMED + "a.png,1,2,3,4,5,6\n", scheme=self.SCHEME)
        assert found.scheme == self.SCHEME
        np.testing.assert_array_equal(found.landmarks, [[[5, 6], [1, 2], [3, 4]]])

    def test_in_any_case(self, read):
        found = read(NAMED.upper() + "a.png,1,2,3,4,5,6\n", scheme=self.SCHEME)
        assert found.scheme == self.SCHEME
        np.testing.assert_array_equal(found.landmarks, [[[5, 6], [1, 2], [3, 4]]])

    @pytest.mark.parametrize("names", [("1", "2"), ("2", "1"), ("point_2", "point_1")])
    def test_numbers_that_are_names(self, read, names):
        scheme = schemes.Scheme("pair", names)
        head = "x1,y1,x2,y2" if "_" in names[0] else "1_x,1_y,2_x,2_y"
        found = read(f"path,{head}\na.png,1,2,3,4\n", scheme=scheme)
        expected = [[1, 2], [3, 4]] if names[0] == "1" else [[3, 4], [1, 2]]
        np.testing.assert_array_equal(found.landmarks, [expected])

    def test_or_by_order(self, read):
        for head in ("", "path,x1,y1,x2,y2,x3,y3\n"):
            found = read(head + "a.png,1,2,3,4,5,6\n", scheme=self.SCHEME.to_config())
            assert found.scheme == self.SCHEME
            np.testing.assert_array_equal(found.landmarks, [[[1, 2], [3, 4], [5, 6]]])

    def test_crop_from_stands_before_it(self, read):
        found = read("a.png,1,2,3,4,5,6\n", scheme=self.SCHEME, crop_from="image")
        assert found.scheme.crop_from == "image" and found.scheme.edges == ((0, 1),)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a.png,1,2,3,4\n", "the 3 points of scheme 'head'. Received: 2"),
            (
                NAMED.replace("nose", "nase") + "a.png,1,2,3,4,5,6\n",
                "'head', with nose. Received: nase",
            ),
        ],
    )
    def test_other_points(self, read, text, message):
        with pytest.raises(KeypointError, match=r"some points\.csv: .*" + message):
            read(text, scheme=self.SCHEME)

    def test_five_points(self, read):
        """A face that hides one of them is cropped by its box."""
        scheme = schemes.Scheme("pair", ("a", "b"), five_points=((0,), (1,)))
        head = "path,x1,y1,x2,y2,box_x0,box_y0,box_x1,box_y1\n"
        found = read(head + "a.png,1,2,,,0,0,9,9\nb.png,1,2,,,,,,\n", scheme=scheme)
        assert len(croppable(found)) == 1


cells = st.one_of(st.none(), st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2))
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@settings(deadline=None)  # a busy disk takes any time
@given(
    points=st.integers(1, 5).flatmap(
        lambda k: st.lists(st.lists(cells, min_size=k, max_size=k), min_size=1, max_size=5)
    ),
    picture=names,
    header=st.booleans(),
)
@example(points=[[(0.0, -0.0), None]], picture='a",;\n.png', header=True)
def test_csv_round_trip(points, picture, header):
    """What Python's own writer writes is read back, to the last bit of float32."""
    values = np.array([[(NAN, NAN) if p is None else p for p in each] for each in points])
    known = np.isfinite(values).all(-1)
    if not known.any() or (values[known] == -1).all(1).any() or (abs(values[known]) <= 1).all():
        return
    k = values.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "p.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if header:
                writer.writerow(["path", *(f"p{i}_{axis}" for i in range(k) for axis in "xy")])
            for i, each in enumerate(points):
                line = [number for p in each for number in (("", "") if p is None else p)]
                writer.writerow([f"{i}/{picture}", *line])
        try:
            found = read_csv(path, crop_from="image", missing_ok=True)
        except KeypointError as error:
            known = ("as visibilities", "a header", "separated by", "like fractions", "the picture")
            assert not header and any(reason in str(error) for reason in known)
            return
    kept = known.any(1)
    np.testing.assert_array_equal(found.landmarks, values[kept].astype(np.float32))
    np.testing.assert_array_equal(found.visible, known[kept])
    expected = [pathlib.Path(folder, f"{i}/{picture}".strip()) for i in np.flatnonzero(kept)]
    assert list(found.paths) == expected


@settings(deadline=None)
@given(content=st.one_of(st.binary(max_size=80), st.text(',;\n"ab.x1_y-\ufeff\0 ', max_size=40)))
@example(content='a,"')
@example(content="a\0,1,2")
def test_any_csv_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "p.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            found = read_csv(path, crop_from="image", missing_ok=True)
        except KeypointError as error:
            assert "p.csv" in str(error)
        else:
            assert len(found) and found.visible.any(1).all()
