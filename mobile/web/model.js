// What a .tflite file of keras_lapkl says of itself, the crop that it wants, and its landmarks.
// Pictures are {width, height, data} with RGBA bytes; points are [x, y] with pixel centers at whole
// numbers from 0; squares are {x, y, side, angle} with their center, as in keras_lapkl/data/cropping.py;
// the angle, radians from the x axis to the y axis, is left out where it is 0.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { checkMetadata, parseMetadata } from "./rules.js";

const SIGNATURE = "serving_default";
const OUTPUTS = ["landmarks", "scale"];
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };
// The newest of keras_lapkl/tflite/metadata.py whose keys this file knows.
const SCHEMA = 1;
// How a crop is sampled, as keras_lapkl/data/cropping.py has it.
const MOST_SHRINK = 6;
const MOST_SAMPLES = 3;
const MAX_SAMPLED_SIDE = 4096;
// Mean scale, as a share of the crop's side, above which the landmarks are no face's, for files that
// do not say from when on they are lost. Medians of a model trained on 300-W: 0.015 on its faces
// (99 %: 0.022), 0.035 beside them (5 %: 0.029).
const LOST = 0.028;
// How a face is looked at again, as keras_lapkl/detection/looks.py has it. Around its square: right
// and down in its sides, ratio of its size, rotation; from how many looks it goes on; from which
// share of `lost`; how far apart the landmarks of two passes may lie to agree, in expected errors,
// and how many more passes there are at most until two do; and how much larger or smaller a square by the
// landmarks may be than that which they were found in. Stretched: at which shares of the pixels, and
// the fewest gray levels. Sharpened: the deviation of the Gaussian in sides of the crop, and how
// often its loss is added.
const ANGLES = [45, 90, 135, 180, 225, 270, 315].map((degrees) => (degrees * Math.PI) / 180);
const MOVES = [[0.5, 0, 1], [-0.5, 0, 1], [0, 0.5, 1], [0, -0.5, 1], [0, 0, 1.5]];
export const RINGS = [
  [...ANGLES.map((angle) => [0, 0, 1, angle]), ...MOVES.map((move) => [...move, 0])],
  MOVES.flatMap((move) => ANGLES.map((angle) => [...move, angle])),
];
export const KEPT = 2;
export const UNSURE = 0.78;
export const AGREED = 1;
export const MORE = 2;
export const RESIZED = 3;
export const ENDS = [0.01, 0.99];
export const NARROWEST = 8;
export const BLUR = 1 / 40;
export const SHARPNESS = 3;
/** Up to which a crop is not rotated, as mobile/localize.py has it. */
const UPRIGHT = (15 * Math.PI) / 180;
// Side of a square in the picture's pixels.
export const SMALLEST = 24;

let runtime;

/** LiteRT.js, loaded once; with more than one thread, its build with threads. */
async function loadRuntime(threads) {
  if (threads > 1 && !self.crossOriginIsolated) {
    throw new Error(
      "Browsers give threads to localhost and https alone. Open the page there, or without " +
        "?threads.",
    );
  }
  // Its log lines of all levels would be console errors.
  self.Module = { printErr: (line) => console[line.startsWith("ERROR") ? "error" : "debug"](line) };
  runtime ??= loadLiteRt("node_modules/@litertjs/core/wasm/", { threads: threads > 1 });
  try {
    await runtime;
  } catch (error) {
    throw new Error(
      "LiteRT.js does not start here. It needs a browser with WebAssembly allowed, and its " +
        `files: npm install --prefix mobile/web. (${error.message ?? error})`,
    );
  }
}

