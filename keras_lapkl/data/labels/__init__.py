"""Labels of other tools, read into one structure and written as keypoints in CSV.

Each format has a module with `matches(source)` and `read(source)`; `formats.FORMATS` lists them.
"""
