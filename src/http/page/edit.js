// The photo before another background, and with parts in other colours: made here, of the report's masks.

// The most pixels of a canvas on every phone.
const CANVAS_PIXELS = 16e6;

// Edges are blended over this share of a picture's longer side: about a cell of the network's masks.
const EDGE = 1 / 450;
// Cells along the longer side of a background that is blurred the most and the least.
const BLUR_CELLS = [14, 220];

// What may be asked for. `background.kind`: "photo", "clear", "colour", "blur" or "picture".
const isEdited = ({ background, recolours }) => background.kind !== "photo" || recolours.size > 0;

// Draws `photo`, an image, into `canvas` as large as `map`, edited. `keep`: what stays before the background, null for
// everybody. Gives whether it came to its end: `current` says whether it is still wanted.
async function compose(canvas, photo, map, { background, recolours, keep }, current = () => true) {
  const { width, height } = map;
  const made = drawn(width, height, (pen) => pen.drawImage(photo, 0, 0, width, height));
  const picture = made.getImageData(0, 0, width, height);
  const radius = Math.max(1, Math.round(Math.max(width, height) * EDGE));
  for (const { what, colour } of recolours.values()) {
    const amount = await softened(map.chosen(what), width, height, radius);
    if (!current()) return false;
    await recolour(picture.data, amount, colour);
  }
  if (background.kind !== "photo") {
    const kept = await softened(map.chosen(keep), width, height, radius);
    if (!current()) return false;
    const behind = backdrop(background, made.canvas, kept, width, height);
    await blend(picture.data, inset(kept), behind?.getImageData(0, 0, width, height).data);
  }
  if (!current()) return false;
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return true;
}

function drawn(width, height, draw) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  draw(pen);
  return pen;
}

// A mask of 0 and 1 as one of 0 to 255 whose edges are `radius` wide to each side: two box blurs, which make a slope.
async function softened(mask, width, height, radius) {
  let from = mask.map((one) => one * 255);
  for (let pass = 0; pass < 2; pass++) {
    from = await blurredRows(from, width, height, radius);
    from = await blurredColumns(from, width, height, radius);
  }
  return from;
}

async function blurredRows(from, width, height, radius) {
  const to = new Uint8Array(from.length);
  const span = 2 * radius + 1;
  for (let y = 0; y < height; y++) {
    const row = y * width;
    const at = (x) => from[row + Math.min(width - 1, Math.max(0, x))];
    let sum = 0;
    for (let x = -radius; x <= radius; x++) sum += at(x);
    for (let x = 0; x < width; x++) {
      to[row + x] = sum / span;
      sum += at(x + radius + 1) - at(x - radius);
    }
    if (y % 32 === 0) await breathe();
  }
  return to;
}

// Row by row, with the sum of each column: memory is read in order.
async function blurredColumns(from, width, height, radius) {
  const to = new Uint8Array(from.length);
  const span = 2 * radius + 1;
  const sums = new Int32Array(width);
  const row = (y) => Math.min(height - 1, Math.max(0, y)) * width;
  for (let y = -radius; y <= radius; y++) for (let x = 0; x < width; x++) sums[x] += from[row(y) + x];
  for (let y = 0; y < height; y++) {
    const [here, next, last] = [y * width, row(y + radius + 1), row(y - radius)];
    for (let x = 0; x < width; x++) {
      to[here + x] = sums[x] / span;
      sums[x] += from[next + x] - from[last + x];
    }
    if (y % 32 === 0) await breathe();
  }
  return to;
}

// What is kept, a little inside its edge, where the old background does not shine through.
function inset(mask) {
  const steps = Uint8Array.from({ length: 256 }, (_, i) => {
    const share = Math.min(1, Math.max(0, (i / 255 - 0.3) / 0.6));
    return Math.round(255 * share * share * (3 - 2 * share));
  });
  return mask.map((one) => steps[one]);
}

// Mixes a picture with what is behind it; where nothing is, it becomes transparent.
async function blend(data, kept, behind) {
  for (let i = 0; i < kept.length; i++) {
    const at = 4 * i;
    if (behind) {
      const share = kept[i] / 255;
      for (let c = at; c < at + 3; c++) data[c] = behind[c] + (data[c] - behind[c]) * share;
      data[at + 3] = 255;
    } else data[at + 3] = kept[i];
    if (i % 65536 === 0) await breathe();
  }
}

// A picture of what is behind, or undefined where nothing is.
function backdrop({ kind, colour, blur, picture }, photo, kept, width, height) {
  if (kind === "colour") {
    return drawn(width, height, (pen) => {
      pen.fillStyle = colour;
      pen.fillRect(0, 0, width, height);
    });
  }
  if (kind === "picture" && picture) {
    const scale = Math.max(width / picture.width, height / picture.height);
    const [w, h] = [picture.width * scale, picture.height * scale];
    return drawn(width, height, (pen) => pen.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h));
  }
  return kind === "blur" ? blurred(photo, kept, width, height, blur) : undefined;
}

