// The page: what it holds, and how that is shown.

const $ = (id) => document.getElementById(id);
const all = (selector) => document.querySelectorAll(selector);
const on = (target, kind, act) => target.addEventListener(kind, act);
const SVG = "http://www.w3.org/2000/svg";
const SUFFIXES = { mask: ".mask.png", instances: ".instances.png", overlay: ".overlay.jpg", cutout: ".cutout.png", json: ".json" };

// With more, the parts of each are folded up.
const FEW_PERSONS = 3;

// Everything that is shown follows from this; `render` shows it.
const state = {
  about: null, // `/info`
  album: [], // of items
  item: null, // the one that is shown
  map: null, // its masks
  said: null, // [key, values as a function]: words are found when they are shown, in the language of then
  saidOf: null, // the item that it is about
  refusal: null,
  retry: null,
  pinned: null, // {part, person}, either of them null: what is highlighted until let go
  pointed: null, // the same under the pointer or the focus
  background: { kind: "photo", colour: "#f4f4f2", blur: 0.4, picture: null }, // for all photos
  get photo() { return this.item?.photo ?? null; },
  get report() { return this.item?.report ?? null; },
  get reportBlob() { return this.item?.reportBlob ?? null; },
  get delivery() { return this.item?.delivery ?? null; },
};

// Refusals of the photo itself: trying again would not help.
const FINAL = new Set(["body_too_large", "too_many_pixels", "too_little_memory", "answer_too_large", "unsupported", "undecodable", "not_readable_here"]);

// --- what is said

function say(key, values = () => ({})) {
  Object.assign(state, { said: [key, values], saidOf: null, refusal: null, retry: null });
  renderSaid();
}

// How far an item is. What was wrong with the one that is shown stays to be read.
function tell(item, key, values) {
  if (item === state.item) {
    say(key, values);
  } else {
    state.said = [key, values];
  }
  state.saidOf = item;
  renderSaid();
}

function fail(error, retry) {
  if (error.code === "cancelled") return say("cancelled");
  // A fault of the page itself is one to see in the console.
  if (!(error instanceof Refusal)) setTimeout(() => { throw error; });
  state.refusal = error;
  state.retry = FINAL.has(error.code) ? null : retry;
  state.said = null;
  if (error.code === "unauthorized") $("access").open = true;
  renderSaid();
}

function renderSaid() {
  const { said, refusal } = state;
  $("status").textContent = said ? word(said[0], said[1]()) : "";
  hide("problem", !refusal);
  $("sentence").textContent = refusal ? refusal.message.replace(/^./u, (first) => first.toUpperCase()) : "";
  $("advice").textContent = refusal ? advice(refusal.code, refusal.values) : "";
  $("again").hidden = !state.retry;
}

// Hides an element or shows it. The focus, were it inside, would be lost: it goes to what is said.
function hide(id, is) {
  if (is && $(id).contains(document.activeElement)) $("status").focus();
  $(id).hidden = is;
}

// Something is running: `share` of an upload, or none while nobody knows how long it takes.
let clock = null;
function work() {
  const begin = performance.now();
  const tick = () => { $("elapsed").textContent = word("seconds", { n: number((performance.now() - begin) / 1e3) }); };
  tick();
  clearInterval(clock);
  clock = setInterval(tick, 500);
  progress(null);
  $("working").hidden = false;
  $("view").classList.toggle("busy", running?.job.item === state.item && !state.report);
}

