/* Landmarks from what a model gives on a microcontroller. C99 and C++11; nothing is allocated. */
#ifndef LAPKL_LANDMARKS_H
#define LAPKL_LANDMARKS_H

#include <math.h>
#include <stdint.h>

#if defined(__cplusplus)
#define LAPKL_ALIGNED alignas(16)
#elif defined(__GNUC__) || defined(__clang__)
#define LAPKL_ALIGNED __attribute__((aligned(16)))
#else
#define LAPKL_ALIGNED _Alignas(16)
#endif

#define LAPKL_MAX_STEPS 256
#define LAPKL_MIN_SCALE 1e-3f

/* The weight of pixel `i` of an axis, not yet divided by the sum: between two logits the value is
   interpolated, a quarter of the way to the neighbor. `step` is that of the logits times beta. */
static inline float lapkl_weight(const int8_t *logits, int steps, int stride, int i, int most,
                                 float step) {
  const int at = i / 2;
  int beside = at + (i % 2 ? 1 : -1);
  if (beside < 0) beside = 0;
  if (beside >= steps) beside = steps - 1;
  return expf(0.25f * step *
              (float)(3 * logits[at * stride] + logits[beside * stride] - 4 * most));
}

/* Location and scale of one landmark on one axis, in pixels.
   logits: `steps` values, `stride` apart, of a step `step` (the tensor's scale times beta). */
static inline void lapkl_decode_axis(const int8_t *logits, int steps, int stride, float step,
                                     float *location, float *scale) {
  float weights[2 * LAPKL_MAX_STEPS];
  float sum = 0.0f, mean = 0.0f, spread = 0.0f;
  int i, most = -128;
  if (steps > LAPKL_MAX_STEPS) steps = LAPKL_MAX_STEPS;
  for (i = 0; i < steps; ++i) {
    if (logits[i * stride] > most) most = logits[i * stride];
  }
  for (i = 0; i < 2 * steps; ++i) {
    weights[i] = lapkl_weight(logits, steps, stride, i, most, step);
    sum += weights[i];
    mean += weights[i] * (float)i;
  }
  mean /= sum;
  for (i = 0; i < 2 * steps; ++i) spread += weights[i] * fabsf((float)i - mean);
  *location = mean;
  *scale = spread / sum > LAPKL_MIN_SCALE ? spread / sum : LAPKL_MIN_SCALE;
}

/* Landmarks and scales of a face, [count][2] in pixels of the image, x first.
   columns, rows: the model's outputs, [steps][count]; column_step, row_step: their scales times
   beta. Their zero points do not matter. */
static inline void lapkl_decode(const int8_t *columns, const int8_t *rows, int steps, int count,
                                float column_step, float row_step, float *landmarks,
                                float *scales) {
  int k;
  for (k = 0; k < count; ++k) {
    lapkl_decode_axis(columns + k, steps, count, column_step, landmarks + 2 * k, scales + 2 * k);
    lapkl_decode_axis(rows + k, steps, count, row_step, landmarks + 2 * k + 1,
                      scales + 2 * k + 1);
  }
}

#endif /* LAPKL_LANDMARKS_H */