/** A localizer and the crop that it is right on, both from the bytes of its file. */
export class Localizer {
  static async load(bytes, name, threads = 1) {
    const metadata = readMetadata(bytes, name);
    const dtype = metadata.input.dtype ?? "float32";
    if (!(dtype in ARRAYS)) {
      throw new Error(
        `${name} takes ${dtype} images; LiteRT.js gives ${Object.keys(ARRAYS).join(" or ")}. ` +
          "Convert it with --input_dtype=uint8; of a file for microcontrollers take the int8 file " +
          "that it was cut from.",
      );
    }
    await loadRuntime(threads);
    let compiled;
    try {
      const cpuOptions = { numThreads: threads };
      compiled = await loadAndCompile(bytes, { accelerator: "wasm", cpuOptions });
    } catch (error) {
      const reason = error.message ?? error;
      throw new Error(`LiteRT.js can't run ${name}; is the file whole? (${reason})`);
    }
    const given = compiled.getOutputDetails().map((output) => output.name);
    if (compiled.key !== SIGNATURE || !OUTPUTS.every((output) => given.includes(output))) {
      compiled.delete();
      throw new Error(
        String(given) === "logits"
          ? `${name} is not a localizer: it gives no landmarks, but logits for a decoding of ` +
            "your own. Convert it without --no_decode."
          : `${name} is not a localizer: expected ${OUTPUTS.join(" and ")}. ` +
            `Received: ${given.join(", ")}. Convert it by lapkl convert.`,
      );
    }
    const expected = {
      image: [1, metadata.image_size, metadata.image_size, 3],
      landmarks: [metadata.num_landmarks, 2],
      scale: [metadata.num_landmarks, 2],
    };
    for (const { name: tensor, shape } of [
      ...compiled.getInputDetails(),
      ...compiled.getOutputDetails(),
    ]) {
      if (tensor in expected && String([...shape]) !== String(expected[tensor])) {
        compiled.delete();
        throw new Error(
          `${name} has metadata that do not fit it: expected ${tensor} of ` +
            `${expected[tensor].join("×")}. Received: ${[...shape].join("×")}. Convert it again.`,
        );
      }
    }
    const localizer = new Localizer(compiled, metadata, name, dtype);
    // The first run is several times as slow as the others.
    await localizer.run(new Uint8Array(3 * localizer.size ** 2));
    return localizer;
  }

  constructor(compiled, metadata, name, dtype) {
    Object.assign(this, { compiled, metadata, name, dtype, size: metadata.image_size });
  }

  delete() {
    this.compiled.delete();
  }

  /** Landmarks and scales in the pixels of a picture, of what a square of it shows. */
  async locate(picture, square, cutOut = cut, mirrored = false) {
    const crop = cutOut(picture, square, this.size);
    const start = performance.now();
    const mirrors = mirrored && this.metadata.scheme?.flip != null;
    const found = await (mirrors ? this.runMirrored(crop) : this.run(crop));
    const milliseconds = performance.now() - start;
    const pixel = square.side / this.size;
    const half = (this.size - 1) / 2;
    const [cos, sin] = [Math.cos(square.angle ?? 0), Math.sin(square.angle ?? 0)];
    const place = ([x, y]) => {
      const [right, down] = [pixel * (x - half), pixel * (y - half)];
      return [square.x + cos * right - sin * down, square.y + sin * right + cos * down];
    };
    const spread = mean(found.scale.flat()) / this.size;
    const { calibration } = this.metadata;
    const errors = calibration == null ? null : expectedErrors(calibration, found.scale);
    // In pixels of the crop: the same in those of the picture.
    const relative = errors === null ? Infinity : relativeError(found.landmarks, errors);
    return {
      landmarks: found.landmarks.map(place),
      // As standard deviations go with a rotation.
      scale: found.scale.map(([x, y]) => [
        pixel * Math.hypot(cos * x, sin * y),
        pixel * Math.hypot(sin * x, cos * y),
      ]),
      error: errors?.map((each) => pixel * each),
      spread,
      relative,
      lost: this.isLost({ spread, relative }),
      square,
      milliseconds,
    };
  }

  /** What is in a still picture, by so many passes from a square that need not be exact. */
  async locateFrom(picture, first, passes) {
    return this.lookAround(picture, first, await this.byPasses(picture, first, passes));
  }

  /** Whether landmarks are on no face; by their spread for files that do not say from when on. */
  isLost({ spread, relative }) {
    const { lost } = this.metadata.calibration ?? {};
    return !(lost == null ? spread < LOST : relative <= lost);
  }

  /** What is in a square, and from the second pass on in that by the landmarks before. */
  async byPasses(picture, first, passes, cutOut = cut) {
    const found = await this.locate(picture, first, cutOut);
    return this.goOn(picture, found, passes, cutOut);
  }

  /** What is found after all passes, from what the first found. */
  async goOn(picture, found, passes, cutOut) {
    const calibrated = this.metadata.calibration != null;
    const more = passes > 1 && calibrated ? MORE : 0;
    // Other crops than those by landmarks stay what they are.
    const most = this.isByPoints() ? passes + more : 1;
    for (let pass = 1; pass < most; pass++) {
      const square = this.byLandmarks(found);
      const ratio = (square?.side ?? 0) / found.square.side;
      const fits = 1 / RESIZED <= ratio && ratio <= RESIZED;
      const next = fits ? square : found.square;
      const after = await this.locate(picture, next, cutOut, calibrated && pass % 2 === 1);
      const [joined, agree] = calibrated ? this.join(found, after) : [after, false];
      found = joined;
      if (agree && pass >= passes - 1) break;
    }
    return found;
  }

