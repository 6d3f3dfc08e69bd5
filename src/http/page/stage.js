// The stage: how near one looks at the photo, by wheel, fingers, buttons and keys, what one points at there, and the
// divider, left of which the photo is as it was.

const MOST_ZOOM = 8;
const ZOOM_STEP = 1.5;
// What is moved less was meant as a click, in CSS pixels.
const CLICK_SLACK = 5;
// The longest between the clicks of a double click, milliseconds.
const DOUBLE_MS = 350;

// What has gestures of its own.
const OWN = "button, #divider";
// Half of the divider's knob, which stays in the view, in CSS pixels.
const KNOB = 22;
// What a key moves the divider by, per cent.
const STEPS = {
  ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20, Home: -100, End: 100,
};

// How much of the photo, from its left, is as it was: per cent of its width.
let before = 0;

// `zoom`: how many times larger than it fits; `x`, `y`: where its corner is then, in CSS pixels from where it fits.
const sight = { zoom: 1, x: 0, y: 0 };
const pointers = new Map();
// Of the gesture that is going on: how far it has gone, and how it began.
let gesture = null;
let lastClick = { time: -Infinity, x: 0, y: 0 };

// Where the photo fits, without zoom, in the view.
function fitted() {
  const [view, stage] = [$("view").getBoundingClientRect(), $("stage").getBoundingClientRect()];
  return { left: stage.left - view.left, top: stage.top - view.top, width: stage.width, height: stage.height, view };
}

// Looks so; `smooth`: by and by, as far as the user likes motion.
function look({ zoom, x, y }, smooth = false) {
  const fit = fitted();
  zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
  // No edge comes inside the view where the photo is larger; where it is smaller, it stays in the middle.
  const held = (at, start, size, room) => {
    const spare = room - size * zoom;
    return spare >= 0 ? spare / 2 - start : Math.min(-start, Math.max(spare - start, at));
  };
  Object.assign(sight, { zoom, x: held(x, fit.left, fit.width, fit.view.width), y: held(y, fit.top, fit.height, fit.view.height) });
  if (zoom === 1) Object.assign(sight, { x: 0, y: 0 });
  const { style } = $("layers");
  style.transform = zoom === 1 ? "" : `translate(${sight.x}px, ${sight.y}px) scale(${zoom})`;
  style.setProperty("--zoom", zoom);
  $("view").classList.toggle("zoomed", zoom > 1);
  for (const id of ["layers", "divider"]) $(id).classList.toggle("smooth", smooth);
  placeDivider(fit);
  $("zoom-reset").textContent = `${number(zoom, 1)}×`;
  for (const [id, is] of [["zoom-out", zoom === 1], ["zoom-reset", zoom === 1], ["zoom-in", zoom === MOST_ZOOM]]) $(id).setAttribute("aria-disabled", is);
}

// Where the photo is cut; where that is out of sight, at the view's edge.
function placeDivider({ left, width, view }) {
  const at = (low, x, room) => Math.min(room - low, Math.max(low, x));
  const x = at(0, left + sight.x + (before / 100) * width * sight.zoom, view.width);
  $("divider").style.left = `${x}px`;
  $("divider").style.setProperty("--knob", `${at(KNOB, x, view.width) - x}px`);
}

function divide(share) {
  before = Math.min(100, Math.max(0, share));
  for (const id of ["edit", "parts", "marks", "badges"]) $(id).style.clipPath = `inset(0 0 0 ${before}%)`;
  $("divider").setAttribute("aria-valuenow", Math.round(before));
  $("divider").classList.remove("smooth");
  placeDivider(fitted());
}

function wireDivider(onGrip) {
  const divider = $("divider");
  on(divider, "pointerdown", (event) => {
    if (event.button) return;
    divider.setPointerCapture(event.pointerId);
    onGrip();
  });
  on(divider, "pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const { left, width } = $("layers").getBoundingClientRect();
    divide(((event.clientX - left) / width) * 100);
  });
  on(divider, "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(STEPS, event.key)) return;
    event.preventDefault();
    divide(before + STEPS[event.key]);
  });
}

// Zooms so that what is under a place of the window stays there; without one, under the view's middle.
function zoomTo(zoom, place = null, smooth = true) {
  const { view, left, top } = fitted();
  const x = (place ? place.x - view.left : view.width / 2) - left;
  const y = (place ? place.y - view.top : view.height / 2) - top;
  zoom = Math.min(MOST_ZOOM, Math.max(1, zoom));
  const ratio = zoom / sight.zoom;
  look({ zoom, x: x - (x - sight.x) * ratio, y: y - (y - sight.y) * ratio }, smooth);
}

