// The photos that were given, with what came of each, and the line in which they wait for the server: one at a time.

// A photo and all that belongs to it.
const newItem = (photo, origin) => ({
  photo, // the File given
  origin, // where it is from: "disk", "sample", or "here" when no file of the user's has it
  stage: "waiting", // then "running", and "done", "failed" or "cancelled"
  delivery: null, // how the server has it
  query: "", // the options that it was parsed with
  report: null,
  reportBlob: null,
  upright: null, // the photo as the server reads it, where the browser reads it otherwise
  refusal: null,
  thumbnail: null, // a canvas
  keep: null, // what stays before another background; null: everybody
  recolours: new Map(), // by `keyOf`: {what, colour}
});

// Jobs that wait: {item, urgent, run(signal)}. What the user waits for is done first, then what is shown.
const line = [];
let running = null; // {job, abort}
// After a refusal that the next job would meet too.
let paused = false;

function enqueue(job) {
  line.push(job);
  paused = false;
  pump();
}

function nextJob() {
  const at = [(job) => job.urgent, (job) => job.item === state.item, () => true]
    .map((wanted) => line.findIndex(wanted))
    .find((found) => found >= 0);
  return at === undefined ? null : line.splice(at, 1)[0];
}

async function pump() {
  if (running || paused) return;
  const job = nextJob();
  if (!job) return;
  running = { job, abort: new AbortController() };
  work();
  try {
    await job.run(running.abort.signal);
  } finally {
    running = null;
    if (!line.length || paused) rest();
    renderStrip();
    pump();
  }
}

// Ends what runs and what waits.
function cancel() {
  fetching?.abort();
  for (const { item, kind } of line.splice(0)) if (kind === "parse") item.stage = "cancelled";
  running?.abort.abort();
  busy(false);
  renderStrip();
}

// Files, or one, to be parsed; the first of them is shown.
function give(files, origin = "disk") {
  const given = fetching;
  fetching = null;
  given?.abort();
  const items = [files].flat().map((file) => newItem(plainlyNamed(file), origin));
  state.album.push(...items);
  present(items[0]);
  for (const item of items) queueParse(item);
  thumbnails(items);
}

function queueParse(item) {
  Object.assign(item, { stage: "waiting", refusal: null, report: null, reportBlob: null });
  if (item === state.item) {
    item.keep = null;
    Object.assign(state, { map: null, pinned: null, pointed: null, said: null, refusal: null, retry: null });
    render();
    renderSaid();
  }
  enqueue({ item, kind: "parse", run: (signal) => parse(item, signal) });
  renderStrip();
}

async function parse(item, signal) {
  const { photo } = item;
  const name = () => ({ name: photo.name, size: bytes(photo.size) });
  item.stage = "running";
  renderStrip();
  tell(item, "reading", name);
  try {
    state.about = await info();
    renderModel();
    const phase = (key, share = null) => {
      if (signal.aborted) return;
      if (state.said?.[0] !== key || state.saidOf !== item) tell(item, key, name);
      progress(share);
    };
    item.delivery ??= await deliver(photo, state.about, { signal, onPhase: phase });
    if (signal.aborted) throw new Refusal("cancelled", word("cancelled"));
    const { delivery } = item;
    phase(delivery.uploaded ? "parsing" : "uploading");
    const onSent = (share) => phase(share < 1 ? "uploading" : "parsing", share < 1 ? share : null);
    const query = options();
    const blob = await delivery.parse(`output=json&rle=true${query}`, { signal, onSent: delivery.uploaded ? null : onSent });
    performance.mark("m2fp-answer");
    const report = await parseJson(blob);
    if (!report.image) throw new Refusal("other", word("not_a_report"));
    Object.assign(item, { stage: "done", query, report, reportBlob: blob });
    if (item === state.item) await reveal(item);
    else if (!state.refusal) say("done_other", () => ({ name: photo.name, left: number(waiting()) }));
  } catch (error) {
    if (item.report) throw error;
    Object.assign(item, { stage: error.code === "cancelled" ? "cancelled" : "failed", refusal: error, delivery: null });
    paused = error.code === "unauthorized";
    if (item === state.item) fail(error, () => queueParse(item));
    else if (!state.refusal) say("failed_other", () => ({ name: photo.name }));
  }
}

