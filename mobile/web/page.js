// The page: a model, a picture or the camera's, a square guide, and the landmarks drawn on it all.
//
// ?threads=2 runs the model by two threads.
//
// `window.keras_lapkl` is for tests and the console: `found`, what the localizer gave last;
// `looks`, how often it did; `guide`, the user's square; `tracking`, whether the next square comes
// from landmarks; and `timing`, medians in milliseconds by "Time it".

import { Localizer, RINGS, SMALLEST } from "./model.js";

// A photo is shrunk to this: no phone's canvas may hold more than 4096 pixels squared.
const MAX_PHOTO_SIDE = 4096;
const MIN_PHOTO_SIDE = 16;
const TIMED = 100;
const HANDLE = 28;

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const video = element("video");
const context = canvas.getContext("2d");
const pixels = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

const asked = Math.floor(Number(new URLSearchParams(location.search).get("threads")) || 1);
const threads = Math.max(1, Math.min(asked, navigator.hardwareConcurrency || 1));
const state = { localizer: null, picture: null, guide: null, square: null, passes: 1 };
const shared = { found: null, looks: 0, tracking: false, timing: null };
Object.defineProperty(shared, "guide", { get: () => state.guide });
window.keras_lapkl = shared;

// ---- Jobs: one at a time, since a model must not be replaced while it runs

let turn = Promise.resolve();

