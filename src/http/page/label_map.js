// The report's masks as two small pictures: class and person of each pixel.

// The most pixels that a map on the screen has along its longer side.
const MAP_SIDE = 1600;

// How long the browser may be kept from painting, milliseconds.
const BREATH_MS = 12;

let breathed = 0;
// Lets the browser paint and answer the user, where it has waited for a while.
async function breathe() {
  if (performance.now() - breathed < BREATH_MS) return;
  await new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
  breathed = performance.now();
}

// A picture of a photo's masks, of at most `side` pixels a side and `area` in all.
class Grid {
  constructor({ width, height }, side = Infinity, area = Infinity) {
    const scale = Math.min(1, side / Math.max(width, height), Math.sqrt(area / (width * height)));
    this.width = Math.max(1, Math.round(width * scale));
    this.height = Math.max(1, Math.round(height * scale));
    // Column of the grid that shows a photo's column, or -1; rows that show photo rows above a photo's row.
    this.columns = new Int32Array(width).fill(-1);
    for (let x = 0; x < this.width; x++) this.columns[under(x, this.width, width)] = x;
    this.rows = new Int32Array(height + 1);
    for (let y = 0; y < this.height; y++) this.rows[under(y, this.height, height) + 1]++;
    for (let y = 0; y < height; y++) this.rows[y + 1] += this.rows[y];
  }

  // Runs go down the columns, zeros first.
  paint(map, rle, value) {
    const height = rle.size[0];
    let place = 0;
    let inside = false;
    for (const length of runs(rle.counts)) {
      for (let from = place, end = place + length; inside && from < end; ) {
        const column = Math.floor(from / height);
        const to = Math.min(end, (column + 1) * height);
        const x = this.columns[column];
        if (x >= 0) {
          const last = this.rows[to - column * height];
          for (let y = this.rows[from - column * height]; y < last; y++) map[y * this.width + x] = value;
        }
        from = to;
      }
      place += length;
      inside = !inside;
    }
  }

  // 1 where a mask is, 0 elsewhere.
  mask(rle) {
    const map = new Uint8Array(this.width * this.height);
    if (rle) this.paint(map, rle, 1);
    return map;
  }
}

class LabelMap extends Grid {
  // `report`: with COCO RLE. Pixels of no class in it are of class `background`, those of no person are of person 0.
  static async of(report, background, side = MAP_SIDE, area = Infinity) {
    const map = new LabelMap(report.image, side, area);
    map.background = background;
    map.classes = new Uint8Array(map.width * map.height).fill(background);
    map.persons = new Uint8Array(map.width * map.height);
    map.complete = report.classes.concat(report.persons).every((one) => one.rle);
    for (const one of report.classes) {
      if (one.rle && one.id !== background) map.paint(map.classes, one.rle, one.id);
      await breathe();
    }
    // What several persons hold is drawn as the best one's, who is listed first. (The `instances` picture gives each
    // such pixel to whoever is surest of it, which the report does not say.)
    for (const one of [...report.persons].reverse()) {
      if (one.rle) map.paint(map.persons, one.rle, one.id);
      await breathe();
    }
    return map;
  }

  // Class and person at a place, given as shares of width and height.
  at(x, y) {
    const clamp = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    const i = clamp(y, this.height) * this.width + clamp(x, this.width);
    return { part: this.classes[i], person: this.persons[i] };
  }

  // 1 where `what`, a part, a person or a person's part, is; where it is nothing: where anybody is.
  chosen(what) {
    const { classes, persons, background } = this;
    const mask = new Uint8Array(classes.length);
    for (let i = 0; i < mask.length; i++) {
      mask[i] = what ? covers(what, classes[i], persons[i]) : classes[i] !== background || persons[i] > 0;
    }
    return mask;
  }
}

const covers = (what, part, person) => (what.part === null || what.part === part) && (what.person === null || what.person === person);

// The photo's pixel under the centre of a map's pixel, as the server's overlay takes it.
const under = (i, small, large) => Math.floor(((2 * i + 1) * large) / (2 * small));

// `rleFrString` of cocoapi: five bits a character, and from the fourth run on differences to the run before the last.
function runs(text) {
  const lengths = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    let digit;
    do {
      digit = text.charCodeAt(at++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16 && shift < 32) value |= -1 << shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}
