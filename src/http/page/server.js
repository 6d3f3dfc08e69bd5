// Requests to the server this page came from, and to the bucket that it names for large photos.

// The page may be mounted anywhere, with or without a trailing slash.
const BASE = location.pathname.replace(/\/*$/, "/");

// Why something was not done: `code` as the API's problems have it, or one of this page's own.
class Refusal extends Error {
  constructor(code, sentence, values = {}) {
    super(sentence);
    Object.assign(this, { code, values });
  }
}

// One request; its answer as a Blob, or a Refusal. `onSent` is told the share of the body that is on its way.
function request(method, url, { body = null, headers = {}, signal, onSent } = {}) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) xhr.setRequestHeader(name, value);
    if (onSent) {
      xhr.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
      xhr.upload.onload = () => onSent(1);
    }
    xhr.onload = () => (xhr.status < 300 ? resolve(xhr.response) : refusal(xhr).then(reject));
    xhr.onerror = () => reject(new Refusal("unreachable", word("unreachable")));
    xhr.onabort = () => reject(new Refusal("cancelled", word("cancelled")));
    signal?.addEventListener("abort", () => xhr.abort());
    xhr.send(body);
  });
}

// The server's own sentence, a gateway's in front of it (`message`), or at least the status.
async function refusal(xhr) {
  const text = await xhr.response.text();
  let problem = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // Storage answers in XML, proxies in HTML.
  }
  const code = problem.code || { 401: "unauthorized", 403: "forbidden", 413: "body_too_large", 502: "internal", 503: "busy", 504: "deadline" }[xhr.status];
  const sentence = problem.detail || problem.message || problem.Message || problem.title || xhr.statusText || String(xhr.status);
  return new Refusal(code || "other", `${sentence} (${xhr.status})`, {
    seconds: xhr.getResponseHeader("retry-after") || 1,
    request_id: problem.request_id || xhr.getResponseHeader("x-request-id") || "",
  });
}

// Asks a route of the API.
function ask(method, path, options = {}) {
  const token = document.getElementById("token").value.trim();
  const headers = token ? { ...options.headers, authorization: `Bearer ${token}` } : options.headers;
  return request(method, BASE + path, { ...options, headers });
}

const parseJson = async (blob) => JSON.parse(await blob.text());

// What stays the same while the page is open; asked again after a refusal.
let asked = null;
function info() {
  asked ??= ask("GET", "info").then(parseJson).catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

// The photo as the server gets it: as it is where a request carries it, else through the bucket where there is one,
// else smaller. Gives `parse(query, options)`, which asks for an output, and what was done to the photo.
async function deliver(photo, about, { signal, onPhase }) {
  const most = about.limits.max_body_bytes;
  const readable = !photo.type.startsWith("image/") || about.image_types.includes(photo.type);
  if (readable && photo.size <= most) return { sent: photo, parse: sender(photo, photo.type) };
  if (about.uploads && about.image_types.includes(photo.type) && photo.size <= about.uploads.max_bytes) {
    return { sent: photo, uploaded: true, parse: await upload(photo, { signal, onPhase }) };
  }
  onPhase("converting");
  let smaller;
  try {
    smaller = await reduce(photo, most);
  } catch (error) {
    // What neither reads, the server says best.
    if (photo.size <= most) return { sent: photo, parse: sender(photo, photo.type) };
    throw error;
  }
  return { ...smaller, reason: readable ? "reduced" : "converted", most, parse: sender(smaller.sent, "image/jpeg") };
}

function sender(photo, type) {
  // Never the type of a form or of JSON, whatever the file claims to be.
  const headers = { "content-type": type.startsWith("image/") ? type : "application/octet-stream" };
  return (query, options) => ask("POST", `parse?${query}`, { ...options, headers, body: photo });
}

async function upload(photo, { signal, onPhase }) {
  const headers = { "content-type": "application/json" };
  const wish = JSON.stringify({ content_type: photo.type, bytes: photo.size });
  const answer = await parseJson(await ask("POST", "uploads", { headers, body: wish, signal }));
  const signed = { ...answer.upload.headers };
  // Browsers set these themselves and refuse to be told.
  for (const name of ["content-length", "host"]) delete signed[name];
  onPhase("uploading");
  await request(answer.upload.method, answer.upload.url, {
    headers: signed, body: photo, signal, onSent: (share) => onPhase("uploading", share),
  });
  const body = JSON.stringify(answer.parse);
  return (query, options) => ask("POST", `parse?${query}`, { ...options, headers, body });
}

// The least worth sending.
const MIN_PIXELS = 1e4;

// The photo, upright, as a JPEG of at most `most` bytes.
async function reduce(photo, most) {
  let picture;
  try {
    picture = await createImageBitmap(photo, { imageOrientation: "from-image" });
  } catch {
    throw new Refusal("not_readable_here", word("not_readable_here"));
  }
  const from = { width: picture.width, height: picture.height };
  const canvas = document.createElement("canvas");
  let area = Math.min(from.width * from.height, CANVAS_PIXELS);
  let blob;
  do {
    const scale = Math.sqrt(area / (from.width * from.height));
    canvas.width = Math.max(1, Math.round(from.width * scale));
    canvas.height = Math.max(1, Math.round(from.height * scale));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    // JPEG knows no transparency.
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    area *= Math.min(0.9, (most / (blob?.size ?? Infinity)) * 0.9 || 0.5);
  } while ((!blob || blob.size > most) && area > MIN_PIXELS);
  picture.close();
  if (!blob || blob.size > most) throw new Refusal("not_readable_here", word("not_readable_here"));
  const name = `${photo.name.replace(/\.\w+$/, "")}.reduced.jpg`;
  return { sent: new File([blob], name, { type: "image/jpeg" }), from, to: { width: canvas.width, height: canvas.height } };
}
