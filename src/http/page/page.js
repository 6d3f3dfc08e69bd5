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
  photo: null, // the File given
  delivery: null, // how the server has it
  report: null,
  reportBlob: null,
  map: null,
  said: null, // [key, values as a function]: words are found when they are shown, in the language of then
  refusal: null,
  retry: null,
  several: 1, // how many photos were given at once
  origin: null, // where the photo is from: "disk", "sample", or "here" when no file of the user's has it
  pinned: null, // {part, person}, either of them null: what is highlighted until let go
  pointed: null, // the same under the pointer or the focus
  abort: null,
};

// Refusals of the photo itself: trying again would not help.
const FINAL = new Set(["body_too_large", "too_many_pixels", "too_little_memory", "answer_too_large", "unsupported", "undecodable", "not_readable_here"]);

// --- what is said

function say(key, values = () => ({})) {
  state.said = [key, values];
  state.refusal = state.retry = null;
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

// What is running: `share` of an upload, or none while nobody knows how long it takes.
let clock = null;
function work(abort) {
  state.abort = abort;
  const begin = performance.now();
  const tick = () => { $("elapsed").textContent = word("seconds", { n: number((performance.now() - begin) / 1e3) }); };
  tick();
  clearInterval(clock);
  clock = setInterval(tick, 500);
  progress(null);
  $("working").hidden = false;
  busy(true);
}

function progress(share) {
  if (share === null) $("progress").removeAttribute("value");
  else $("progress").value = share;
}

function rest() {
  clearInterval(clock);
  state.abort = null;
  hide("working", true);
  busy(false);
}

function busy(is) {
  for (const button of all("[data-output]")) button.setAttribute("aria-disabled", is);
}

// --- a photo is given

// `count`: of the files given at once.
async function give(file, count = 1, origin = "disk") {
  state.abort?.abort();
  const photo = plainlyNamed(file);
  const abort = new AbortController();
  Object.assign(state, { photo, delivery: null, report: null, reportBlob: null, map: null, pinned: null, pointed: null, several: count, origin });
  const name = () => ({ name: photo.name, size: bytes(photo.size) });
  say("reading", name);
  work(abort);
  render();
  try {
    const shown = show(photo);
    state.about = await info();
    renderModel();
    const phase = (key, share = null) => {
      if (abort.signal.aborted) return;
      if (state.said?.[0] !== key) say(key, name);
      progress(share);
    };
    const delivery = await deliver(photo, state.about, { signal: abort.signal, onPhase: phase });
    if (abort.signal.aborted) throw new Refusal("cancelled", word("cancelled"));
    phase(delivery.uploaded ? "parsing" : "uploading");
    const onSent = (share) => phase(share < 1 ? "uploading" : "parsing", share < 1 ? share : null);
    const blob = await delivery.parse("output=json&rle=true", { signal: abort.signal, onSent: delivery.uploaded ? null : onSent });
    performance.mark("m2fp-answer");
    const report = await parseJson(blob);
    if (!report.image) throw new Refusal("other", word("not_a_report"));
    const map = new LabelMap(report, state.about.background_id);
    if (state.abort !== abort) return;
    Object.assign(state, { delivery, report, reportBlob: blob, map });
    say(report.persons.length ? "found" : "found_nobody", found);
    render();
    // The second frame begins when the first has been drawn.
    requestAnimationFrame(() => requestAnimationFrame(() => performance.measure("m2fp-first-mask", "m2fp-answer")));
    rest();
    await straighten(photo, await shown);
  } catch (error) {
    if (state.abort !== abort) return;
    rest();
    fail(error, () => give(file, count, origin));
  }
}

// A name may hold anything; line breaks in it would end a command's comment.
function plainlyNamed(file) {
  const name = file.name.replace(/\p{Cc}/gu, "_");
  return name === file.name ? file : new File([file], name, { type: file.type });
}

const found = () => ({ persons: counted("persons", state.report.persons.length), parts: counted("parts", parts().length) });
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
async function straighten(photo, size) {
  const { width, height } = state.report.image;
  if (size && Math.abs(size.width / size.height - width / height) < 0.01 * (width / height)) return;
  try {
    const upright = await state.delivery.parse("output=overlay&alpha=0");
    if (state.photo === photo) await show(upright);
  } catch (error) {
    if (state.photo === photo) fail(error, () => { say("found", found); straighten(photo, size); });
  }
}

function frame({ width, height }) {
  $("stage").style.setProperty("--ratio", width / height);
  $("desk").hidden = false;
}

// --- what is shown

function render() {
  const { report } = state;
  $("give").classList.toggle("small", Boolean(state.photo));
  hide("result", !report);
  hide("controls", !report || !anything());
  $("stage").classList.toggle("done", Boolean(report));
  for (const id of ["parts", "marks"]) $(id).hidden = !report;
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
  renderWords();
  renderMarks();
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
  $("sent").hidden = delivery.sent === state.photo && state.origin !== "here";
  $("curl").textContent = curl();
  renderWarnings();
}

function renderWarnings() {
  const { report, delivery, photo } = state;
  const notes = [];
  if (state.several > 1) notes.push(word("several", { count: state.several }));
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
      element("summary", { textContent: counted("parts", person.parts.length) }),
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

function rgb(css) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.fillStyle = css;
  const value = parseInt(pen.fillStyle.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

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
const covers = (what, part, person) => (what.part === null || what.part === part) && (what.person === null || what.person === person);

function point(what) {
  if (same(what, state.pointed)) return;
  state.pointed = what;
  renderMarks();
}

function pin(what) {
  state.pinned = same(what, state.pinned) ? null : what;
  renderMarks();
}

function renderMarks() {
  const { map, pinned, pointed } = state;
  const what = pointed || pinned;
  for (const button of all(".target")) {
    button.setAttribute("aria-pressed", same(button.what, pinned));
    // The thing itself, and of a person's part on the photo also the person and the part.
    button.classList.toggle("lit", Boolean(what) && covers(button.what, what.part, what.person));
  }
  $("pointed").textContent = what ? describe(what) : anything() ? handed("hint") : "";
  $("marks").hidden = !what;
  if (!what) return;
  const { width, classes, persons } = map;
  const inside = (i) => covers(what, classes[i], persons[i]);
  const chosen = new Uint8Array(classes.length);
  for (let i = 0; i < chosen.length; i++) chosen[i] = inside(i);
  const [white, black, shade] = [rgba([255, 255, 255]), rgba([0, 0, 0]), rgba([0, 0, 0], 140)];
  const differs = (i, j) => chosen[j] !== undefined && chosen[i] !== chosen[j];
  // A white line inside the edge and a black one outside: seen on any photo, whatever colours one tells apart.
  paint($("marks"), (i) => {
    const edge = differs(i, i - 1) || differs(i, i + 1) || differs(i, i - width) || differs(i, i + width);
    if (chosen[i]) return edge ? white : 0;
    return edge ? black : shade;
  });
}

function describe({ part, person }) {
  const { report } = state;
  const area = report.image.width * report.image.height;
  const one = report.persons.find(({ id }) => id === person);
  const counted = person === null
    ? report.classes.find(({ id }) => id === part)
    : part === null ? one : one?.parts.find(({ class_id }) => class_id === part);
  const names = [person === null ? null : word("person", { id: person }), part === null ? null : className(part)];
  const share = counted ? word("of_photo", { area: percent(counted.pixels / area) }) : null;
  return names.concat(share).filter(Boolean).join(" · ");
}

// What of the photo is under a pointer: a person's part, a part, a person, or nothing. Where persons are coloured, they
// are what is pointed at.
function underPointer(event) {
  const box = $("stage").getBoundingClientRect();
  const { part, person } = state.map.at((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  const isPart = part !== state.about.background_id && !(person && byPerson());
  return isPart || person ? { part: isPart ? part : null, person: person || null } : null;
}

// Scrolls the list of persons, where it scrolls, to one who is not in sight there; the page stays where it is.
function reveal(person) {
  const list = $("persons");
  const row = list.children[state.report.persons.findIndex(({ id }) => id === person)];
  if (!row) return;
  const top = row.offsetTop;
  if (top < list.scrollTop || top + row.firstChild.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top;
}

// --- downloads

const opacity = () => $("opacity").value / 100;
const query = (output) => (output === "overlay" ? `output=overlay&alpha=${opacity()}` : output === "json" ? "output=json&rle=true" : `output=${output}`);

async function download(output) {
  const name = state.photo.name + SUFFIXES[output];
  if (output === "json") return save(state.reportBlob, name);
  const abort = new AbortController();
  say("making", () => ({ what: word(output) }));
  work(abort);
  try {
    const answer = await state.delivery.parse(query(output), { signal: abort.signal });
    rest();
    save(answer, name);
  } catch (error) {
    if (state.abort !== abort) return;
    rest();
    fail(error, () => download(output));
  }
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  // The browser has begun to read by then.
  setTimeout(() => URL.revokeObjectURL(url), 60e3);
  say("saved", () => ({ name }));
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

// The mask of this photo, as a shell would ask for it. The token is named, not shown.
function curl() {
  const { photo, delivery, origin } = state;
  const url = new URL(BASE, location.href).href;
  const run = "curl --fail-with-body";
  const auth = $("token").value.trim() ? ` -H "authorization: Bearer $M2FP_TOKEN"` : "";
  const lines = [];
  if (auth) lines.push(`# ${word("curl_token")}`);
  if (origin === "sample" && !delivery.reason) lines.push(`${run} -o sample.jpg ${quoted(`${url}sample.jpg`)}`);
  if (!$("sent").hidden) lines.push(`# ${word("curl_sent", { name: delivery.sent.name })}`);
  const out = `-o ${quoted(`${photo.name}.mask.png`)}`;
  if (delivery.uploaded) {
    const wish = `{"content_type": "${photo.type}", "bytes": ${photo.size}}`;
    lines.push(
      `${run}${auth} --json ${quoted(wish)} ${quoted(`${url}uploads`)} > upload.json`,
      `${run} -g -T ${quoted(photo.name)} -H ${quoted(`content-type: ${photo.type}`)} "$(jq -r .upload.url upload.json)"`,
      `jq .parse upload.json | ${run} -L${auth} --json @- ${quoted(`${url}parse?output=mask`)} ${out}`,
    );
  } else {
    lines.push(`${run} -L${auth} -H 'content-type: application/octet-stream' --data-binary ${quoted(`@${delivery.sent.name}`)} ${quoted(`${url}parse?output=mask`)} ${out}`);
  }
  return lines.join("\n");
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    say("copied");
  } catch {
    getSelection().selectAllChildren($("curl"));
    say("not_copied");
  }
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
  canvas.toBlob((blob) => give(new File([blob], "camera.jpg", { type: "image/jpeg" }), 1, "here"), "image/jpeg", 0.92);
  $("camera").close();
}

async function sample() {
  const name = "sample.jpg";
  state.abort?.abort();
  const abort = new AbortController();
  say("reading", () => ({ name }));
  work(abort);
  try {
    const blob = await request("GET", BASE + name, { signal: abort.signal });
    if (!abort.signal.aborted) give(new File([blob], name, { type: "image/jpeg" }), 1, "sample");
  } catch (error) {
    // A photo that was given meanwhile is what is wanted.
    if (state.abort !== abort) return;
    rest();
    fail(error, sample);
  }
}

// --- wiring

function openFirst(files, origin) {
  if (files?.length) give(files[0], files.length, origin);
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = word("title");
  for (const one of all("[data-word]")) one.textContent = word(one.dataset.word);
  for (const one of all("[data-label]")) one.setAttribute("aria-label", word(one.dataset.label));
  $("drop").textContent = handed("drop");
  Object.assign($("language"), { textContent: word("other_language"), lang: language === "zh" ? "en" : "zh-Hans" });
  renderSaid();
  renderModel();
  render();
}

on($("language"), "click", () => {
  language = language === "zh" ? "en" : "zh";
  translate();
});
on($("choose"), "click", () => $("file").click());
on($("take"), "click", take);
$("take").hidden = !isPhone() && !navigator.mediaDevices;
on($("sample"), "click", sample);
for (const id of ["file", "phone-camera"]) {
  on($(id), "change", (event) => {
    openFirst([...event.target.files], id === "file" ? "disk" : "here");
    // The same file may be chosen again.
    event.target.value = "";
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  on(document, kind, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragover");
    if (kind === "drop") openFirst(event.dataTransfer.files, "disk");
  });
}
on(document, "paste", (event) => openFirst(event.clipboardData.files, "here"));
on($("cancel"), "click", () => state.abort?.abort());
on($("again"), "click", () => state.retry());
on($("token"), "change", introduce);

on($("shoot"), "click", shoot);
on($("leave"), "click", () => $("camera").close());
on($("camera"), "close", () => {
  for (const track of $("video").srcObject.getTracks()) track.stop();
});

on($("opacity"), "input", () => { $("parts").style.opacity = opacity(); });
on($("compare"), "input", () => {
  const left = `${$("compare").value}%`;
  for (const id of ["parts", "marks", "badges"]) $(id).style.clipPath = `inset(0 0 0 ${left})`;
  $("divider").style.left = left;
  $("divider").hidden = $("compare").value === "0";
});
for (const radio of all("[name=colour]")) on(radio, "change", colour);

on($("stage"), "pointermove", (event) => {
  if (!state.map || event.pointerType === "touch") return;
  const what = underPointer(event);
  point(what);
  if (what?.person) reveal(what.person);
});
on($("stage"), "pointerleave", () => state.map && point(null));
on($("stage"), "click", (event) => {
  if (!state.map) return;
  const what = underPointer(event);
  state.pinned = what && !same(what, state.pinned) ? what : null;
  renderMarks();
});
on(document, "keydown", (event) => {
  if (event.key !== "Escape" || !state.map) return;
  Object.assign(state, { pinned: null, pointed: null });
  renderMarks();
});

for (const button of all("[data-output]")) {
  on(button, "click", () => state.abort || download(button.dataset.output));
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
    if (refusal?.code === "unauthorized") retry === introduce ? say("admitted") : retry();
    else if (retry === introduce) {
      state.refusal = state.retry = null;
      renderSaid();
    }
  } catch (error) {
    // A photo that waits for the token goes on waiting.
    fail(error, state.retry ?? introduce);
  }
}

$("parts").style.opacity = opacity();
translate();
introduce();