  /** The later of two passes, with the mean of both if they agree, else with larger errors. */
  join(before, after) {
    const places = after.landmarks.map((place, i) => [before.landmarks[i], place]);
    const apart = places.map(([[x, y], [u, v]]) => Math.hypot(x - u, y - v));
    const error = mean(after.error);
    const agree = mean(apart) <= AGREED * error && error < Infinity;
    const landmarks = agree ? places.map(middle) : after.landmarks;
    const errors = agree ? after.error : after.error.map((each, i) => Math.max(each, apart[i]));
    const found = { ...after, landmarks, error: errors, relative: relativeError(landmarks, errors) };
    return [{ ...found, lost: this.isLost(found) }, agree];
  }

  /** The surest of what `locate` found in a square and of what is around it, if it was unsure. */
  async lookAround(picture, square, found, rings = RINGS) {
    const { calibration } = this.metadata;
    if (calibration?.lost == null || !this.isFace()) return found;
    const isSure = ({ relative }) => relative <= UNSURE * calibration.lost;
    if (isSure(found)) return found;
    const others = [];
    for (const cutOut of CUTS) {
      others.push(await this.byPasses(picture, square, 2, cutOut));
      if (isSure(others.at(-1))) return others.at(-1);
    }
    // In the other cuts faces that are rotated get worse.
    const cutOut = others[0].relative < found.relative ? CUTS[0] : cut;
    let best = others.reduce((one, other) => (other.relative < one.relative ? other : one), found);
    const shows = (square) => square.side > 0 && hasPixels(picture, square);
    for (const ring of rings) {
      const seen = [];
      for (const each of ring.map((look) => this.around(square, look)).filter(shows)) {
        seen.push(await this.locate(picture, each, cutOut));
      }
      seen.sort((one, other) => one.relative - other.relative);
      for (const first of seen.slice(0, KEPT)) {
        const after = await this.goOn(picture, first, 2, cutOut);
        if (after.relative < best.relative) best = after;
      }
      if (!best.lost) break;
    }
    return best;
  }

  /** The square of a look around another. */
  around({ x, y, side, angle = 0 }, [right, down, ratio, turn]) {
    const edge = side / this.metadata.crop_scale;
    const [cos, sin] = [edge * Math.cos(angle), edge * Math.sin(angle)];
    return {
      x: x + cos * right - sin * down,
      y: y + sin * right + cos * down,
      side: side * ratio,
      angle: angle + turn,
    };
  }

  /** Whether crops are cut by landmarks. */
  isByPoints() {
    const { crop_scale: cropScale, scheme } = this.metadata;
    return cropScale != null && (scheme?.crop_from ?? "points") === "points";
  }

  /** Whether crops are cut by a face's five points, which say what is up. */
  isFace() {
    const { scheme } = this.metadata;
    return this.isByPoints() && scheme?.five_points?.length === 5 && scheme.eye_corners != null;
  }

  /** Landmarks and scales in the pixels of one crop of RGB bytes. */
  async run(crop) {
    const [low, high] = this.metadata.input.range;
    const values = ARRAYS[this.dtype].from(crop, (byte) => low + (high - low) * (byte / 255));
    const image = new Tensor(values, [1, this.size, this.size, 3]);
    let outputs;
    try {
      outputs = await this.compiled.run({ image });
      return Object.fromEntries(OUTPUTS.map((name) => [name, pairs(outputs[name].toTypedArray())]));
    } finally {
      // The runtime's memory is not garbage collected.
      for (const tensor of [image, ...Object.values(outputs ?? {})]) tensor.delete();
    }
  }

  /** The same by the mirror image of the crop, mirrored back. */
  async runMirrored(crop) {
    const { size } = this;
    const { flip } = this.metadata.scheme;
    const mirror = crop.slice();
    for (let pixel = 0; pixel < size * size; pixel++) {
      const column = pixel % size;
      const from = 3 * (pixel - column + size - 1 - column);
      mirror.set(crop.subarray(from, from + 3), 3 * pixel);
    }
    const { landmarks, scale } = await this.run(mirror);
    return {
      landmarks: flip.map((i) => [size - 1 - landmarks[i][0], landmarks[i][1]]),
      scale: flip.map((i) => scale[i]),
    };
  }

