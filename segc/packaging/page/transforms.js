// The steps from a decoded image to the network's input, as `preprocessing` of segc.json gives them.
// They mirror segc/runtime/transforms.py and preprocessing.py number by number; tests compare the two.

import { like, resizeBilinear, resizeNearest, resizePillow, roundHalfEven } from "./resize.js";

/** @typedef {import("./resize.js").Image} Image */
/** @typedef {Record<string, any>} Step */

const f = Math.fround;

/** What a browser cannot do the way Python does it, in words; "" if it can. @param {Step} preprocessing @returns {string} */
export function unsupported(preprocessing) {
  for (const step of chain(preprocessing)) {
    if (!(step.step in DONE)) return `the step '${step.step}'`;
    const kind = step.interpolation ?? "bilinear";
    const pillow = step.step === "pillow resize" || step.backend === "pillow";
    if (!(pillow ? ["nearest", "bilinear", "bicubic", "lanczos"] : ["nearest", "bilinear"]).includes(kind)) {
      return `${pillow ? "Pillow" : "OpenCV"}'s interpolation '${kind}'`;
    }
  }
  return "";
}

/** What is done before normalization, in order. @param {Step} preprocessing @returns {Step[]} */
export function chain(preprocessing) {
  if (preprocessing.steps || !preprocessing.resize) return preprocessing.steps ?? [];
  return [{ step: "resize", interpolation: "bilinear", backend: "cv2", factor: null, ...preprocessing.resize }];
}

/** All steps before normalization. @param {Image} image @param {Step} preprocessing @returns {Image} */
export function transformed(image, preprocessing) {
  let made = image;
  for (const step of chain(preprocessing)) made = DONE[step.step](made, step);
  return made;
}

/**
 * float32 (1, C, H, W) of an image of 8 bits BGR, and how many rows and columns of it are not padding.
 * @param {Image} image @param {Step} preprocessing
 */
export function preprocess(image, preprocessing) {
  const made = transformed(image, preprocessing);
  const { pad } = preprocessing;
  const [bottom, right] = padding(made.height, made.width, pad);
  const height = made.height + bottom;
  const width = made.width + right;
  const count = preprocessing.mean.length;
  const data = new Float32Array(count * height * width);
  if (bottom || right) data.fill(pad.value);
  for (let c = 0; c < count; c++) {
    const value = channelValue(preprocessing, c, made.data);
    const from = made.channels === 1 ? 0 : preprocessing.channel_order === "RGB" && made.channels === 3 ? 2 - c : c;
    for (let y = 0; y < made.height; y++) {
      let to = (c * height + y) * width;
      let at = y * made.width * made.channels + from;
      for (let x = 0; x < made.width; x++, at += made.channels) data[to++] = value(made.data[at]);
    }
  }
  const kept = pad.kept ? [height, width] : [made.height, made.width];
  return { data, height, width, channels: count, kept: /** @type {[number, number]} */ (kept) };
}

/** The network's value of a pixel value. @param {Step} preprocessing @param {number} channel @param {Image["data"]} data */
function channelValue(preprocessing, channel, data) {
  const mean = f(preprocessing.mean[channel]);
  const std = f(preprocessing.std[channel]);
  const exact = (/** @type {number} */ x) => f(f(f(x) - mean) / std);
  if (data instanceof Float32Array || data instanceof Float64Array) return exact;
  const table = preprocessing.table ? Float32Array.from(preprocessing.table[channel]) : Float32Array.from({ length: 256 }, (_, x) => exact(x));
  return (/** @type {number} */ x) => table[x];
}

/** Rows and columns of padding after normalization. @param {number} height @param {number} width @param {Step} pad */
function padding(height, width, pad) {
  if (pad.size) return [Math.max(pad.size[0] - height, 0), Math.max(pad.size[1] - width, 0)];
  const divisor = pad.divisor || 1;
  return [(divisor - (height % divisor)) % divisor, (divisor - (width % divisor)) % divisor];
}