function progress(share) {
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function rest() {
  clearInterval(clock);
  hide("working", true);
  $("view").classList.remove("busy");
}

// --- which photo is shown

// Shows an item, and what is known of it.
async function present(item) {
  const pinned = tool() === "background" ? item.keep : null;
  Object.assign(state, { item, map: null, pinned, pointed: null, refusal: item.refusal, retry: null, said: null });
  if (item.stage === "failed") fail(item.refusal, () => queueParse(item));
  look({ zoom: 1, x: 0, y: 0 });
  item.shown = show(item.upright ?? item.photo);
  $("view").classList.toggle("busy", running?.job.item === item && !item.report);
  render();
  renderSaid();
  renderStrip();
  if (item.report) await reveal(item);
}

// Draws the masks of the item that is shown.
async function reveal(item) {
  const map = await LabelMap.of(item.report, state.about.background_id);
  if (item !== state.item) return;
  state.map = map;
  $("view").classList.remove("busy");
  say(item.report.persons.length ? "found" : "found_nobody", found);
  render();
  // The second frame begins when the first has been drawn.
  requestAnimationFrame(() => requestAnimationFrame(() => performance.measure("m2fp-first-mask", "m2fp-answer")));
  await straighten(item, await item.shown);
}

const found = () => ({ persons: counted("persons", state.report.persons.length), parts: counted("parts", parts().filter(isCounted).length) });
// Parts so small that the report calls them minor are listed and not counted.
const countedParts = (person) => person.parts.filter(({ minor }) => !minor).length;
const isCounted = ({ id, minor }) => {
  const held = state.report.persons.flatMap((person) => person.parts.filter(({ class_id }) => class_id === id));
  return !minor && !(held.length && held.every((part) => part.minor));
};
const anything = () => state.report.persons.length + parts().length > 0;
const parts = () => state.report.classes.filter((one) => one.id !== state.about.background_id && one.id !== state.about.person_id);
const className = (id) => {
  const { name } = state.about.classes.find((one) => one.id === id);
  return WORDS[language].names[name] ?? name;
};

// Shows the photo as the browser reads it, upright; gives its size, or null where it cannot.
async function show(blob) {
  const image = $("photo");
  const url = URL.createObjectURL(blob);
  URL.revokeObjectURL(image.src);
  image.src = url;
  try {
    await image.decode();
  } catch {
    // Unless another photo has come meanwhile.
    if (image.src === url) {
      URL.revokeObjectURL(url);
      image.removeAttribute("src");
      $("desk").hidden = !state.report;
    }
    return null;
  }
  const size = { width: image.naturalWidth, height: image.naturalHeight };
  frame(size);
  return size;
}

// A photo that the browser does not read (TIFF), or not upright, is shown as the server reads it.
function straighten(item, size) {
  const { width, height } = item.report.image;
  if (item.upright || (size && Math.abs(size.width / size.height - width / height) < 0.01 * (width / height))) return;
  enqueue({ item, urgent: true, run: async (signal) => {
    try {
      item.upright = await item.delivery.parse("output=overlay&alpha=0", { signal });
      if (item === state.item) {
        item.shown = show(item.upright);
        await item.shown;
        recompose();
      }
    } catch (error) {
      if (item === state.item) fail(error, () => { say("found", found); straighten(item, size); });
    }
  } });
}

function frame({ width, height }) {
  $("stage").style.setProperty("--ratio", width / height);
  $("desk").hidden = false;
  look(sight);
}

// --- what is shown

function render() {
  // Until its masks are drawn, a report is not shown.
  const report = state.map && state.report;
  for (const id of ["hero", "give"]) $(id).classList.toggle("small", Boolean(state.photo));
  hide("result", !report);
  for (const id of ["controls", "divider"]) hide(id, !report || !anything());
  $("stage").classList.toggle("done", Boolean(report));
  for (const id of ["parts", "marks", "edit"]) $(id).hidden = true;
  $("badges").replaceChildren();
  $("warnings").replaceChildren();
  if (!report) {
    $("pointed").textContent = "";
    $("stage").setAttribute("aria-label", word("picture"));
    return;
  }
  frame(report.image);
  colour();
  renderLists();
  renderRecolour();
  renderWords();
  renderTool();
}

function renderWords() {
  const { report, delivery } = state;
  const list = parts().map((one) => `${className(one.id)} ${percent(one.fraction)}`).join(", ");
  $("stage").setAttribute("aria-label", word("summary", { photo: word("picture"), persons: found().persons, list }));
  $("plan").textContent = word(report.plan.tiles > 1 ? "plan_tiles" : "plan", {
    working: `${report.plan.working_width}×${report.plan.working_height}`,
    photo: pixels(report.image),
    tiles: report.plan.tiles,
    peak: number(report.memory.peak_rss_mb),
    limit: number(report.memory.limit_mb),
    s: number(report.timings_ms.total / 1e3, 2),
  });
  $("sent").hidden = delivery.sent === state.photo && state.item.origin !== "here";
  renderCode();
  renderWarnings();
}

function renderWarnings() {
  const { report, delivery, photo } = state;
  const notes = [];
  if (delivery.reason) {
    notes.push(word(delivery.reason, {
      name: photo.name, bytes: bytes(photo.size), most: bytes(delivery.most),
      from: pixels(delivery.from), to: pixels(delivery.to), size: bytes(delivery.sent.size),
    }));
  }
  if (!state.map.complete) notes.push(word("masks_missing"));
  $("warnings").replaceChildren(...notes.concat(report.warnings).map((text) => element("li", { textContent: text })));
}

function renderModel() {
  if (!state.about) return;
  const { model, limits, uploads } = state.about;
  $("model").textContent = word("model", { ...model, memory: number(limits.memory_mb) });
  document.querySelector("footer [data-word]").textContent = word(uploads ? "privacy_uploads" : "privacy");
}

function renderLists() {
  const { report } = state;
  const area = report.image.width * report.image.height;
  const colours = new Map(state.about.classes.map((one) => [one.id, `rgb(${one.color})`]));
  $("legend").replaceChildren(...parts().map((one) => element("li", {}, target(
    { part: one.id, person: null }, colours.get(one.id), className(one.id), percent(one.fraction),
  ))));
  $("persons").replaceChildren(...report.persons.map((person) => element("li", {},
    target({ part: null, person: person.id }, personColour(person.id), word("person", { id: person.id }),
      word("person_score", { score: percent(person.score), area: percent(person.pixels / area) })),
    element("details", { open: report.persons.length <= FEW_PERSONS },
      element("summary", { textContent: counted("parts", countedParts(person)) }),
      element("ul", {}, ...person.parts.map((part) => element("li", {}, target(
        { part: part.class_id, person: person.id }, colours.get(part.class_id), className(part.class_id), percent(part.pixels / area),
      )))),
    ),
  )));
  if (!report.persons.length) $("persons").append(element("li", { textContent: word("nobody") }));
  if (!parts().length) $("legend").append(element("li", { textContent: word("no_parts") }));
  const badges = report.persons.length > 1 ? report.persons.filter((person) => person.bbox) : [];
  $("badges").replaceChildren(...badges.map((person) => {
    const badge = element("span", { className: "badge", textContent: person.id });
    const [x, y, width] = person.bbox;
    badge.style.left = `clamp(1em, ${((x + width / 2) / report.image.width) * 100}%, 100% - 1em)`;
    badge.style.top = `max(1.4em, ${(y / report.image.height) * 100}%)`;
    return badge;
  }));
}

// A button that stands for a part, a person or a person's part.
function target(what, colour, name, share) {
  const square = document.createElementNS(SVG, "svg");
  square.setAttribute("viewBox", "0 0 1 1");
  square.setAttribute("aria-hidden", "true");
  const fill = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ width: 1, height: 1, fill: colour })) fill.setAttribute(key, value);
  square.append(fill);
  const label = element("span", { textContent: name });
  const button = element("button", { className: "target" }, square, label, element("small", { textContent: share }));
  button.what = what;
  on(button, "pointerenter", () => point(what));
  on(button, "pointerleave", () => point(null));
  on(button, "focus", () => point(what));
  on(button, "blur", () => point(null));
  on(button, "click", () => pin(what));
  return button;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// --- colours