  /** The square about a picture that is looked at as a whole; null where the rule is another. */
  wholePicture({ width, height }) {
    const { scheme, crop_scale: cropScale } = this.metadata;
    if (scheme?.crop_from !== "image") return null;
    const side = (cropScale ?? 1) * Math.max(width, height);
    return { x: (width - 1) / 2, y: (height - 1) / 2, side };
  }

  /** The square that the model's crop rule makes of landmarks; null if it makes none of them. */
  square(landmarks) {
    if (!this.isByPoints()) return null;
    const { crop_scale: cropScale, scheme } = this.metadata;
    const groups = scheme?.five_points.length ? scheme.five_points : landmarks.map((_, i) => [i]);
    const points = groups.map((group) => middle(group.map((i) => landmarks[i])));
    return box(points, cropScale);
  }

  /** The same, rotated as a face is, as `keras_lapkl.data.cropping.rotated_square` has it. */
  faceSquare(landmarks) {
    const points = this.metadata.scheme.five_points.map((group) =>
      middle(group.map((i) => landmarks[i])),
    );
    const [right, left, , ...mouth] = points;
    const down = [0, 1].map((i) => (mouth[0][i] + mouth[1][i] - right[i] - left[i]) / 2);
    const angle = Math.atan2(left[1] - right[1] - down[0], left[0] - right[0] + down[1]);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const upright = points.map(([x, y]) => [cos * x + sin * y, cos * y - sin * x]);
    const { x, y, side } = box(upright, this.metadata.crop_scale);
    return { x: cos * x - sin * y, y: sin * x + cos * y, side, angle };
  }

  /** The square by what `locate` found, rotated as a face is; null if the rule makes none. */
  byLandmarks({ landmarks, square: last }) {
    if (!this.isFace()) return this.square(landmarks);
    const turned = this.faceSquare(landmarks);
    return last.angle || Math.abs(turned.angle) > UPRIGHT ? turned : this.square(landmarks);
  }

  /** The square of the next frame, after what `locate` found in one; null where that is no face. */
  next(found, { width, height }) {
    const square = this.byLandmarks(found);
    if (square === null || found.lost || !(square.side >= SMALLEST)) return null;
    const { x, y } = square;
    return x >= 0 && y >= 0 && x < width && y < height ? square : null;
  }
}

/** The square about points, its side so many times their longer edge. */
function box(points, times) {
  const [x, y] = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return { low: Math.min(...values), high: Math.max(...values) };
  });
  const side = times * Math.max(x.high - x.low, y.high - y.low);
  return { x: (x.low + x.high) / 2, y: (y.low + y.high) / 2, side };
}

/** Whether a square has a pixel of a picture, as keras_lapkl/data/cropping.py has it. */
export function hasPixels({ width, height }, { x, y, side, angle = 0 }) {
  const reach = (side / 2) * (Math.abs(Math.cos(angle)) + Math.abs(Math.sin(angle))) + 0.5;
  return x > -reach && y > -reach && x < width - 1 + reach && y < height - 1 + reach;
}

/**
 * Mean expected error of a face by how far its landmarks spread about their mean, as
 * keras_lapkl/confidence.py has it.
 */
export function relativeError(landmarks, errors) {
  const far = reach(landmarks);
  return far > 0 ? mean(errors) / far : Infinity;
}

/** Expected distances from the true points, in pixels of the crop, as `Calibration.error` has it. */
export function expectedErrors(calibration, scale) {
  const { scales, errors, factors } = calibration;
  const last = scales.length - 1;
  const curve = (value) => {
    if (value > scales[last]) return (errors[last] * value) / Math.max(scales[last], 1e-9);
    const after = Math.max(scales.findIndex((knot) => value <= knot), 0);
    if (after === 0) return errors[0];
    const share = (value - scales[after - 1]) / (scales[after] - scales[after - 1]);
    return errors[after - 1] + share * (errors[after] - errors[after - 1]);
  };
  return scale.map((each, i) => factors[i] * curve(mean(each)));
}

/** How far landmarks spread about their mean: the root of the mean squared distance. */
function reach(landmarks) {
  const center = middle(landmarks);
  const squares = landmarks.map(([x, y]) => (x - center[0]) ** 2 + (y - center[1]) ** 2);
  return Math.sqrt(mean(squares));
}

