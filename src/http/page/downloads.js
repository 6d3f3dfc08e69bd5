// What is taken away: the API's outputs, edited pictures, masks of one thing, and code with the options of a parse.

const opacity = () => $("opacity").value / 100;
const query = (output) => (output === "overlay" ? `output=overlay&alpha=${opacity()}` : `output=${output}`) + state.item.query;

function download(output) {
  const { item } = state;
  const name = item.photo.name + SUFFIXES[output];
  if (output === "json") return save(item.reportBlob, name);
  busy(true);
  const asked = query(output);
  enqueue({ item, urgent: true, run: async (signal) => {
    say("making", () => ({ what: word(output) }));
    try {
      save(await item.delivery.parse(asked, { signal }), name);
    } catch (error) {
      fail(error, () => download(output));
    } finally {
      busy(false);
    }
  } });
}

const isBusy = () => document.querySelector("[data-output]").getAttribute("aria-disabled") === "true";
function busy(is) {
  for (const button of all("[data-output]")) button.setAttribute("aria-disabled", is);
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  // The browser has begun to read by then.
  setTimeout(() => URL.revokeObjectURL(url), 60e3);
  say("saved", () => ({ name }));
}

const toPng = (canvas) => new Promise((resolve, reject) => canvas.toBlob(
  (blob) => (blob ? resolve(blob) : reject(new Refusal("not_drawn", word("not_drawn")))), "image/png",
));

// An edited photo at the photo's own size, or as large as a canvas may be.
async function pngOf(item, image, asked) {
  const map = await LabelMap.of(item.report, state.about.background_id, Infinity, CANVAS_PIXELS);
  const canvas = document.createElement("canvas");
  await compose(canvas, image, map, asked);
  return toPng(canvas);
}

async function saveEdit() {
  const { item } = state;
  say("making", () => ({ what: word("edit") }));
  try {
    save(await pngOf(item, $("photo"), edits()), `${item.photo.name}.edited.png`);
  } catch (error) {
    fail(error, saveEdit);
  }
}

// The mask of what is pinned, white on black, at the photo's size.
async function saveFocus() {
  const { item, pinned } = state;
  const { report } = item;
  const grid = new Grid(report.image, Infinity, CANVAS_PIXELS);
  const masks = [];
  if (pinned.part !== null) masks.push(grid.mask(report.classes.find(({ id }) => id === pinned.part).rle));
  if (pinned.person !== null) masks.push(grid.mask(report.persons.find(({ id }) => id === pinned.person).rle));
  await breathe();
  const [one, two = one] = masks;
  const picture = new ImageData(grid.width, grid.height);
  const out = new Uint32Array(picture.data.buffer);
  const [white, black] = [rgba([255, 255, 255]), rgba([0, 0, 0])];
  for (let i = 0; i < out.length; i++) out[i] = one[i] && two[i] ? white : black;
  const canvas = drawn(grid.width, grid.height, (pen) => pen.putImageData(picture, 0, 0)).canvas;
  const what = zipName(named(pinned).replace(/[\s·]+/g, "-"), new Set());
  save(await toPng(canvas), `${item.photo.name}.${what}.png`);
}

// --- options of a parse

// As the API has them: a further one is a line here and its words.
const OPTIONS = [
  { name: "mode", type: "checkbox", value: "tiled" },
  { name: "flip", type: "checkbox", value: "true" },
  { name: "score", type: "number", min: 0, max: 1, step: 0.05 },
  { name: "max_side", type: "number", min: 32, step: 1 },
];

function renderOptions() {
  const given = Object.fromEntries(OPTIONS.map(({ name }) => [name, $(`option-${name}`)]));
  $("options").replaceChildren(...OPTIONS.map((option) => {
    const input = given[option.name] ?? element("input", { ...option, id: `option-${option.name}` });
    return element("label", {}, input, element("span", { textContent: word(`option_${option.name}`) }));
  }));
}

// `&name=value` for each that is set.
const options = () => [...new FormData($("options"))].filter(([, value]) => value)
  .map(([name, value]) => `&${name}=${encodeURIComponent(value)}`).join("");

// --- code

function renderCode() {
  const { photo, item, delivery } = state;
  if (!state.map) return;
  const tokened = Boolean($("token").value.trim());
  const notes = [];
  if (tokened) notes.push(word("code_token"));
  if (!$("sent").hidden) notes.push(word("code_sent", { name: delivery.sent.name }));
  const asked = {
    url: new URL(BASE, location.href).href, query: options(), tokened, notes, name: photo.name, file: delivery.sent.name,
    type: photo.type, size: photo.size, uploaded: Boolean(delivery.uploaded),
    sample: item.origin === "sample" && !delivery.reason ? photo.name : null,
  };
  $("curl").textContent = inCurl(asked);
  $("python").textContent = inPython(asked);
  $("javascript").textContent = inJavaScript(asked);
}

const shownCode = () => $(document.querySelector("[name=code]:checked").value);

async function copy() {
  try {
    await navigator.clipboard.writeText(shownCode().textContent);
    say("copied");
  } catch {
    getSelection().selectAllChildren(shownCode());
    say("not_copied");
  }
}
