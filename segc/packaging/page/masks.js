// From logits to the mask of the image, with torch's numbers, as segc/runtime/resize.py and slide.py make it.

import { taps } from "./resize.js";

/**
 * @typedef {{data: Float32Array, channels: number, height: number, width: number}} Logits
 * @typedef {{data: Uint8Array | Uint16Array, height: number, width: number}} Mask
 * @typedef {[number, number]} Size height, width
 * @typedef {{alignCorners: boolean, threshold: number | null}} How
 */

const f = Math.fround;

/** Logits (C, h, w) resized bilinearly. @param {Logits} logits @param {Size} size @param {boolean} alignCorners @returns {Logits} */
export function resizeLogits(logits, [height, width], alignCorners) {
  const wide = logits.width === width ? logits : across(logits, width, alignCorners);
  return wide.height === height ? wide : down(wide, height, alignCorners);
}

/** @param {Logits} logits @param {number} width @param {boolean} alignCorners @returns {Logits} */
function across(logits, width, alignCorners) {
  const { low, high, weight } = taps(logits.width, width, alignCorners);
  const data = new Float32Array(logits.channels * logits.height * width);
  for (let line = 0, to = 0; line < logits.channels * logits.height; line++) {
    const start = line * logits.width;
    for (let x = 0; x < width; x++) {
      const one = f(logits.data[start + low[x]] * f(1 - weight[x]));
      data[to++] = one + f(logits.data[start + high[x]] * weight[x]);
    }
  }
  return { ...logits, data, width };
}

/** @param {Logits} logits @param {number} height @param {boolean} alignCorners @returns {Logits} */
function down(logits, height, alignCorners) {
  const { low, high, weight } = taps(logits.height, height, alignCorners);
  const { width } = logits;
  const data = new Float32Array(logits.channels * height * width);
  for (let c = 0, to = 0; c < logits.channels; c++) {
    const plane = c * logits.height * width;
    for (let y = 0; y < height; y++) {
      const [one, two, share] = [plane + low[y] * width, plane + high[y] * width, weight[y]];
      const rest = f(1 - share);
      for (let x = 0; x < width; x++) data[to++] = f(logits.data[one + x] * rest) + f(logits.data[two + x] * share);
    }
  }
  return { ...logits, data, height };
}

/** The first rows and columns. @param {Logits} logits @param {Size} size @returns {Logits} */
export function cropped(logits, [height, width]) {
  if (logits.height === height && logits.width === width) return logits;
  const data = new Float32Array(logits.channels * height * width);
  for (let c = 0; c < logits.channels; c++) {
    for (let y = 0; y < height; y++) {
      const from = (c * logits.height + y) * logits.width;
      data.set(logits.data.subarray(from, from + width), (c * height + y) * width);
    }
  }
  return { ...logits, data, height, width };
}

/** The class of each pixel of the image; the lowest class wins ties. @param {Logits} logits @param {Size} size @param {How} how @returns {Mask} */
export function decide(logits, size, how) {
  const [height, width] = size;
  const data = logits.channels <= 256 ? new Uint8Array(height * width) : new Uint16Array(height * width);
  const wide = logits.width === width ? logits : across(logits, width, how.alignCorners);
  const rows = taps(logits.height, height, how.alignCorners);
  const best = new Float32Array(width);
  const plane = wide.height * width;
  for (let y = 0; y < height; y++) {
    const [one, two, share] = [rows.low[y] * width, rows.high[y] * width, rows.weight[y]];
    const rest = f(1 - share);
    const same = wide.height === height;
    for (let c = 0; c < wide.channels; c++) {
      for (let x = 0, to = y * width; x < width; x++, to++) {
        const at = c * plane + x;
        const value = same ? wide.data[at + one] : f(f(wide.data[at + one] * rest) + f(wide.data[at + two] * share));
        if (how.threshold !== null && wide.channels === 1) data[to] = sigmoid(value) > f(how.threshold) ? 1 : 0;
        else if (c === 0 || value > best[x] || (value !== value && best[x] === best[x])) {
          best[x] = value;
          data[to] = c;
        }
      }
    }
  }
  return { data, height, width };
}

/** In float32. @param {number} x */
function sigmoid(x) {
  return f(1 / f(1 + f(Math.exp(-x))));
}

/** Each pixel takes the pixel its centre falls into. @param {Mask} mask @param {Size} size @returns {Mask} */
export function resizeMask(mask, [height, width]) {
  if (mask.height === height && mask.width === width) return mask;
  const from = (/** @type {number} */ at, /** @type {number} */ side, /** @type {number} */ out) =>
    Math.floor(((2 * at + 1) * side) / (2 * out));
  const data = mask.data instanceof Uint16Array ? new Uint16Array(height * width) : new Uint8Array(height * width);
  const columns = Int32Array.from({ length: width }, (_, x) => from(x, mask.width, width));
  for (let y = 0, to = 0; y < height; y++) {
    const start = from(y, mask.height, height) * mask.width;
    for (let x = 0; x < width; x++) data[to++] = mask.data[start + columns[x]];
  }
  return { data, height, width };
}

/** Where the patches of a sliding window begin. @param {number} side @param {number} crop @param {number} stride */
export function starts(side, crop, stride) {
  const count = Math.floor(Math.max(side - crop + stride - 1, 0) / stride) + 1;
  return Array.from({ length: count }, (_, at) => Math.max(Math.min(at * stride + crop, side) - crop, 0));
}