/** The mean of points. */
function middle(points) {
  return [0, 1].map((axis) => mean(points.map((point) => point[axis])));
}

/** A crop of RGB bytes whose channels each fill the gray levels, but for what is black in all. */
export function stretched(crop) {
  const counts = [0, 1, 2].map(() => new Uint32Array(256));
  let seen = 0;
  for (let i = 0; i < crop.length; i += 3) {
    if (!(crop[i] || crop[i + 1] || crop[i + 2])) continue;
    seen++;
    for (let channel = 0; channel < 3; channel++) counts[channel][crop[i + channel]]++;
  }
  if (!seen) return crop;
  const levels = counts.map((of) => {
    const [low, high] = ENDS.map((end) => {
      let left = Math.floor(end * (seen - 1) + 0.5);
      return of.findIndex((count) => (left -= count) < 0);
    });
    const times = 255 / Math.max(high - low, NARROWEST);
    const stretch = (_, value) => Math.min(Math.max((value - low) * times, 0), 255);
    return Uint8Array.from({ length: 256 }, (...at) => Math.floor(stretch(...at) + 0.5));
  });
  return crop.map((value, i) => levels[i % 3][value]);
}

/** A square crop of RGB bytes with its edges made steeper: what a Gaussian takes away is added again. */
export function sharpened(crop) {
  const size = Math.sqrt(crop.length / 3);
  const deviation = BLUR * size;
  const reach = Math.ceil(3 * deviation);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) =>
    Math.exp(-0.5 * ((i - reach) / deviation) ** 2),
  );
  const total = weights.reduce((sum, weight) => sum + weight);
  const blur = (values, index) =>
    Float64Array.from(values, (_, at) => {
      const [row, column, channel] = [Math.floor(at / 3 / size), Math.floor(at / 3) % size, at % 3];
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += weights[i] * values[3 * index(row, column, i - reach) + channel];
      }
      return sum / total;
    });
  const inside = (place) => Math.min(Math.max(place, 0), size - 1);
  const along = blur(crop, (row, column, step) => row * size + inside(column + step));
  const blurred = blur(along, (row, column, step) => inside(row + step) * size + column);
  return Uint8ClampedArray.from(crop, (value, i) => value + SHARPNESS * (value - blurred[i]));
}

const cutStretched = (...where) => stretched(cut(...where));
/** Other ways to cut out a square of which the model is unsure. */
const CUTS = [
  cutStretched,
  (...where) => stretched(cut(...where, true)),
  (...where) => sharpened(cutStretched(...where)),
];

/**
 * The size by size RGB bytes in a square of a picture, as keras_lapkl.data.cropping.warp_crop gives
 * them: the mean over each pixel of the crop of 3 by 3 bilinear samples or fewer, from a copy that is
 * reduced first where the picture has more than 6 pixels to one of the crop, and the border's pixels
 * outside. How a canvas shrinks differs between browsers. Without specks it is that of the medians of
 * each 3 by 3 pixels.
 */
export function cut(whole, place, size, despeckle = false) {
  const [picture, square] = reduced(whole, place, size, despeckle);
  if (square.angle) return cutRotated(picture, square, size);
  const { width, height, data } = picture;
  const columns = taps(square.x - square.side / 2, square.side, size, width);
  const rows = taps(square.y - square.side / 2, square.side, size, height);
  const narrowed = new Map();
  const narrow = (row) => {
    if (!narrowed.has(row)) {
      narrowed.set(row, weighted(columns, (i, channel) => data[4 * (row * width + i) + channel]));
    }
    return narrowed.get(row);
  };
  const crop = new Uint8ClampedArray(3 * size * size);
  rows.forEach((row, y) => {
    const line = new Float64Array(3 * size);
    for (const [i, weight] of row) narrow(i).forEach((value, at) => (line[at] += weight * value));
    crop.set(line, 3 * size * y);
  });
  return crop;
}

/**
 * What a crop needs of a picture, reduced by a power of two, and the square there. The reduced
 * pixels are means of factor by factor pixels from the picture's first on, so that they do not
 * depend on the square. The picture is filled up by its border's pixels.
 */
