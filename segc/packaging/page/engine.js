// A bundle in a browser: an image in, the mask that segc.load(...).segment(image) gives out.

import { cropped, decide, resizeLogits, resizeMask, starts } from "./masks.js";
import { preprocess, transformed, unsupported } from "./transforms.js";

/**
 * @typedef {import("./resize.js").Image} Image
 * @typedef {import("./masks.js").Logits} Logits
 * @typedef {import("./masks.js").Mask} Mask
 * @typedef {import("./masks.js").Size} Size
 * @typedef {{data: Float32Array | Uint8Array, dims: number[]}} Tensor
 * @typedef {(input: Tensor) => Promise<{data: any, dims: readonly number[]}>} Run
 */

export class Engine {
  /** @param {Record<string, any>} manifest what segc.json holds @param {Run} run the network */
  constructor(manifest, run) {
    const cannot = unsupported(manifest.preprocessing);
    if (cannot) throw new Error(`this page cannot do ${cannot}`);
    this.manifest = manifest;
    this.network = run;
    const { inference, output } = manifest;
    this.how = { alignCorners: inference.align_corners, threshold: output.threshold };
    this.givesLogits = output.kind === "logits" || output.decode !== null;
  }

  /** The class of each pixel. @param {Image} image 8 bits, BGR @returns {Promise<Mask>} */
  async segment(image) {
    const { preprocessing, inference, input } = this.manifest;
    const size = /** @type {Size} */ ([image.height, image.width]);
    if (input.dtype === "uint8") {
      const made = transformed(image, preprocessing);
      const dims = [1, made.height, made.width, made.channels];
      const given = await this.network({ data: Uint8Array.from(made.data), dims });
      const kept = /** @type {Size} */ ([made.height, made.width]);
      return this.givesLogits ? this.fromLogits(logitsOf(given), kept, kept, size) : resizeMask(maskOf(given), size);
    }
    const x = preprocess(image, preprocessing);
    if (inference.mode === "slide") return decide(cropped(await this.slide(x), x.kept), size, this.how);
    const filled = this.filled(x);
    const given = await this.network({ data: filled.data, dims: [1, x.channels, filled.height, filled.width] });
    const sides = /** @type {Size} */ ([filled.height, filled.width]);
    if (this.givesLogits) return this.fromLogits(logitsOf(given), sides, x.kept, size);
    const mask = resizeMask(maskOf(given), sides);
    return resizeMask(croppedMask(mask, x.kept), size);
  }

  /** @param {Logits} logits @param {Size} sides of the network's input @param {Size} kept without padding @param {Size} size of the image */
  fromLogits(logits, sides, kept, size) {
    const { output, inference } = this.manifest;
    const small = output.kind === "logits" ? Boolean(inference.direct) : output.decode.resize;
    const whole = equal(kept, sides);
    if (small && whole && (inference.direct || equal(kept, size))) return decide(logits, size, this.how);
    return decide(cropped(resizeLogits(logits, sides, this.how.alignCorners), kept), size, this.how);
  }

  /** Averaged logits of overlapping patches. @param {ReturnType<typeof preprocess>} x @returns {Promise<Logits>} */
  async slide(x) {
    const { crop, stride } = this.manifest.inference;
    const channels = this.manifest.output.channels;
    const { height, width } = x;
    const sums = new Float32Array(channels * height * width);
    const counts = new Float32Array(height * width);
    for (const top of starts(height, crop[0], stride[0])) {
      for (const left of starts(width, crop[1], stride[1])) {
        const high = Math.min(crop[0], height - top);
        const wide = Math.min(crop[1], width - left);
        add(sums, counts, await this.patch(x, top, left, high, wide), top, left, height, width);
      }
    }
    for (let at = 0; at < sums.length; at++) sums[at] /= counts[at % counts.length];
    return { data: sums, channels, height, width };
  }

  /** @param {ReturnType<typeof preprocess>} x @param {number} top @param {number} left @param {number} high @param {number} wide @returns {Promise<Logits>} */
  async patch(x, top, left, high, wide) {
    const data = new Float32Array(x.channels * high * wide);
    for (let c = 0; c < x.channels; c++) {
      for (let y = 0; y < high; y++) {
        const from = (c * x.height + top + y) * x.width + left;
        data.set(x.data.subarray(from, from + wide), (c * high + y) * wide);
      }
    }
    const filled = this.filled({ ...x, data, height: high, width: wide });
    const given = await this.network({ data: filled.data, dims: [1, x.channels, filled.height, filled.width] });
    const logits = resizeLogits(logitsOf(given), [filled.height, filled.width], this.how.alignCorners);
    return cropped(logits, [high, wide]);
  }

  /** Padded to the right and bottom to a size the network takes. @param {{data: Float32Array, channels: number, height: number, width: number}} x */
  filled(x) {
    const height = this.accepted(x.height, 2);
    const width = this.accepted(x.width, 3);
    if (height === x.height && width === x.width) return x;
    const data = new Float32Array(x.channels * height * width).fill(this.manifest.preprocessing.pad.value);
    for (let c = 0; c < x.channels; c++) {
      for (let y = 0; y < x.height; y++) {
        const from = (c * x.height + y) * x.width;
        data.set(x.data.subarray(from, from + x.width), (c * height + y) * width);
      }
    }
    return { data, channels: x.channels, height, width };
  }

  /** The least size from `side` on that the network takes. @param {number} side @param {2 | 3} axis */
  accepted(side, axis) {
    const { shape, dynamic } = this.manifest.input;
    const name = axis === 2 ? "height" : "width";
    const [low, high] = shape[axis] !== null ? [shape[axis], shape[axis]] : dynamic[name];
    const divisor = shape[axis] !== null ? 1 : dynamic.divisor;
    const wanted = Math.ceil(Math.max(side, low) / divisor) * divisor;
    if (high !== null && wanted > high) throw new Error(`the ${name} ${side} is outside of what the model takes: ${low} to ${high} pixels`);
    return wanted;
  }
}

/** @param {Float32Array} sums @param {Float32Array} counts @param {Logits} patch @param {number} top @param {number} left @param {number} height @param {number} width */
function add(sums, counts, patch, top, left, height, width) {
  for (let y = 0; y < patch.height; y++) {
    const line = (top + y) * width + left;
    for (let x = 0; x < patch.width; x++) counts[line + x] += 1;
    for (let c = 0; c < patch.channels; c++) {
      const from = (c * patch.height + y) * patch.width;
      const to = c * height * width + line;
      for (let x = 0; x < patch.width; x++) sums[to + x] += patch.data[from + x];
    }
  }
}

/** @param {{data: any, dims: readonly number[]}} given @returns {Logits} */
function logitsOf({ data, dims }) {
  return { data, channels: dims[1], height: dims[2], width: dims[3] };
}

/** @param {{data: any, dims: readonly number[]}} given @returns {Mask} */
function maskOf({ data, dims }) {
  return { data, height: dims[1], width: dims[2] };
}

/** @param {Mask} mask @param {Size} size @returns {Mask} */
function croppedMask(mask, [height, width]) {
  if (mask.height === height && mask.width === width) return mask;
  const data = mask.data instanceof Uint16Array ? new Uint16Array(height * width) : new Uint8Array(height * width);
  for (let y = 0; y < height; y++) data.set(mask.data.subarray(y * mask.width, y * mask.width + width), y * width);
  return { data, height, width };
}

/** @param {Size} a @param {Size} b */
function equal(a, b) {
  return a[0] === b[0] && a[1] === b[1];
}