const pan = (dx, dy, smooth = false) => look({ zoom: sight.zoom, x: sight.x + dx, y: sight.y + dy }, smooth);

// Middle and distance of the fingers, or the only one's place.
function grip() {
  const [one, two = one] = pointers.values();
  return { x: (one.x + two.x) / 2, y: (one.y + two.y) / 2, distance: Math.hypot(one.x - two.x, one.y - two.y) };
}

function press(event) {
  if (event.button || event.target.closest(OWN)) return;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  // A pen or a finger that leaves the photo still moves it.
  if (event.pointerType !== "mouse" || sight.zoom > 1) $("view").setPointerCapture(event.pointerId);
  gesture = { ...grip(), moved: gesture && pointers.size > 1 ? Infinity : 0 };
}

function drag(event) {
  if (!pointers.has(event.pointerId)) return false;
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const now = grip();
  const [dx, dy] = [now.x - gesture.x, now.y - gesture.y];
  gesture.moved += Math.hypot(dx, dy);
  if (pointers.size > 1 && gesture.distance) zoomTo(sight.zoom * (now.distance / gesture.distance), now, false);
  if (sight.zoom > 1) pan(dx, dy);
  Object.assign(gesture, now);
  return gesture.moved > CLICK_SLACK;
}

function release(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (pointers.size) Object.assign(gesture, grip(), { moved: Infinity });
}

// At its smallest the photo lets the page scroll; the wheel with Ctrl is also what a touchpad's pinch sends.
function wheel(event) {
  const out = event.deltaY > 0;
  if (!event.ctrlKey && sight.zoom === 1 && (out || scrollY > 0)) return;
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoomTo(sight.zoom * Math.exp((-event.deltaY * lines) / (event.ctrlKey ? 120 : 400)), { x: event.clientX, y: event.clientY }, false);
}

// Whether this click is the second of two; then it has zoomed.
function doubleClick(event) {
  const { timeStamp: time, clientX: x, clientY: y } = event;
  const double = time - lastClick.time < DOUBLE_MS && Math.hypot(x - lastClick.x, y - lastClick.y) < 6 * CLICK_SLACK;
  lastClick = { time: double ? -Infinity : time, x, y };
  if (double) zoomTo(sight.zoom > 1 ? 1 : 2.5, { x, y });
  return double;
}

const KEYS = {
  "+": () => zoomTo(sight.zoom * ZOOM_STEP),
  "=": () => zoomTo(sight.zoom * ZOOM_STEP),
  "-": () => zoomTo(sight.zoom / ZOOM_STEP),
  0: () => zoomTo(1),
};
const ARROWS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };

// Keys, but for what is typed and for the browser's own.
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("desk").hidden || $("camera").open) return;
  if (event.target.closest("input, select, textarea")) return;
  const arrow = event.target.id === "stage" && sight.zoom > 1 && ARROWS[event.key];
  if (arrow) pan(...arrow, true);
  else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
  else return;
  event.preventDefault();
}

// What of the photo is under a pointer: a person's part, a part, a person, or nothing. Where persons are coloured, they
// are what is pointed at.
function underPointer(event) {
  const box = $("layers").getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
  const { part, person } = state.map.at(x, y);
  const isPart = part !== state.about.background_id && !(person && pointsAtPersons());
  return isPart || person ? { part: isPart ? part : null, person: person || null } : null;
}

function wireStage(onHover, onPick) {
  const view = $("view");
  on(view, "pointerdown", press);
  on(view, "pointermove", (event) => {
    const dragged = drag(event);
    const points = event.pointerType !== "touch" && !dragged && !event.target.closest(OWN);
    if (state.map && points) onHover(underPointer(event));
  });
  for (const kind of ["pointerup", "pointercancel"]) on(view, kind, release);
  on(view, "pointerleave", () => state.map && onHover(null));
  on(view, "click", (event) => {
    if (event.target.closest(OWN) || gesture?.moved > CLICK_SLACK) return;
    if (state.map) onPick(underPointer(event));
    doubleClick(event);
  });
  on(view, "wheel", wheel);
  on(document, "keydown", key);
  on($("zoom-in"), "click", KEYS["+"]);
  on($("zoom-out"), "click", KEYS["-"]);
  on($("zoom-reset"), "click", KEYS[0]);
  const sizes = new ResizeObserver(() => look(sight));
  for (const one of [view, $("stage")]) sizes.observe(one);
  wireDivider(() => state.map && onHover(null));
}
