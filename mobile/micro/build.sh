#!/usr/bin/env bash
# Builds mobile/micro/main.cc for this PC with TFLite Micro's own sources and reference kernels:
#
#     git clone https://github.com/tensorflow/tflite-micro
#     git clone --branch v25.9.23 https://github.com/google/flatbuffers
#     git clone https://github.com/google/gemmlowp
#     git clone https://github.com/google/ruy
#     lapkl micro fpn-sixteenth-micro --output=face.h
#     mobile/micro/build.sh SOURCES face.h PROGRAM      # SOURCES: the folder of the four clones
#
# The objects stay in SOURCES/objects, so that a second header takes seconds. CXX names another
# compiler.
set -euo pipefail
[ $# -eq 3 ] || { echo "error: expected SOURCES face.h PROGRAM" >&2; exit 1; }
here=$(realpath "$(dirname "$0")")
sources=$(realpath "$1")
header=$(realpath "$2")
program=$(realpath -m "$3")
cxx=${CXX:-g++}
[ "$(basename "$header")" = face.h ] || { echo "error: the header must be named face.h" >&2; exit 1; }
for part in tflite-micro flatbuffers gemmlowp ruy; do
  [ -d "$sources/$part" ] || { echo "error: $sources has no folder $part" >&2; exit 1; }
done

kernels="add add_common concatenation conv conv_common depthwise_conv depthwise_conv_common
  kernel_util mul mul_common pooling pooling_common resize_bilinear micro_tensor_utils"
flags=(-std=c++17 -O1 -fno-exceptions -fno-rtti -DTF_LITE_STATIC_MEMORY -I. -I../flatbuffers/include
  -I../gemmlowp -I../ruy)
mkdir -p "$sources/objects"
cd "$sources/tflite-micro"
{
  find tensorflow/lite/micro tensorflow/lite/micro/{arena_allocator,memory_planner,tflite_bridge} \
    tensorflow/lite/{core/api,core/c,kernels,kernels/internal,kernels/internal/reference} \
    tensorflow/compiler/mlir/lite/{core/api,schema} -maxdepth 1 -name '*.cc' |
    grep -Ev '_test|test_helper|recording|mock|fake' | sort -u
  for kernel in $kernels; do echo "tensorflow/lite/micro/kernels/$kernel.cc"; done
} | while read -r file; do
  object=$sources/objects/${file//\//_}.o
  [ "$object" -nt "$file" ] || "$cxx" "${flags[@]}" -c "$file" -o "$object"
done
"$cxx" "${flags[@]}" -I"$(dirname "$header")" "$here/main.cc" "$sources"/objects/*.o -o "$program"