function reduced(picture, square, size, despeckle) {
  const { width, height, data } = picture;
  let factor = 1;
  while (square.side > MOST_SHRINK * size * factor && 2 * factor <= Math.min(width, height)) {
    factor *= 2;
  }
  if (factor === 1 && !despeckle) return [picture, square];
  const angle = square.angle ?? 0;
  const reach = (square.side / factor / 2) * (Math.abs(Math.cos(angle)) + Math.abs(Math.sin(angle)));
  const seen = (at, length) => {
    const center = (at + 0.5) / factor - 0.5;
    const count = Math.ceil(length / factor);
    const first = Math.min(Math.max(Math.floor(center - reach) - 1, 0), count - 1);
    const end = Math.min(Math.max(Math.floor(center + reach) + 3, first + 1), count);
    return { center: center - first, first, count: end - first };
  };
  const columns = seen(square.x, width);
  const rows = seen(square.y, height);
  const means = new Float64Array(4 * columns.count * rows.count);
  for (let row = 0; row < factor * rows.count; row++) {
    const line = 4 * width * Math.min(factor * rows.first + row, height - 1);
    for (let column = 0; column < columns.count; column++) {
      const at = 4 * (columns.count * Math.floor(row / factor) + column);
      let [red, green, blue] = [0, 0, 0];
      for (let step = 0; step < factor; step++) {
        const from = line + 4 * Math.min(factor * (columns.first + column) + step, width - 1);
        red += data[from];
        green += data[from + 1];
        blue += data[from + 2];
      }
      means[at] += red;
      means[at + 1] += green;
      means[at + 2] += blue;
    }
  }
  for (let at = 0; at < means.length; at++) means[at] /= factor ** 2;
  return [
    {
      width: columns.count,
      height: rows.count,
      data: despeckle ? medians(means, columns.count, rows.count) : means,
    },
    { ...square, x: columns.center, y: rows.center, side: square.side / factor },
  ];
}

/** The median of each 3 by 3 RGBA pixels, by those of sorted columns; the border is repeated. */
function medians(data, width, height) {
  const found = new Float64Array(data.length);
  const [low, middle, high] = [0, 1, 2].map(() => new Float64Array(4 * width));
  for (let row = 0; row < height; row++) {
    const [above, at, below] = [Math.max(row - 1, 0), row, Math.min(row + 1, height - 1)].map(
      (each) => 4 * width * each,
    );
    for (let i = 0; i < 4 * width; i++) {
      const [a, b, c] = [data[above + i], data[at + i], data[below + i]];
      low[i] = Math.min(a, b, c);
      middle[i] = median(a, b, c);
      high[i] = Math.max(a, b, c);
    }
    for (let i = 0; i < 4 * width; i++) {
      const before = i < 4 ? i : i - 4;
      const after = i + 4 < 4 * width ? i + 4 : i;
      found[at + i] = median(
        Math.max(low[before], low[i], low[after]),
        median(middle[before], middle[i], middle[after]),
        Math.min(high[before], high[i], high[after]),
      );
    }
  }
  return found;
}

