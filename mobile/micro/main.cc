// Landmarks of a face on a microcontroller, by TFLite Micro. The model and the decoding are in
// face.h:
//
//   lapkl micro fpn-sixteenth-micro --output=face.h
//
// As it is, it runs on a PC: raw RGB of 80x80 faces on stdin, a line for each landmark on stdout.
// On a board, `Capture` takes the crop from the camera and `Show` does what is to be done with it.
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "face.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {

constexpr size_t kImageBytes = size_t{3} * FACE_IMAGE_SIZE * FACE_IMAGE_SIZE;

alignas(16) uint8_t arena[FACE_ARENA_BYTES];
float landmarks[FACE_LANDMARKS][2];
float scales[FACE_LANDMARKS][2];

// Fills an image with a crop, RGB, row by row: each byte less 128. False if there is no more.
bool Capture(int8_t* image) {
  uint8_t* bytes = reinterpret_cast<uint8_t*>(image);
  if (fread(bytes, 1, kImageBytes, stdin) != kImageBytes) return false;
  for (size_t i = 0; i < kImageBytes; ++i) image[i] = static_cast<int8_t>(bytes[i] - 128);
  return true;
}

// In pixels of the crop, x first; a scale is the mean distance that is expected along an axis.
void Show() {
  for (int k = 0; k < FACE_LANDMARKS; ++k) {
    printf("%d %.4f %.4f %.4f %.4f\n", k, static_cast<double>(landmarks[k][0]),
           static_cast<double>(landmarks[k][1]), static_cast<double>(scales[k][0]),
           static_cast<double>(scales[k][1]));
  }
}

}  // namespace

int main() {
  tflite::InitializeTarget();

  tflite::MicroMutableOpResolver<FACE_OPERATORS> resolver;
  if (resolver.AddAdd() != kTfLiteOk || resolver.AddConcatenation() != kTfLiteOk ||
      resolver.AddConv2D() != kTfLiteOk || resolver.AddDepthwiseConv2D() != kTfLiteOk ||
      resolver.AddMaxPool2D() != kTfLiteOk || resolver.AddMul() != kTfLiteOk ||
      resolver.AddResizeBilinear() != kTfLiteOk) {
    return 1;
  }

  tflite::MicroInterpreter interpreter(tflite::GetModel(face_model), resolver, arena,
                                       sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;
  fprintf(stderr, "arena: %zu of %zu bytes\n", interpreter.arena_used_bytes(), sizeof(arena));

  // The arena is used again and again: the image is written before each run.
  while (Capture(interpreter.input(0)->data.int8)) {
    if (interpreter.Invoke() != kTfLiteOk) return 1;
    face_decode(interpreter.output(0)->data.int8, interpreter.output(1)->data.int8,
                &landmarks[0][0], &scales[0][0]);
    Show();
  }
  return 0;
}