// Hues a golden angle apart, so that neighbours in number differ.
const personHue = (id) => (id * 137.508) % 360;
const personColour = (id) => `hsl(${personHue(id)} 75% 50%)`;

const rgba = ([r, g, b], alpha = 255) => new Uint32Array(new Uint8ClampedArray([r, g, b, alpha]).buffer)[0];

// Paints a canvas of the map's size: `pick(i)` is a pixel's colour.
function paint(canvas, pick) {
  const { width, height } = state.map;
  Object.assign(canvas, { width, height });
  const picture = new ImageData(width, height);
  const out = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < out.length; i++) out[i] = pick(i);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const pointsAtPersons = () => $("edit").hidden && byPerson();
const byPerson = () => document.querySelector("[name=colour]:checked").value === "persons";

function colour() {
  const { map, about, report } = state;
  const table = new Uint32Array(256);
  if (byPerson()) for (const { id } of report.persons) table[id] = rgba(rgb(personColour(id)));
  else for (const one of about.classes) if (one.id !== about.background_id) table[one.id] = rgba(one.color);
  const values = byPerson() ? map.persons : map.classes;
  paint($("parts"), (i) => table[values[i]]);
}

// --- highlighting, both ways

const same = (a, b) => (a && b ? a.part === b.part && a.person === b.person : a === b);
const keyOf = ({ part, person }) => `${part ?? ""}/${person ?? ""}`;

function point(what) {
  if (same(what, state.pointed)) return;
  state.pointed = what;
  renderMarks();
}

function pin(what) {
  state.pinned = same(what, state.pinned) ? null : what;
  renderFocus();
}

// What follows from what is pinned.
function renderFocus() {
  renderMarks();
  const { pinned } = state;
  $("recolour").value = pinned ? keyOf(pinned) : "";
  $("kept").textContent = pinned ? word("kept", { what: named(pinned) }) : word("kept_all");
  hide("focus-mask", !pinned);
  if (pinned) $("focus-mask").textContent = word("focus_mask", { what: named(pinned) });
  if (tool() === "background") recompose();
}