function inTurn(job) {
  turn = turn.then(job).catch(report);
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

/** Takes what was found, and where the crop rule would look next. */
function take(found) {
  const next = state.localizer.next(found, state.picture);
  Object.assign(shared, { found, looks: shared.looks + 1, tracking: next !== null });
  state.square = next ?? state.guide;
}

async function lookAtStill() {
  if (state.localizer && state.picture) {
    take(await state.localizer.locateFrom(state.picture, state.guide, state.passes));
    element("readout").textContent = perCrop(shared.found);
  }
  draw();
}

function perCrop({ milliseconds: each, lost }) {
  return `${milliseconds(each)} a crop${lost ? "; lost: no face, or not where it is" : ""}`;
}

/** What is in a square that the frame before gave. */
function follow(square) {
  const { localizer, picture } = state;
  // Only a calibrated file's passes are averaged. Else one is enough, for the crop is good.
  return localizer.byPasses(picture, square, localizer.metadata.calibration ? 2 : 1);
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
    take(await follow(square));
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
  tell(`Loading ${name}…`);
  const localizer = await Localizer.load(bytes, name, threads);
  const wasWhole = state.picture && state.localizer?.wholePicture(state.picture);
  state.localizer?.delete();
  // What the last model found has other edges.
  Object.assign(shared, { found: null, tracking: false });
  state.localizer = localizer;
  if (state.picture && (wasWhole || localizer.wholePicture(state.picture))) {
    state.guide = state.square = firstSquare();
  }
  describe(localizer);
  tell("");
  if (!video.srcObject) await lookAtStill();
}

function cropRule({ crop_scale: cropScale, scheme }) {
  if (!cropScale) return "none: only the guide is looked at";
  const rule = (by) => `${cropScale} times the longer edge of ${by}`;
  const from = scheme?.crop_from ?? "points";
  if (from !== "points") return `${rule(`the ${from}`)}: only the guide is looked at`;
  return rule(scheme?.five_points.length ? "the five points" : "the points");
}

function describe({ metadata, name, dtype, size }) {
  const facts = {
    Model: `${name}, ${metadata.mode}`,
    Input: `${size}×${size}, ${dtype}, ${metadata.input.range.join(" to ")}`,
    Landmarks: `${metadata.num_landmarks}, ${metadata.scheme?.name ?? "no scheme"}`,
    "Crop rule": cropRule(metadata),
    Threads: threads,
    "Trained on": metadata.trained_on ?? "unknown",
    License: metadata.license ?? "unknown",
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
  // A new size resets it.
  pixels.imageSmoothingQuality = "high";
  pixels.drawImage(source, 0, 0, width, height);
  state.picture = pixels.getImageData(0, 0, width, height);
}

/** The square that is `share` of a picture's shorter side, at its middle. */
function middle({ width, height }, share) {
  return { x: (width - 1) / 2, y: (height - 1) / 2, side: share * Math.min(width, height) };
}

async function fromServer(path) {
  try {
    return await fetch(path);
  } catch {
    throw new Error("The server does not answer: start mobile/web/serve.py and reload the page.");
  }
}

async function showFace() {
  const response = await fromServer("face.png");
  const bitmap = await createImageBitmap(await response.blob());
  grab(bitmap, bitmap.width, bitmap.height);
  // It is a crop already, so the model gets its very pixels.
  Object.assign(state, { guide: middle(state.picture, 1), passes: 1 });
  tell("");
  await lookAtStill();
}

async function showPhoto(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not an image that this browser reads; try a JPEG or a PNG.`);
  }
  if (Math.min(bitmap.width, bitmap.height) < MIN_PHOTO_SIDE) {
    throw new Error(
      `${file.name} has ${bitmap.width}×${bitmap.height} pixels. Expected ${MIN_PHOTO_SIDE} or ` +
        "more a side.",
    );
  }
  const shrink = Math.min(1, MAX_PHOTO_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.round(shrink * side));
  grab(bitmap, Math.max(1, width), Math.max(1, height));
  // The second look is by the crop rule, so that the guide need not be exact.
  Object.assign(state, { guide: firstSquare(), passes: 2 });
  tell("Drag the square until the head fills it; its corners or two fingers resize it.");
  await lookAtStill();
}

/** Where to look first: all of the picture where the model's rule says so, else its middle. */
function firstSquare() {
  return state.localizer?.wholePicture(state.picture) ?? middle(state.picture, 0.7);
}

// ---- Camera

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error(
      "This browser gives the camera to localhost and https alone. For a phone on USB: " +
        "adb reverse tcp:8000 tcp:8000, then open http://localhost:8000/ on it.",
    );
  }
  try {
    const wish = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
    return await navigator.mediaDevices.getUserMedia({ video: wish });
  } catch (error) {
    throw new Error(
      error.name === "NotAllowedError"
        ? "The camera was refused. Allow it in the browser's settings of this page, or use a photo."
        : `There is no camera to use; use a photo. (${error.message})`,
    );
  }
}

// Counts the choices of what to show: a camera allowed after a later choice stays off.
let choice = 0;

async function startCamera() {
  const mine = ++choice;
  // Not in turn: all else goes on while the browser's question is open.
  const stream = await openCamera();
  await inTurn(() => (mine === choice ? showCamera(stream) : stop(stream)));
}

async function showCamera(stream) {
  video.srcObject = stream;
  await video.play();
  element("camera").setAttribute("aria-pressed", "true");
  stream.getVideoTracks()[0].addEventListener("ended", () => {
    if (video.srcObject !== stream) return;
    stopCamera();
    report(new Error("The camera stopped. Connect it again, or use a photo."));
  });
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

const LOOK_EVERY = 1000; // ms
let [period, lookedAround] = [0, 0];

async function lookAtFrame(interval) {
  if (!video.srcObject) return;
  const turned = state.picture?.width !== video.videoWidth;
  grab(video, video.videoWidth, video.videoHeight);
  if (!state.guide || turned) {
    state.guide = state.square = firstSquare();
  }
  if (state.localizer) {
    const { localizer, picture, guide, square } = state;
    const found = await follow(square);
    // A face that is followed is where it was. But it may be another one that the model sees in a
    // face upside down, and is unsure of: so once a second.
    const isDue = square === guide || performance.now() - lookedAround > LOOK_EVERY;
    if (isDue) lookedAround = performance.now();
    // One ring: a frame may not wait for all.
    const rings = isDue ? RINGS.slice(0, 1) : [];
    const again = isDue || found.lost;
    take(again ? await localizer.lookAround(picture, square, found, rings) : found);
    // The time is smoothed, since the mean of uneven frames' rates is above their rate.
    period = interval && (period ? 0.95 * period + 0.05 * interval : interval);
    const rate = period ? `${Math.round(1000 / period)} frames a second, ` : "";
    element("readout").textContent = rate + perCrop(shared.found);
  }
  draw();
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function stopCamera() {
  if (video.srcObject) stop(video.srcObject);
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
  // From here on in the picture's pixels, whose centers are at whole numbers.
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

function outline({ x, y, side, angle = 0 }) {
  context.save();
  context.translate(x, y);
  context.rotate(angle);
  context.strokeRect(-side / 2, -side / 2, side, side);
  context.restore();
}

function drawLandmarks({ landmarks, scale, lost, square }) {
  context.globalAlpha = lost ? 0.4 : 1;
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

// Where each finger is, in the picture's pixels.
const fingers = new Map();
let grip = null;

function place(event) {
  const box = canvas.getBoundingClientRect();
  const pixel = state.picture.width / box.width;
  const x = (event.clientX - box.left) * pixel - 0.5;
  const y = (event.clientY - box.top) * pixel - 0.5;
  return { x, y, pixel };
}

/** What a single finger does: at a corner it resizes, elsewhere it moves. */
function gripAt({ x, y, pixel }) {
  const { guide } = state;
  const fromEdges = [x - guide.x, y - guide.y].map((d) => Math.abs(d) - guide.side / 2);
  const reach = Math.min(HANDLE * pixel, guide.side / 4);
  const resizes = fromEdges.every((d) => Math.abs(d) < reach);
  return { resizes, dx: guide.x - x, dy: guide.y - y };
}

function distance() {
  const [one, other] = fingers.values();
  return Math.hypot(one.x - other.x, one.y - other.y);
}

function changeGuide(change) {
  const { picture } = state;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const { x, y, side } = { ...state.guide, ...change };
  state.guide = {
    x: clamp(x, 0, picture.width - 1),
    y: clamp(y, 0, picture.height - 1),
    side: clamp(side, SMALLEST, Math.max(picture.width, picture.height)),
  };
  if (video.srcObject) state.square = state.guide;
  else refresh();
}

canvas.addEventListener("pointerdown", (event) => {
  if (!state.guide) return;
  canvas.setPointerCapture(event.pointerId);
  const at = place(event);
  fingers.set(event.pointerId, at);
  grip = fingers.size === 1 ? gripAt(at) : null;
});

canvas.addEventListener("pointermove", (event) => {
  const { guide } = state;
  if (!guide || !fingers.has(event.pointerId)) return;
  const before = fingers.size === 2 ? distance() : 0;
  const { x, y, pixel } = place(event);
  fingers.set(event.pointerId, { x, y, pixel });
  if (before) {
    changeGuide({ side: (guide.side * distance()) / before });
  } else if (grip?.resizes) {
    changeGuide({ side: 2 * Math.max(Math.abs(x - guide.x), Math.abs(y - guide.y)) });
  } else if (grip) {
    changeGuide({ x: x + grip.dx, y: y + grip.dy });
  }
});

for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, (event) => {
    fingers.delete(event.pointerId);
    grip = null;
  });
}

// ---- Words and buttons

function tell(message, kind = "note") {
  element("message").textContent = message;
  element("message").dataset.kind = kind;
}

function report(error) {
  tell(error.message, "error");
}

function milliseconds(value) {
  return `${value.toFixed(1)} ms`;
}

function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function still(job) {
  choice++;
  stopCamera();
  return inTurn(job);
}

element("face").addEventListener("click", () => still(showFace));
element("time").addEventListener("click", () => inTurn(time));
element("camera").addEventListener("click", () => {
  if (video.srcObject) still(showFace);
  else startCamera().catch(report);
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
  const response = await fromServer("model.tflite");
  if (response.ok) return loadModel(new Uint8Array(await response.arrayBuffer()), "model.tflite");
  tell("Choose a .tflite file by “Model…”; the server was started without --model.");
});