function median(a, b, c) {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

/** As `cut`, of a square that is rotated. */
function cutRotated({ width, height, data }, { x, y, side, angle }, size) {
  const samples = samplesIn(side, size);
  const step = side / (samples * size);
  const [cos, sin] = [step * Math.cos(angle), step * Math.sin(angle)];
  const middle = (samples * size - 1) / 2;
  const clamp = (value, last) => Math.min(Math.max(value, 0), last);
  const sums = new Float64Array(3 * size * size);
  for (let row = 0; row < samples * size; row++) {
    for (let column = 0; column < samples * size; column++) {
      const [right, down] = [column - middle, row - middle];
      const px = clamp(x + cos * right - sin * down, width - 1);
      const py = clamp(y + sin * right + cos * down, height - 1);
      const [left, top] = [Math.floor(px), Math.floor(py)];
      const next = Math.min(left + 1, width - 1);
      const upper = 4 * top * width;
      const lower = 4 * Math.min(top + 1, height - 1) * width;
      const [fx, fy] = [px - left, py - top];
      const at = 3 * (Math.floor(row / samples) * size + Math.floor(column / samples));
      for (let channel = 0; channel < 3; channel++) {
        const above = (1 - fx) * data[upper + 4 * left + channel] + fx * data[upper + 4 * next + channel];
        const below = (1 - fx) * data[lower + 4 * left + channel] + fx * data[lower + 4 * next + channel];
        sums[at + channel] += (1 - fy) * above + fy * below;
      }
    }
  }
  return Uint8ClampedArray.from(sums, (sum) => sum / samples ** 2);
}

/** Samples along a pixel of a crop. */
function samplesIn(side, size) {
  const most = Math.min(MOST_SAMPLES, Math.floor(MAX_SAMPLED_SIDE / size));
  return Math.max(1, Math.min(Math.ceil(side / size), most));
}

/** A line of RGB values, each a sum over its taps. */
function weighted(columns, value) {
  const line = new Float64Array(3 * columns.length);
  for (let x = 0; x < columns.length; x++) {
    const column = columns[x];
    for (let tap = 0; tap < column.length; tap++) {
      const [i, weight] = column[tap];
      for (let channel = 0; channel < 3; channel++) {
        line[3 * x + channel] += weight * value(i, channel);
      }
    }
  }
  return line;
}

/** For each pixel of a crop's row, [index, weight] of the pixels of the picture's. */
function taps(first, side, size, count) {
  const samples = samplesIn(side, size);
  return Array.from({ length: size }, (_, pixel) => {
    const weights = new Map();
    const add = (i, weight) => weights.set(i, (weights.get(i) ?? 0) + weight / samples);
    for (let sample = 0; sample < samples; sample++) {
      const place = first + ((pixel * samples + sample + 0.5) * side) / (samples * size);
      const at = Math.min(Math.max(place, 0), count - 1);
      const before = Math.floor(at);
      add(before, 1 - (at - before));
      if (at > before) add(before + 1, at - before);
    }
    return [...weights];
  });
}

/**
 * The text of JSON that keras_lapkl put into the bytes of a .tflite file. Its tables are walked instead of
 * searching the bytes for the JSON: the walk knows where the text ends, takes nothing else for it,
 * and a damaged file ends in DataView's RangeError.
 */
function findMetadata(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (start, length) =>
    new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(start, start + length));
  if (bytes.length < 8 || identifier(bytes) !== "TFL3") {
    throw new Error(
      `${name} is not a TFLite file: bytes 4 to 7 are not TFL3. Expected a file by lapkl convert.`,
    );
  }
  const follow = (position) => position + view.getUint32(position, true);
  // Where the field with this number in TFLite's schema is; 0 if the table leaves it out.
  const field = (table, index) => {
    const directory = table - view.getInt32(table, true);
    const slot = 4 + 2 * index;
    const known = slot < view.getUint16(directory, true);
    const place = known ? view.getUint16(directory + slot, true) : 0;
    return place && table + place;
  };
  const vector = (position) => {
    if (!position) return [0, 0];
    const start = follow(position);
    return [start + 4, view.getUint32(start, true)];
  };
  try {
    const model = follow(0);
    const [buffers] = vector(field(model, 4));
    const [entries, count] = vector(field(model, 6));
    for (let i = 0; i < count; i++) {
      const entry = follow(entries + 4 * i);
      if (text(...vector(field(entry, 0))) !== "keras_lapkl") continue;
      const index = view.getUint32(field(entry, 1), true);
      return text(...vector(field(follow(buffers + 4 * index), 0)));
    }
  } catch (error) {
    throw new Error(`${name} is a damaged TFLite file; convert it again. (${error.message})`);
  }
  throw new Error(
    `${name} says nothing of crop and landmarks. Expected a file by lapkl convert.`,
  );
}

/** What keras_lapkl put into the bytes of a .tflite file, with the keys of SCHEMA. */
export function readMetadata(bytes, name) {
  const text = findMetadata(bytes, name);
  let data;
  let newer = false;
  try {
    data = parseMetadata(text);
    newer = Number.isInteger(data?.schema) && data.schema > SCHEMA;
    if (!newer) checkMetadata(data);
  } catch (error) {
    throw new Error(`${name} has metadata that break a rule: ${error.message}. Convert it again.`);
  }
  if (newer) {
    throw new Error(
      `${name} has metadata of schema ${data.schema}; this page reads up to schema ${SCHEMA}. ` +
        "Serve the page of a newer keras_lapkl.",
    );
  }
  // Files without a schema number have British spelling.
  const { licence, ...rest } = data;
  return licence === undefined ? data : { license: licence, ...rest };
}

function identifier(bytes) {
  return String.fromCharCode(...bytes.subarray(4, 8));
}

function pairs(values) {
  return Array.from({ length: values.length / 2 }, (_, i) => [values[2 * i], values[2 * i + 1]]);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
