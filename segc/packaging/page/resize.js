// Resizing with the numbers of OpenCV, Pillow and torch, so that a page gives the masks that Python gives.
// An image is {data, height, width, channels}: rows of pixels of interleaved channels, 8 bits or float32.

/**
 * @typedef {{data: Uint8ClampedArray | Uint8Array | Float32Array | Float64Array, height: number, width: number, channels: number}} Image
 * @typedef {{low: Int32Array, high: Int32Array, weight: Float32Array}} Taps
 */

const f = Math.fround;

/** The nearest whole number, the even one of two that are as near: C's lrint. @param {number} x */
export function roundHalfEven(x) {
  const low = Math.floor(x);
  const over = x - low;
  return over < 0.5 || (over === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** An image of the same kind of numbers. @param {Image} image @param {number} height @param {number} width @returns {Image} */
export function like(image, height, width) {
  const Kind = /** @type {new (length: number) => Uint8Array | Float32Array} */ (
    image.data instanceof Float32Array ? Float32Array : Uint8Array);
  return { data: new Kind(height * width * image.channels), height, width, channels: image.channels };
}

/** cv2.resize of 8 bits, INTER_LINEAR: weights of 11 bits. @param {Image} image @param {number} height @param {number} width */
export function resizeBilinear(image, height, width) {
  if (image.height === height && image.width === width) return image;
  if (image.height === 2 * height && image.width === 2 * width) return halved(image);
  const { channels } = image;
  const out = like(image, height, width);
  const across = fixedTaps(image.width, width, true);
  const down = fixedTaps(image.height, height, false);
  const rows = [new Int32Array(width * channels), new Int32Array(width * channels)];
  const held = [-1, -1];
  for (let y = 0; y < height; y++) {
    const wanted = [down.low[y], down.high[y]];
    const [one, two] = wanted.map((from, at) => {
      const known = held.indexOf(from);
      if (known >= 0) return rows[known];
      const slot = held[at] === wanted[1 - at] ? 1 - at : at;
      held[slot] = from;
      return filtered(image, from, across, rows[slot]);
    });
    const first = down.first[y];
    const second = down.second[y];
    const start = y * width * channels;
    for (let x = 0; x < width * channels; x++) {
      out.data[start + x] = (((first * (one[x] >> 4)) >> 16) + ((second * (two[x] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return out;
}

/** Half the size: OpenCV takes the mean of four pixels. @param {Image} image */
function halved(image) {
  const { data, channels } = image;
  const out = like(image, image.height / 2, image.width / 2);
  const line = image.width * channels;
  for (let y = 0, to = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) {
      for (let c = 0; c < channels; c++, to++) {
        const at = 2 * y * line + 2 * x * channels + c;
        out.data[to] = (data[at] + data[at + channels] + data[at + line] + data[at + line + channels] + 2) >> 2;
      }
    }
  }
  return out;
}

/** @param {Image} image @param {number} y @param {ReturnType<typeof fixedTaps>} taps @param {Int32Array} into */
function filtered(image, y, taps, into) {
  const { data, channels } = image;
  const start = y * image.width * channels;
  for (let x = 0, to = 0; x < taps.low.length; x++) {
    const low = start + taps.low[x] * channels;
    const high = start + taps.high[x] * channels;
    for (let c = 0; c < channels; c++, to++) into[to] = data[low + c] * taps.first[x] + data[high + c] * taps.second[x];
  }
  return into;
}

/** @param {number} side @param {number} out @param {boolean} whole whether positions outside take the pixel of the edge with its whole weight */
function fixedTaps(side, out, whole) {
  const low = new Int32Array(out);
  const high = new Int32Array(out);
  const first = new Int32Array(out);
  const second = new Int32Array(out);
  const scale = 1 / (out / side);
  for (let at = 0; at < out; at++) {
    let from = f((at + 0.5) * scale - 0.5);
    let begin = Math.floor(from);
    from = f(from - begin);
    if (whole && begin < 0) [begin, from] = [0, 0];
    if (whole && begin >= side - 1) [begin, from] = [side - 1, 0];
    low[at] = Math.min(Math.max(begin, 0), side - 1);
    high[at] = Math.min(Math.max(begin + 1, 0), side - 1);
    first[at] = roundHalfEven(f(f(1 - from) * 2048));
    second[at] = roundHalfEven(f(from * 2048));
  }
  return { low, high, first, second };
}

/** cv2.resize, INTER_NEAREST. @param {Image} image @param {number} height @param {number} width */
export function resizeNearest(image, height, width) {
  const { data, channels } = image;
  const out = like(image, height, width);
  const columns = nearest(image.width, width);
  const rows = nearest(image.height, height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (rows[y] * image.width + columns[x]) * channels;
      for (let c = 0; c < channels; c++, to++) out.data[to] = data[at + c];
    }
  }
  return out;
}

/** @param {number} side @param {number} out */
function nearest(side, out) {
  const scale = 1 / (out / side);
  return Int32Array.from({ length: out }, (_, at) => Math.min(Math.floor(at * scale), side - 1));
}

const FILTERS = {
  bilinear: { support: 1, at: (/** @type {number} */ x) => Math.max(1 - Math.abs(x), 0) },
  bicubic: { support: 2, at: cubic },
  lanczos: { support: 3, at: (/** @type {number} */ x) => (-3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** @param {number} x */
function cubic(x) {
  const a = -0.5;
  const far = Math.abs(x);
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
}

/** @param {number} x */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

const BITS = 22; // of Pillow's weights

/** Pillow's Image.resize of 8 bits. @param {Image} image @param {number} height @param {number} width @param {keyof typeof FILTERS | "nearest"} kind */
export function resizePillow(image, height, width, kind) {
  if (image.height === height && image.width === width) return image;
  if (kind === "nearest") return nearestPillow(image, height, width);
  const fewer = image.height - height; // from release 13 on, Pillow begins with rows where many more of them go
  const downFirst = fewer > 0 && fewer > 2 * (image.width - width);
  for (const across of downFirst ? [false, true] : [true, false]) {
    const side = across ? width : height;
    if ((across ? image.width : image.height) !== side) image = convolved(image, side, FILTERS[kind], across);
  }
  return image;
}

/** @param {Image} image @param {number} height @param {number} width */
function nearestPillow(image, height, width) {
  const { data, channels } = image;
  const out = like(image, height, width);
  const columns = steps(image.width, width);
  const rows = steps(image.height, height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (rows[y] * image.width + columns[x]) * channels;
      for (let c = 0; c < channels; c++, to++) out.data[to] = data[at + c];
    }
  }
  return out;
}

/** Pillow adds the step up, so that its rounding adds up too. @param {number} side @param {number} out */
function steps(side, out) {
  const step = side / out;
  let from = step * 0.5;
  return Int32Array.from({ length: out }, () => {
    const at = Math.min(Math.trunc(from), side - 1);
    from += step;
    return at;
  });
}

/** One direction of Pillow's resampling. @param {Image} image @param {number} out @param {{support: number, at: (x: number) => number}} filter @param {boolean} across */
function convolved(image, out, filter, across) {
  const side = across ? image.width : image.height;
  const made = across ? like(image, image.height, out) : like(image, out, image.width);
  const { channels } = image;
  const step = across ? channels : image.width * channels;
  const lines = across ? image.height : image.width * channels;
  const line = across ? image.width * channels : 1;
  const [toStep, toLine] = across ? [channels, out * channels] : [image.width * channels, 1];
  const inner = across ? channels : 1;
  for (let at = 0; at < out; at++) {
    const { first, weights } = pillowWeights(side, out, at, filter);
    for (let l = 0; l < lines; l++) {
      for (let c = 0; c < inner; c++) {
        let sum = 2 ** (BITS - 1);
        for (let k = 0, from = l * line + first * step + c; k < weights.length; k++, from += step) {
          sum += image.data[from] * weights[k];
        }
        made.data[l * toLine + at * toStep + c] = Math.min(Math.max(Math.floor(sum / 2 ** BITS), 0), 255);
      }
    }
  }
  return made;
}

/** @param {number} side @param {number} out @param {number} at @param {{support: number, at: (x: number) => number}} filter */
function pillowWeights(side, out, at, filter) {
  const scale = side / out;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const centre = (at + 0.5) * scale;
  const first = Math.max(Math.trunc(centre - support + 0.5), 0);
  const end = Math.min(Math.trunc(centre + support + 0.5), side);
  const exact = [];
  let sum = 0;
  for (let x = first; x < end; x++) {
    exact.push(filter.at((x - centre + 0.5) * (1 / stretch)));
    sum += exact[exact.length - 1];
  }
  const whole = exact.map((each) => {
    const share = sum === 0 ? each : each * (1 / sum);
    return Math.trunc(share < 0 ? -0.5 + share * 2 ** BITS : 0.5 + share * 2 ** BITS);
  });
  return { first, weights: whole };
}

/** For each output position the two positions of the input and the weight of the second, as torch has them in float32. @param {number} side @param {number} out @param {boolean} alignCorners @returns {Taps} */
export function taps(side, out, alignCorners) {
  const low = new Int32Array(out);
  const high = new Int32Array(out);
  const weight = new Float32Array(out);
  const scale = f(side / out);
  const step = f((side - 1) / Math.max(out - 1, 1));
  for (let at = 0; at < out; at++) {
    const from = side === out ? at : alignCorners ? f(step * at) : f(Math.max(scale * (at + 0.5) - 0.5, 0));
    low[at] = Math.min(Math.trunc(from), side - 1);
    high[at] = Math.min(low[at] + 1, side - 1);
    weight[at] = Math.min(Math.max(f(from - low[at]), 0), 1);
  }
  return { low, high, weight };
}
