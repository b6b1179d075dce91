// The page: a model, a picture or the camera's, a square guide, and the landmarks drawn on it all.
//
// ?threads=2 runs the model by two threads.
//
// `window.keras_lapkl` is for tests and the console: `found`, what `Localizer.locate` gave last;
// `looks`, how often it did; `guide`, the user's square; `tracking`, whether the next square comes
// from landmarks; and `timing`, medians in milliseconds by "Time it".

import { Localizer } from "./model.js";

// Mean scale, as a share of the crop's side, above which the landmarks are no face's. Medians of a
// model trained on 300-W: 0.015 on its faces (99 %: 0.022), 0.035 beside them (5 %: 0.029).
const LOST = 0.028;
// A photo is shrunk to this, which is still over ten pixels for each of a crop's.
const MAX_PHOTO_SIDE = 1280;
const TIMED = 100;
const HANDLE = 28;
const SMALLEST = 24;

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const video = element("video");
const context = canvas.getContext("2d");
const pixels = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

const threads = Math.max(1, Number(new URLSearchParams(location.search).get("threads")) || 1);
const state = { localizer: null, picture: null, guide: null, square: null, rounds: 1 };
const shared = { found: null, looks: 0, tracking: false, timing: null };
Object.defineProperty(shared, "guide", { get: () => state.guide });
window.keras_lapkl = shared;

// ---- Jobs: one at a time, since a model must not be replaced while it runs

let turn = Promise.resolve();

function inTurn(job) {
  turn = turn.then(job).catch((error) => tell(error.message, "error"));
  return turn;
}

let waiting = false;

/** Looks at a still picture again; several wishes meanwhile are one. */
function refresh() {
  if (waiting) return;
  waiting = true;
  inTurn(() => {
    waiting = false;
    return lookAtStill();
  });
}

// ---- Looking

/** Finds the landmarks, and where the crop rule would look next. */
async function look(square) {
  const found = await state.localizer.locate(state.picture, square);
  const next = state.localizer.square(found.landmarks);
  const trusted = found.spread < LOST && next?.side >= SMALLEST && contains(state.picture, next);
  Object.assign(shared, { found, looks: shared.looks + 1, tracking: Boolean(trusted) });
  state.square = trusted ? next : state.guide;
}

async function lookAtStill() {
  if (state.localizer && state.picture) {
    state.square = state.guide;
    for (let round = 0; round < state.rounds; round++) await look(state.square);
    element("readout").textContent = `${milliseconds(shared.found.milliseconds)} a crop`;
  }
  draw();
}

function contains({ width, height }, { x, y }) {
  return x >= 0 && y >= 0 && x < width && y < height;
}

/** Times model and whole frames on what is shown. */
async function time() {
  if (!shared.found) throw new Error("Choose a model and a picture first.");
  tell("Timing…");
  const { square } = shared.found;
  const model = [];
  const whole = [];
  for (let i = 0; i < TIMED; i++) {
    const start = performance.now();
    await look(square);
    draw();
    whole.push(performance.now() - start);
    model.push(shared.found.milliseconds);
  }
  shared.timing = { model: median(model), frame: median(whole), runs: TIMED, threads };
  const { model: each, frame } = shared.timing;
  tell(
    `${milliseconds(each)} a crop, ${milliseconds(frame)} with cutting and drawing: ` +
      `${Math.round(1000 / frame)} frames a second (medians of ${TIMED})`,
  );
}

// ---- Models

async function loadModel(bytes, name) {
  const localizer = await Localizer.load(bytes, name, threads);
  state.localizer?.delete();
  state.localizer = localizer;
  describe(localizer);
  tell("");
  if (!video.srcObject) await lookAtStill();
}

function describe({ metadata, name, dtype, size }) {
  const facts = {
    Model: `${name}, ${metadata.mode}`,
    Input: `${size}×${size}, ${dtype}, ${metadata.input.range.join(" to ")}`,
    Landmarks: `${metadata.num_landmarks}, ${metadata.scheme?.name ?? "no scheme"}`,
    "Crop rule": metadata.crop_scale
      ? `${metadata.crop_scale} times the longer edge of the five points`
      : "none: only the guide is looked at",
    Threads: threads,
    "Trained on": metadata.trained_on ?? "unknown",
    Licence: metadata.licence ?? "unknown",
  };
  const entries = Object.entries(facts).flatMap(([term, fact]) => [
    Object.assign(document.createElement("dt"), { textContent: term }),
    Object.assign(document.createElement("dd"), { textContent: fact }),
  ]);
  element("about").replaceChildren(...entries);
}

