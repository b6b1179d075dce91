// Answers crops on stdin, SIZE x SIZE RGB bytes each, by a line of JSON on stdout: the 68 `points`
// [x, y, ...] in pixels that face-api's tiny network finds, on one thread of WebAssembly, and the
// `milliseconds` from bytes to points.
//
//   node benchmarks/face_api.cjs FOLDER SIZE     FOLDER/node_modules holds the packages: peers.py
//
// Nothing is fetched: the weights are in the package.

const path = require("path");

const [folder, size] = [path.resolve(process.argv[2]), Number(process.argv[3])];
const load = require("module").createRequire(path.join(folder, "package.json"));

async function main() {
  const wasm = load("@tensorflow/tfjs-backend-wasm");
  const files = path.dirname(load.resolve("@tensorflow/tfjs-backend-wasm"));
  wasm.setWasmPaths(files + path.sep);
  wasm.setThreadsCount(1);
  const faceapi = load("@vladmandic/face-api/dist/face-api.node-wasm.js");
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  const network = faceapi.nets.faceLandmark68TinyNet;
  const weights = path.join(folder, "node_modules", "@vladmandic", "face-api", "model");
  await network.loadFromDisk(weights);

  async function answer(bytes) {
    const start = performance.now();
    const image = faceapi.tf.tensor3d(new Float32Array(bytes), [size, size, 3]);
    const found = await network.detectLandmarks(image);
    image.dispose();
    const points = found.positions.flatMap((point) => [point.x, point.y]);
    return { points, milliseconds: performance.now() - start };
  }

  const length = size * size * 3;
  let waiting = Buffer.alloc(0);
  for await (const part of process.stdin) {
    waiting = Buffer.concat([waiting, part]);
    while (waiting.length >= length) {
      const found = await answer(waiting.subarray(0, length));
      waiting = waiting.subarray(length);
      process.stdout.write(JSON.stringify(found) + "\n");
    }
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