function renderMarks() {
  const { map, pinned, pointed } = state;
  const edits = tool() !== "parts";
  const what = pointed || pinned;
  for (const button of all(".target")) {
    button.setAttribute("aria-pressed", same(button.what, pinned));
    // The thing itself, and of a person's part on the photo also the person and the part.
    button.classList.toggle("lit", Boolean(what) && covers(button.what, what.part, what.person));
  }
  $("pointed").textContent = what ? describe(what) : anything() ? handed("hint") : "";
  // An edited photo is to be seen as it is, but for what one points at.
  const marked = edits ? pointed : what;
  $("marks").hidden = !marked;
  if (!marked) return;
  const { width, height } = map;
  const chosen = map.chosen(marked);
  // A white line inside the edge and a black one outside: seen on any photo, whatever colours one tells apart. About two
  // pixels of a screen.
  const [white, black, shade] = [rgba([255, 255, 255]), rgba([0, 0, 0]), edits ? 0 : rgba([0, 0, 0], 140)];
  const reach = Math.max(1, Math.round(Math.max(width, height) / 800));
  const steps = [-reach, reach, -reach * width, reach * width];
  paint($("marks"), (i) => {
    const here = chosen[i];
    for (const step of steps) {
      const there = chosen[i + step];
      if (there !== undefined && there !== here) return here ? white : black;
    }
    return here ? 0 : shade;
  });
}

const named = ({ part, person }) => [person === null ? null : word("person", { id: person }), part === null ? null : className(part)]
  .filter(Boolean).join(" · ");

function describe({ part, person }) {
  const { report } = state;
  const area = report.image.width * report.image.height;
  const one = report.persons.find(({ id }) => id === person);
  const counted = person === null
    ? report.classes.find(({ id }) => id === part)
    : part === null ? one : one?.parts.find(({ class_id }) => class_id === part);
  const share = counted ? word("of_photo", { area: percent(counted.pixels / area) }) : null;
  return [named({ part, person }), share].filter(Boolean).join(" · ");
}

// Scrolls the list of persons, where it scrolls, to one who is not in sight there; the page stays where it is.
function scrollToPerson(person) {
  const list = $("persons");
  const row = list.children[state.report.persons.findIndex(({ id }) => id === person)];
  if (!row) return;
  const top = row.offsetTop;
  if (top < list.scrollTop || top + row.firstChild.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
}

// --- the camera

// Fingers do not point, and bring no Escape.
const handed = (key) => word(isPhone() ? `${key}_touch` : key);

// Phones have a better camera than a page can be: theirs is asked where there is one.
const isPhone = () => matchMedia("(pointer: coarse)").matches;

async function take() {
  if (isPhone()) return $("phone-camera").click();
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    $("camera").showModal();
  } catch (error) {
    fail(new Refusal("other", word("no_camera", { reason: error.message })), take);
  }
}

function shoot() {
  const video = $("video");
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => give(new File([blob], "camera.jpg", { type: "image/jpeg" }), "here"), "image/jpeg", 0.92);
  $("camera").close();
}

// The request for a sample. A photo that is given meanwhile is what is wanted, and ends it.
let fetching = null;
async function sample(name) {
  const known = state.album.find((item) => item.origin === "sample" && item.photo.name === name);
  if (known) return known === state.item || present(known);
  fetching?.abort();
  const abort = new AbortController();
  fetching = abort;
  say("reading", () => ({ name }));
  work();
  try {
    const blob = await request("GET", BASE + name, { signal: abort.signal });
    if (fetching === abort) give(new File([blob], name, { type: "image/jpeg" }), "sample");
  } catch (error) {
    if (fetching !== abort) return;
    fetching = null;
    if (!running) rest();
    fail(error, () => sample(name));
  }
}

// --- wiring

function giveAll(files, origin) {
  if (files?.length) give([...files], origin);
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = word("title");
  for (const one of all("[data-word]")) one.textContent = word(one.dataset.word);
  for (const one of all("[data-label]")) one.setAttribute("aria-label", word(one.dataset.label));
  $("drop").textContent = handed("drop");
  $("divider").title = word("compare");
  Object.assign($("language"), { textContent: word("other_language"), lang: language === "zh" ? "en" : "zh-Hans" });
  renderSwatches("background-swatches", (colour) => setBackground({ colour }));
  renderSwatches("recolour-swatches", setColour);
  renderTheme();
  renderOptions();
  renderSaid();
  renderModel();
  renderStrip();
  look(sight);
  render();
}