/** @param {Image} image @param {number} height @param {number} width @param {string} interpolation @param {string} backend @returns {Image} */
function toSize(image, height, width, interpolation, backend) {
  if (backend === "pillow") return resizePillow(image, height, width, /** @type {any} */ (interpolation));
  return interpolation === "nearest" ? resizeNearest(image, height, width) : resizeBilinear(image, height, width);
}

/** @param {number} height @param {number} width @param {number[]} scale width, height @param {boolean} keepRatio */
function resizedSize(height, width, scale, keepRatio) {
  if (!keepRatio) return [scale[1], scale[0]];
  const factor = Math.min(Math.max(...scale) / Math.max(height, width), Math.min(...scale) / Math.min(height, width));
  return [height, width].map((side) => Math.max(1, Math.trunc(side * factor + 0.5)));
}

/** @param {Image} image @param {Step} step @returns {Image} */
function resize(image, step) {
  const scale = step.scale ?? [Math.trunc(image.width * step.factor[0] + 0.5), Math.trunc(image.height * step.factor[1] + 0.5)];
  const [height, width] = resizedSize(image.height, image.width, scale, step.keep_ratio);
  return toSize(image, height, width, step.interpolation, step.backend);
}

/** @param {Image} image @param {Step} step @returns {Image} */
function resizeToMultiple(image, step) {
  const [height, width] = [image.height, image.width].map((side) => Math.ceil(side / step.divisor) * step.divisor);
  return toSize(image, height, width, step.interpolation, "cv2");
}

/** @param {Image} image @param {Step} step @returns {Image} */
function resizeShortestEdge(image, step) {
  let scale = step.scale / Math.min(image.height, image.width);
  let [high, wide] = image.height < image.width ? [step.scale, scale * image.width] : [scale * image.height, step.scale];
  if (Math.max(high, wide) > step.most) {
    scale = step.most / Math.max(high, wide);
    [high, wide] = [high * scale, wide * scale];
  }
  const bounds = [Math.trunc(wide + 0.5), Math.trunc(high + 0.5)];
  const [height, width] = resizedSize(image.height, image.width, bounds, true);
  return toSize(image, height, width, "bilinear", "cv2");
}

/** @param {Image} image @param {Step} step @returns {Image} */
function pillowResize(image, step) {
  const [height, width] = pillowSize(image.height, image.width, step);
  return toSize(image, height, width, step.interpolation, "pillow");
}

/** @param {number} height @param {number} width @param {Step} step */
function pillowSize(height, width, step) {
  const sides = [height, width];
  if (step.scale) {
    const [wide, high] = step.scale;
    if (!step.keep_ratio) return [high, wide];
    const [byHeight, byWidth] = [high / height, wide / width];
    const factor = Math.abs(1 - byWidth) < Math.abs(1 - byHeight) ? byWidth : byHeight;
    return sides.map((side) => Math.max(1, roundHalfEven((factor * side) / step.multiple)) * step.multiple);
  }
  let short = step.shortest;
  let exact = short;
  const [least, most] = [Math.min(...sides), Math.max(...sides)];
  if (step.longest !== null && (most / least) * short > step.longest) {
    exact = (step.longest * least) / most;
    short = roundHalfEven(exact);
  }
  const long = least === short ? most : Math.trunc((exact * most) / least);
  const made = height <= width ? [short, long] : [long, short];
  return made.map((side) => Math.ceil(Math.max(1, side) / step.multiple) * step.multiple);
}

/** @type {Record<string, (at: number, side: number) => number>} */
const BORDERS = {
  constant: (at, side) => (at < side ? at : -1),
  edge: (at, side) => Math.min(at, side - 1),
  reflect: (at, side) => mirrored(at, side, 2 * side - 2, 0),
  symmetric: (at, side) => mirrored(at, side, 2 * side, 1),
};