// The background alone, blurred: people are left out of the mean, so that they leave no shine around themselves.
function blurred(photo, kept, width, height, strength) {
  const [few, many] = BLUR_CELLS;
  const scale = Math.min(1, (many * (few / many) ** strength) / Math.max(width, height));
  const [w, h] = [Math.max(2, Math.round(width * scale)), Math.max(2, Math.round(height * scale))];
  const holes = drawn(width, height, (pen) => {
    const mask = new ImageData(width, height);
    for (let i = 0; i < kept.length; i++) mask.data[4 * i + 3] = kept[i] > 8 ? 0 : 255;
    pen.putImageData(mask, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.drawImage(photo, 0, 0);
  });
  const small = resized(holes.canvas, w, h);
  const cells = small.getImageData(0, 0, w, h);
  fillHoles(cells, w, h);
  small.putImageData(cells, 0, 0);
  return resized(small.canvas, width, height);
}

// A picture in another size, in steps of a half or of two: browsers look at few pixels only when they shrink at once,
// and show the cells when they enlarge at once.
function resized(from, width, height) {
  let pen;
  const step = (here, wanted) => Math.min(here * 2, Math.max(Math.ceil(here / 2), wanted));
  do {
    const source = from;
    const [w, h] = [step(source.width, width), step(source.height, height)];
    pen = drawn(w, h, (one) => one.drawImage(source, 0, 0, w, h));
    from = pen.canvas;
  } while (from.width !== width || from.height !== height);
  return pen;
}

// Makes transparent pixels the mean of their neighbours, from the edges of each hole inwards.
function fillHoles({ data }, width, height) {
  for (let left = Math.max(width, height); left > 0; left--) {
    const filled = [];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (data[4 * (y * width + x) + 3]) continue;
        const sum = [0, 0, 0, 0];
        for (let v = Math.max(0, y - 1); v <= Math.min(height - 1, y + 1); v++) {
          for (let u = Math.max(0, x - 1); u <= Math.min(width - 1, x + 1); u++) {
            const at = 4 * (v * width + u);
            for (let c = 0; c < 4; c++) sum[c] += c < 3 ? data[at + c] * data[at + 3] : data[at + 3];
          }
        }
        if (sum[3]) filled.push([4 * (y * width + x), sum]);
      }
    }
    for (const [at, sum] of filled) {
      for (let c = 0; c < 3; c++) data[at + c] = sum[c] / sum[3];
      data[at + 3] = 1;
    }
    if (!filled.length) break;
  }
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
}

// --- colours, in OKLab (Björn Ottosson, 2020): lightness is the eye's there, so that folds and shadows stay

const LINEAR = Float64Array.from({ length: 256 }, (_, i) => (i <= 10.31475 ? i / 3294.6 : ((i / 255 + 0.055) / 1.055) ** 2.4));
const COMPANDED = Uint8ClampedArray.from({ length: 4096 }, (_, i) => {
  const x = i / 4095;
  return 255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055);
});

function rgb(css) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.fillStyle = css;
  const value = parseInt(pen.fillStyle.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

const companded = (x) => COMPANDED[x <= 0 ? 0 : x >= 1 ? 4095 : Math.round(x * 4095)];

function lms(r, g, b) {
  return [
    Math.cbrt(0.4122214708 * LINEAR[r] + 0.5363325363 * LINEAR[g] + 0.0514459929 * LINEAR[b]),
    Math.cbrt(0.2119034982 * LINEAR[r] + 0.6806995451 * LINEAR[g] + 0.1073969566 * LINEAR[b]),
    Math.cbrt(0.0883024619 * LINEAR[r] + 0.2817188376 * LINEAR[g] + 0.6299787005 * LINEAR[b]),
  ];
}

const lightness = (r, g, b) => {
  const [l, m, s] = lms(r, g, b);
  return 0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s;
};

// Gives a region another colour and keeps its light and shade. `amount`: 0 to 255 for each pixel.
async function recolour(data, amount, css) {
  const [red, green, blue] = rgb(css);
  const [l, m, s] = lms(red, green, blue);
  const [L, A, B] = [lightness(red, green, blue), 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
  const mean = meanLightness(data, amount);
  // Dark cloth shows its folds by little light; brighter, by more.
  const gain = Math.min(2, Math.max(1, L / Math.max(0.05, mean)));
  for (let i = 0; i < amount.length; i++) {
    if (i % 65536 === 0) await breathe();
    if (!amount[i]) continue;
    const at = 4 * i;
    const light = Math.min(1, Math.max(0, L + gain * (lightness(data[at], data[at + 1], data[at + 2]) - mean)));
    // Neither the darkest shade nor the brightest shine has much colour.
    const strength = light < L ? 0.25 + 0.75 * (light / L) : 1 - 0.75 * ((light - L) / (1 - L || 1));
    const [a, b] = [A * strength, B * strength];
    const [x, y, z] = [(light + 0.3963377774 * a + 0.2158037573 * b) ** 3, (light - 0.1055613458 * a - 0.0638541728 * b) ** 3, (light - 0.0894841775 * a - 1.291485548 * b) ** 3];
    const share = amount[i] / 255;
    const mix = (c, linear) => { data[at + c] += (companded(linear) - data[at + c]) * share; };
    mix(0, 4.0767416621 * x - 3.3077115913 * y + 0.2309699292 * z);
    mix(1, -1.2684380046 * x + 2.6097574011 * y - 0.3413193965 * z);
    mix(2, -0.0041960863 * x - 0.7034186147 * y + 1.707614701 * z);
  }
}

// Of at most some ten thousand pixels well inside.
function meanLightness(data, amount) {
  const step = Math.max(1, Math.floor(amount.length / 200_000));
  let [sum, count] = [0, 0];
  for (let i = 0; i < amount.length; i += step) {
    if (amount[i] < 200) continue;
    sum += lightness(data[4 * i], data[4 * i + 1], data[4 * i + 2]);
    count++;
  }
  return count ? sum / count : 0.5;
}
