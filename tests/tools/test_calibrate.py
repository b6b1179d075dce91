def test_an_output_that_is_no_model(run_tool, tmp_path):
    flags = ("--model=fpn-sixteenth-300w", "--output=new.h5")
    done = run_tool("tools/calibrate.py", *flags, check=False, cwd=tmp_path)
    assert done.returncode == 1 and not list(tmp_path.iterdir())
    assert "--output must end in .keras or .tflite. Received: new.h5" in done.stderr