/** @param {number} at @param {number} side @param {number} period @param {number} twice */
function mirrored(at, side, period, twice) {
  if (side === 1) return 0;
  const inside = at % period;
  return inside < side ? inside : period - inside - twice;
}

/** @param {Image} image @param {Step} step @returns {Image} */
function pad(image, step) {
  let [high, wide] = step.square ? Array(2).fill(Math.max(image.height, image.width)) : [image.height, image.width];
  if (step.divisor) [high, wide] = [high, wide].map((side) => Math.ceil(side / step.divisor) * step.divisor);
  else if (step.size) [wide, high] = step.size;
  const out = like(image, Math.max(high, image.height), Math.max(wide, image.width));
  const from = BORDERS[step.mode];
  for (let y = 0, to = 0; y < out.height; y++) {
    const row = from(y, image.height);
    for (let x = 0; x < out.width; x++) {
      const column = from(x, image.width);
      for (let c = 0; c < image.channels; c++, to++) {
        const outside = row < 0 || column < 0;
        out.data[to] = outside ? (step.values.length === 1 ? step.values[0] : (step.values[c] ?? 0)) : image.data[(row * image.width + column) * image.channels + c];
      }
    }
  }
  return out;
}

/** @param {Image} image @param {Step} step @returns {Image} */
function centerCrop(image, step) {
  const [wide, high] = [Math.min(step.size[0], image.width), Math.min(step.size[1], image.height)];
  const round = step.floor ? Math.floor : roundHalfEven;
  const [top, left] = [round((image.height - high) / 2), round((image.width - wide) / 2)];
  const out = like(image, high, wide);
  for (let y = 0; y < high; y++) {
    const start = ((top + y) * image.width + left) * image.channels;
    out.data.set(image.data.subarray(start, start + wide * image.channels), y * wide * image.channels);
  }
  return out;
}

/** @param {Image} image @param {Step} step @returns {Image} */
function normalize(image, step) {
  const data = new Float32Array(image.data.length);
  for (let at = 0; at < data.length; at++) {
    const c = at % image.channels;
    const from = step.swap && c < 3 ? at - c + 2 - c : at;
    data[at] = f(image.data[from] - f(step.mean[c])) * (1 / f(step.std[c]));
  }
  return { ...image, data };
}

/** @param {Image} image @param {Step} step @returns {Image} */
function gray(image, step) {
  const data = new Float64Array(image.height * image.width * step.channels);
  for (let at = 0, to = 0; to < data.length; at += image.channels) {
    let sum = 0;
    for (let c = 0; c < image.channels; c++) sum += image.data[at + c] * step.weights[c];
    for (let c = 0; c < step.channels; c++) data[to++] = sum;
  }
  return { data, height: image.height, width: image.width, channels: step.channels };
}

/** @param {Image} image @param {Step} step @returns {Image} */
function gamma(image, step) {
  const table = Uint8Array.from({ length: 256 }, (_, x) => Math.trunc((x / 255) ** (1 / step.gamma) * 255));
  return { ...image, data: Uint8Array.from(image.data, (x) => table[x]) };
}

/** @param {Image} image @param {Step} step @returns {Image} */
function rerange(image, step) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of image.data) [low, high] = [Math.min(low, x), Math.max(high, x)];
  if (!(low < high)) throw new Error("the image has one value only, the model stretches its values to a range");
  return { ...image, data: Float64Array.from(image.data, (x) => ((x - low) / (high - low)) * (step.high - step.low) + step.low) };
}

/** @type {Record<string, (image: Image, step: Step) => Image>} */
const DONE = {
  "resize": resize, "resize to multiple": resizeToMultiple, "resize shortest edge": resizeShortestEdge,
  "pillow resize": pillowResize, "pad": pad, "center crop": centerCrop, "normalize": normalize, "gray": gray,
  "gamma": gamma, "rerange": rerange,
};
