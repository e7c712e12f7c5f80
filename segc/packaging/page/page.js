// The page: an image or the camera in, the mask over it, and the classes that were found. Nothing leaves the page.

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const file = element("file", HTMLInputElement);
const camera = element("camera", HTMLButtonElement);
const provider = element("provider", HTMLSelectElement);
const opacity = element("opacity", HTMLInputElement);
const save = element("save", HTMLButtonElement);
const line = element("status", HTMLElement);
const legend = element("legend", HTMLElement);
const video = element("video", HTMLVideoElement);
const canvas = element("canvas", HTMLCanvasElement);

/** @type {{classes: string[], palette: number[][], name: string, threads: boolean} | undefined} */
let model;
/** @type {Worker | undefined} */
let worker;
/** Questions to the worker that are not answered yet, by number. @type {Map<number, (message: any) => void>} */
const open = new Map();
let asked = 0;
/** @type {{pixels: ImageData, mask: {data: Uint8Array | Uint16Array, height: number, width: number}} | undefined} */
let shown;
let filming = 0;

/** @param {string} text @param {boolean} [wrong] */
function say(text, wrong = false) {
  line.textContent = text;
  line.classList.toggle("wrong", wrong);
}

/** Ask the worker, and wait for what it says. @param {any} message @param {Transferable[]} [transfer] @returns {Promise<any>} */
function ask(message, transfer = []) {
  return new Promise((resolve, reject) => {
    const number = ++asked;
    open.set(number, (given) => {
      open.delete(number);
      if (given.error) reject(new Error(given.error));
      else resolve(given);
    });
    worker?.postMessage({ ...message, number }, transfer);
  });
}

/** @param {string} error */
function giveUp(error) {
  for (const answer of [...open.values()]) answer({ error });
}

async function load() {
  stop();
  worker?.terminate();
  giveUp("the model is loaded anew");
  model = undefined;
  const mine = new Worker("worker.js", { type: "module" });
  worker = mine;
  mine.onmessage = ({ data }) => open.get(data.number)?.(data);
  mine.onerror = (event) => giveUp(event.message || "the worker could not be started");
  say("Loading the model …");
  try {
    model = (await ask({ load: { provider: provider.value } })).loaded;
    if (worker !== mine || !model) return;
    document.title = model.name;
    file.disabled = camera.disabled = false;
    say(`${model.name}: choose an image${model.threads ? "" : " (one thread: the server does not isolate the page)"}`);
  } catch (error) {
    if (worker !== mine) return; // another one is being loaded
    say(`The model cannot be loaded: ${text(error)}`, true);
  }
}

/** @param {unknown} error */
function text(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {CanvasImageSource} source @param {number} width @param {number} height */
function pixelsOf(source, width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("the browser gives no canvas of this size");
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** @param {ImageData} pixels */
async function segment(pixels) {
  const { width, height } = pixels;
  const rgba = pixels.data.slice();
  const { mask, milliseconds } = await ask({ segment: { rgba, height, width } }, [rgba.buffer]);
  shown = { pixels, mask };
  draw();
  count(mask);
  say(`${width} × ${height} pixels in ${milliseconds.toFixed(0)} ms`);
  save.disabled = false;
  return mask;
}

function draw() {
  if (!shown || !model) return;
  const { pixels, mask } = shown;
  const share = Number(opacity.value) / 100;
  const over = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
  for (let at = 0, to = 0; at < mask.data.length; at++, to += 4) {
    const colour = model.palette[mask.data[at]] ?? [0, 0, 0];
    for (let c = 0; c < 3; c++) over.data[to + c] = pixels.data[to + c] * (1 - share) + colour[c] * share;
  }
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext("2d")?.putImageData(over, 0, 0);
}

/** @param {{data: Uint8Array | Uint16Array}} mask */
function count(mask) {
  const pixels = new Map();
  for (const number of mask.data) pixels.set(number, (pixels.get(number) ?? 0) + 1);
  const rows = [...pixels].sort((a, b) => b[1] - a[1]).map(([number, many]) => {
    const row = document.createElement("li");
    const patch = document.createElement("span");
    patch.style.background = `rgb(${(model?.palette[number] ?? [0, 0, 0]).join(" ")})`;
    row.append(patch, `${model?.classes[number] ?? `class ${number}`} ${((100 * many) / mask.data.length).toFixed(1)} %`);
    return row;
  });
  legend.replaceChildren(...rows);
}

/** Why a browser may decode a file to other colours than OpenCV does; "" if nothing speaks for it. @param {File} given @param {ImageData} pixels */
async function whyColoursDiffer(given, pixels) {
  const head = new Uint8Array(await given.slice(0, 25).arrayBuffer());
  const png = head[0] === 0x89 && head[1] === 0x50;
  if (png && head[24] === 16) return "The image has 16 bits: browsers round them to 8 in a way of their own";
  const clear = pixels.data.some((value, at) => at % 4 === 3 && value < 255);
  return clear ? "The image has transparent pixels: browsers change their colours" : "";
}

async function chosen() {
  stop();
  const given = file.files?.[0];
  if (!given) return;
  say("Working …");
  try {
    const bitmap = await createImageBitmap(given, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const pixels = pixelsOf(bitmap, bitmap.width, bitmap.height);
    const doubt = await whyColoursDiffer(given, pixels);
    await segment(pixels);
    if (doubt) say(`${line.textContent}. ${doubt}`);
  } catch (error) {
    say(`${given.name}: ${text(error)}`, true);
  }
}

async function film() {
  if (filming) return stop();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    await video.play();
  } catch (error) {
    return say(`The camera cannot be used: ${text(error)}`, true);
  }
  camera.textContent = "Stop camera";
  const mine = ++filming;
  while (filming === mine) {
    const start = performance.now();
    try {
      await segment(pixelsOf(video, video.videoWidth, video.videoHeight));
    } catch (error) {
      stop();
      return say(text(error), true);
    }
    say(`${line.textContent}, ${(1000 / (performance.now() - start)).toFixed(1)} images a second`);
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  filming = 0;
  const stream = video.srcObject;
  if (stream instanceof MediaStream) stream.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  camera.textContent = "Use camera";
}

function download() {
  canvas.toBlob((blob) => {
    if (!blob) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "overlay.png";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

file.addEventListener("change", chosen);
camera.addEventListener("click", film);
save.addEventListener("click", download);
opacity.addEventListener("input", draw);
provider.addEventListener("change", load);
if (!("gpu" in navigator)) provider.querySelector("[value=webgpu]")?.setAttribute("disabled", "");
export const scripted = { segment, pixelsOf, mask: () => shown?.mask };
Object.assign(window, { segc: scripted }); // for scripts and the console
await load();