// ---- Pictures

/** Takes the pixels of an image, a bitmap or a video's frame. */
function grab(source, width, height) {
  Object.assign(pixels.canvas, { width, height });
  pixels.drawImage(source, 0, 0, width, height);
  state.picture = pixels.getImageData(0, 0, width, height);
}

/** The square that is `share` of a picture's shorter side, at its middle. */
function middle({ width, height }, share) {
  return { x: (width - 1) / 2, y: (height - 1) / 2, side: share * Math.min(width, height) };
}

async function showFace() {
  const response = await fetch("face.png");
  const bitmap = await createImageBitmap(await response.blob());
  grab(bitmap, bitmap.width, bitmap.height);
  // It is a crop already, so the model gets its very pixels.
  Object.assign(state, { guide: middle(state.picture, 1), rounds: 1 });
  tell("");
  await lookAtStill();
}

async function showPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no picture that this browser reads; try a JPEG or a PNG.`);
  }
  const shrink = Math.min(1, MAX_PHOTO_SIDE / Math.max(bitmap.width, bitmap.height));
  pixels.imageSmoothingQuality = "high";
  grab(bitmap, Math.round(shrink * bitmap.width), Math.round(shrink * bitmap.height));
  // The second look is by the crop rule, so that the guide need not be exact.
  Object.assign(state, { guide: middle(state.picture, 0.7), rounds: 2 });
  tell("Drag the square until the head fills it; its corners resize it.");
  await lookAtStill();
}

// ---- Camera

async function startCamera() {
  if (!navigator.mediaDevices) {
    throw new Error(
      "This browser gives the camera to localhost and https alone. For a phone on USB: " +
        "adb reverse tcp:8000 tcp:8000, then open http://localhost:8000/ on it.",
    );
  }
  let stream;
  try {
    const wish = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wish });
  } catch (error) {
    throw new Error(
      error.name === "NotAllowedError"
        ? "The camera was refused. Allow it in the browser's settings of this page, or use a photo."
        : `There is no camera to use; use a photo. (${error.message})`,
    );
  }
  video.srcObject = stream;
  await video.play();
  element("camera").setAttribute("aria-pressed", "true");
  Object.assign(state, { guide: null, square: null });
  tell("Put your head into the dashed square; the solid one then follows it.");
  let last = null;
  const next = (now) => {
    if (video.srcObject !== stream) return;
    inTurn(() => lookAtFrame(last === null ? null : now - last)).then(() => {
      last = now;
      video.requestVideoFrameCallback(next);
    });
  };
  video.requestVideoFrameCallback(next);
}

let rate = 0;

async function lookAtFrame(interval) {
  if (!video.srcObject) return;
  const turned = state.picture?.width !== video.videoWidth;
  grab(video, video.videoWidth, video.videoHeight);
  if (!state.guide || turned) {
    state.guide = state.square = middle(state.picture, 0.7);
  }
  if (state.localizer) {
    await look(state.square);
    // Smoothed, so that it can be read.
    rate = interval && (rate ? 0.9 * rate + 100 / interval : 1000 / interval);
    const each = milliseconds(shared.found.milliseconds);
    element("readout").textContent = `${each} a crop, ${Math.round(rate)} frames a second`;
  }
  draw();
}

function stopCamera() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  element("camera").setAttribute("aria-pressed", "false");
}

// ---- Drawing

/** Fits the canvas into the window, and draws picture, squares, edges and ellipses. */
function draw() {
  const { picture, guide } = state;
  if (!picture || !guide) return;
  const room = { width: document.body.clientWidth - 24, height: 0.62 * window.innerHeight };
  const shown = Math.min(room.width / picture.width, room.height / picture.height);
  const zoom = shown * window.devicePixelRatio;
  canvas.style.width = `${shown * picture.width}px`;
  canvas.width = Math.round(zoom * picture.width);
  canvas.height = Math.round(zoom * picture.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(pixels.canvas, 0, 0, canvas.width, canvas.height);
  // From here on in the picture's pixels, whose centres are at whole numbers.
  context.setTransform(zoom, 0, 0, zoom, zoom / 2, zoom / 2);
  context.lineWidth = window.devicePixelRatio / zoom;
  drawGuide(shown);
  if (shared.found && state.localizer) drawLandmarks(shared.found);
}

function drawGuide(shown) {
  const { x, y, side } = state.guide;
  context.strokeStyle = "#fff";
  context.setLineDash([6 / shown, 4 / shown]);
  outline(state.guide);
  context.setLineDash([]);
  context.fillStyle = "#fff";
  const knob = 5 / shown;
  for (const cx of [x - side / 2, x + side / 2]) {
    for (const cy of [y - side / 2, y + side / 2]) {
      context.fillRect(cx - knob, cy - knob, 2 * knob, 2 * knob);
    }
  }
}

function outline({ x, y, side }) {
  context.strokeRect(x - side / 2, y - side / 2, side, side);
}

function drawLandmarks({ landmarks, scale, square }) {
  context.strokeStyle = "#4fd1b5";
  if (square !== state.guide) outline(square);
  context.beginPath();
  for (const [from, to] of state.localizer.metadata.scheme?.edges ?? []) {
    context.moveTo(...landmarks[from]);
    context.lineTo(...landmarks[to]);
  }
  context.stroke();
  context.fillStyle = "#ffb02040";
  context.strokeStyle = "#ffb020";
  landmarks.forEach(([x, y], i) => {
    context.beginPath();
    context.ellipse(x, y, ...scale[i], 0, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  });
}

// ---- The guide

let drag = null;

/** Where a pointer is, in the picture's pixels; and how many of them one of the page's is. */
function place(event) {
  const box = canvas.getBoundingClientRect();
  const pixel = state.picture.width / box.width;
  const x = (event.clientX - box.left) * pixel - 0.5;
  const y = (event.clientY - box.top) * pixel - 0.5;
  return { x, y, pixel };
}

canvas.addEventListener("pointerdown", (event) => {
  if (!state.guide) return;
  canvas.setPointerCapture(event.pointerId);
  const { x, y, pixel } = place(event);
  const { guide } = state;
  const fromEdges = [x - guide.x, y - guide.y].map((d) => Math.abs(d) - guide.side / 2);
  const resizes = fromEdges.every((d) => Math.abs(d) < HANDLE * pixel);
  drag = { resizes, dx: guide.x - x, dy: guide.y - y };
});

canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const { x, y } = place(event);
  const { guide, picture } = state;
  if (drag.resizes) {
    const side = 2 * Math.max(Math.abs(x - guide.x), Math.abs(y - guide.y));
    const largest = Math.max(picture.width, picture.height);
    state.guide = { ...guide, side: Math.min(Math.max(side, SMALLEST), largest) };
  } else {
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    state.guide = {
      ...guide,
      x: within(x + drag.dx, picture.width),
      y: within(y + drag.dy, picture.height),
    };
  }
  if (video.srcObject) state.square = state.guide;
  else refresh();
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, () => {
    drag = null;
  });
}

// ---- Words and buttons

function tell(message, kind = "note") {
  element("message").textContent = message;
  element("message").dataset.kind = kind;
}

function milliseconds(value) {
  return `${value.toFixed(1)} ms`;
}

function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function still(job) {
  stopCamera();
  return inTurn(job);
}

element("face").addEventListener("click", () => still(showFace));
element("time").addEventListener("click", () => inTurn(time));
element("camera").addEventListener("click", () => {
  if (video.srcObject) still(showFace);
  else inTurn(startCamera);
});
element("photo").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) still(() => showPhoto(file));
  // The same file can be chosen again.
  target.value = "";
});
element("model").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) inTurn(async () => loadModel(new Uint8Array(await file.arrayBuffer()), file.name));
  target.value = "";
});
window.addEventListener("resize", draw);

inTurn(showFace);
inTurn(async () => {
  const response = await fetch("model.tflite");
  if (response.ok) return loadModel(new Uint8Array(await response.arrayBuffer()), "model.tflite");
  element("readout").textContent = "";
  tell("Choose a .tflite file by “Model…”; the server was started without --model.");
});