const waiting = () => state.album.filter(({ stage }) => stage === "waiting" || stage === "running").length;

// A name may hold anything; line breaks in it would end a comment in the code that is shown.
function plainlyNamed(file) {
  const name = file.name.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, "_");
  return name === file.name ? file : new File([file], name, { type: file.type });
}

// --- the strip

const THUMBNAIL_SIDE = 128;

async function thumbnails(items) {
  for (const item of items) {
    try {
      const picture = await createImageBitmap(item.photo, { imageOrientation: "from-image" });
      const side = Math.min(picture.width, picture.height);
      item.thumbnail = drawn(THUMBNAIL_SIDE, THUMBNAIL_SIDE, (pen) => pen.drawImage(
        picture, (picture.width - side) / 2, (picture.height - side) / 3, side, side, 0, 0, THUMBNAIL_SIDE, THUMBNAIL_SIDE,
      )).canvas;
      picture.close();
    } catch {
      // What the browser does not read keeps its name alone.
    }
    renderStrip();
  }
}

const MARKS = { waiting: "…", running: "…", done: "✓", failed: "!", cancelled: "–" };

function renderStrip() {
  const { album } = state;
  hide("album", album.length < 2);
  hide("zip", album.filter(({ stage }) => stage === "done").length < 2);
  while ($("strip").children.length < album.length) $("strip").append(element("li", {}, stripButton(album[$("strip").children.length])));
  album.forEach((item, index) => {
    const button = $("strip").children[index].firstChild;
    const [mark, picture] = button.children;
    mark.textContent = MARKS[item.stage];
    if (item.thumbnail && !picture.contains(item.thumbnail)) picture.replaceChildren(item.thumbnail);
    button.dataset.stage = item.stage;
    button.setAttribute("aria-current", item === state.item);
    button.setAttribute("aria-label", word("in_strip", { name: item.photo.name, stage: word(`stage_${item.stage}`) }));
    button.title = item.photo.name;
  });
}

function stripButton(item) {
  const button = element("button", {}, element("span", { className: "mark" }), element("span", { className: "thumb", textContent: item.photo.name }));
  on(button, "click", () => {
    if (item !== state.item) present(item);
    if (item.stage === "cancelled") queueParse(item);
  });
  return button;
}

// --- all at once

// Reports, masks and pictures of all that is done; the pictures before the background that is chosen, else without one.
async function saveAll() {
  const items = state.album.filter(({ stage }) => stage === "done");
  enqueue({ item: null, urgent: true, run: async (signal) => {
    try {
      const files = [];
      const taken = new Set();
      for (const [index, item] of items.entries()) {
        if (signal.aborted) throw new Refusal("cancelled", word("cancelled"));
        say("packing", () => ({ name: item.photo.name, n: number(index + 1), count: number(items.length) }));
        progress(index / items.length);
        const mask = await item.delivery.parse(`output=mask${item.query}`, { signal });
        const files_of = { ".json": item.reportBlob, ".mask.png": mask, ".cutout.png": await cutOut(item) };
        for (const [suffix, blob] of Object.entries(files_of)) if (blob) files.push([zipName(item.photo.name + suffix, taken), blob]);
      }
      save(await zip(files), "m2fp.zip");
    } catch (error) {
      fail(error, saveAll);
    }
  } });
}

// A photo's people before the chosen background, at the photo's size; null where the browser cannot read the photo.
async function cutOut(item) {
  const image = new Image();
  image.src = URL.createObjectURL(item.upright ?? item.photo);
  const readable = await image.decode().then(() => true, () => false);
  const background = state.background.kind === "photo" ? { kind: "clear" } : state.background;
  try {
    return readable ? await pngOf(item, image, { background, recolours: item.recolours, keep: item.keep }) : null;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}
