// Loads the model and segments images, beside the page's own thread.

import { Engine } from "./engine.js";

/** @type {Promise<Engine> | undefined} */
let engine;

/** @param {{provider: "wasm" | "webgpu"}} settings */
async function load({ provider }) {
  const ort = await import(provider === "webgpu" ? "./runtime/ort.webgpu.min.mjs" : "./runtime/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  // several threads need a server that sends Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  const manifest = await (await fetched("segc.json")).json();
  const model = new Uint8Array(await (await fetched("model.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(model, { executionProviders: [provider] });
  return new Engine(manifest, async ({ data, dims }) => {
    const kind = data instanceof Uint8Array ? "uint8" : "float32";
    const given = await session.run({ [manifest.input.name]: new ort.Tensor(kind, data, dims) });
    const output = given[session.outputNames[0]];
    return { data: await output.getData(), dims: output.dims };
  });
}

/** @param {string} name */
async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

self.onmessage = async ({ data }) => {
  const { number } = data; // the page tells answers apart by it
  try {
    if (data.load) {
      engine = load(data.load);
      const { manifest } = await engine;
      self.postMessage({ number, loaded: { classes: manifest.classes, palette: manifest.palette, name: manifest.source.name, threads: self.crossOriginIsolated } });
      return;
    }
    const { rgba, height, width } = data.segment;
    const start = performance.now();
    const mask = await (await /** @type {Promise<Engine>} */ (engine)).segment(bgr(rgba, height, width));
    self.postMessage({ number, mask, milliseconds: performance.now() - start }, { transfer: [mask.data.buffer] });
  } catch (error) {
    self.postMessage({ number, error: String(error instanceof Error ? error.message : error) });
  }
};

/** @param {Uint8ClampedArray} rgba @param {number} height @param {number} width */
function bgr(rgba, height, width) {
  const data = new Uint8Array(height * width * 3);
  for (let at = 0, to = 0; to < data.length; at += 4) {
    data[to++] = rgba[at + 2];
    data[to++] = rgba[at + 1];
    data[to++] = rgba[at];
  }
  return { data, height, width, channels: 3 };
}