// Light or dark as the system has it, until somebody says otherwise; nothing is kept.
const systemTheme = matchMedia("(prefers-color-scheme: dark)");
let theme = null;
function renderTheme() {
  const is = theme ?? (systemTheme.matches ? "dark" : "light");
  document.documentElement.dataset.theme = is;
  $("theme").textContent = is === "dark" ? "☀" : "☾";
  $("theme").setAttribute("aria-label", word(is === "dark" ? "theme_light" : "theme_dark"));
}
on(systemTheme, "change", renderTheme);
on($("theme"), "click", () => {
  theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  renderTheme();
});

on($("language"), "click", () => {
  language = language === "zh" ? "en" : "zh";
  translate();
});
on($("choose"), "click", () => $("file").click());
on($("take"), "click", take);
$("take").hidden = !isPhone() && !navigator.mediaDevices;
for (const button of all("[data-sample]")) on(button, "click", () => sample(button.dataset.sample));
for (const id of ["file", "phone-camera"]) {
  on($(id), "change", (event) => {
    giveAll(event.target.files, id === "file" ? "disk" : "here");
    // The same file may be chosen again.
    event.target.value = "";
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  on(document, kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") giveAll(event.dataTransfer.files, "disk");
  });
}
on(document, "paste", (event) => giveAll(event.clipboardData.files, "here"));
on($("cancel"), "click", cancel);
on($("again"), "click", () => state.retry());
on($("token"), "change", introduce);

on($("shoot"), "click", shoot);
on($("leave"), "click", () => $("camera").close());
on($("camera"), "close", () => {
  for (const track of $("video").srcObject.getTracks()) track.stop();
});

on($("opacity"), "input", () => { $("parts").style.opacity = opacity(); });
for (const radio of all("[name=colour]")) on(radio, "change", colour);

wireStage((what) => {
  point(what);
  if (what?.person) scrollToPerson(what.person);
}, (what) => {
  state.pinned = what && !same(what, state.pinned) ? what : null;
  renderFocus();
});
on(document, "keydown", (event) => {
  if (event.key !== "Escape" || !state.map) return;
  Object.assign(state, { pinned: null, pointed: null });
  renderFocus();
});

let toolBefore = "parts";
for (const radio of all("[name=tool]")) {
  on(radio, "change", () => {
    // What was chosen to be recoloured is not what is to be kept or looked at.
    if (toolBefore === "recolour") state.pinned = tool() === "background" ? state.item.keep : null;
    toolBefore = tool();
    renderTool();
  });
}
for (const radio of all("[name=background]")) {
  on(radio, "change", () => {
    setBackground({ kind: radio.value });
    if (radio.value === "picture" && !state.background.picture) $("picture-file").click();
  });
}
on($("background-colour"), "input", () => setBackground({ colour: $("background-colour").value }));
on($("blur"), "input", () => setBackground({ blur: $("blur").value / 100 }));
on($("choose-picture"), "click", () => $("picture-file").click());
on($("picture-file"), "change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  try {
    if (file) setBackground({ picture: await createImageBitmap(file, { imageOrientation: "from-image" }) });
  } catch {
    fail(new Refusal("not_a_picture", word("not_a_picture")), null);
  }
});
on($("recolour"), "change", chooseRecolour);
on($("recolour-colour"), "input", () => setColour($("recolour-colour").value));
on($("recolour-undo"), "click", () => {
  if (state.pinned) state.item.recolours.delete(keyOf(state.pinned));
  recompose();
});
on($("save-edit"), "click", saveEdit);
on($("focus-mask"), "click", saveFocus);
on($("zip"), "click", saveAll);

on($("options"), "submit", (event) => event.preventDefault());
on($("options"), "input", renderCode);
on($("rerun"), "click", () => $("options").reportValidity() && queueParse(state.item));
for (const radio of all("[name=code]")) {
  on(radio, "change", () => {
    for (const id of ["curl", "python", "javascript"]) $(id).hidden = id !== radio.value;
  });
}

for (const button of all("[data-output]")) {
  on(button, "click", () => isBusy() || download(button.dataset.output));
}
on($("sent"), "click", () => save(state.delivery.sent, state.delivery.sent.name));
on($("copy"), "click", copy);

// Asks the server what it is. Where it wants a token first, it says so.
async function introduce() {
  try {
    state.about = await info();
    renderModel();
    $("access").hidden = !$("token").value;
    const { refusal, retry } = state;
    paused = false;
    if (refusal?.code === "unauthorized") retry === introduce ? say("admitted") : retry();
    else if (retry === introduce) {
      state.refusal = state.retry = null;
      renderSaid();
    }
    pump();
  } catch (error) {
    // A photo that waits for the token goes on waiting.
    fail(error, state.retry ?? introduce);
  }
}

$("parts").style.opacity = opacity();
translate();
introduce();
