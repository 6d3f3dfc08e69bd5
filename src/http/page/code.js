// The request for the mask of the shown photo, as it runs in a shell, in Python and in a browser.

const shellQuoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
// A text of JSON is one of Python and JavaScript too, where lines end as JSON has them. `</` would end a script.
const quoted = (text) => JSON.stringify(text).replace(/[\u2028\u2029\ud800-\udfff]/gu, (one) => `\\u${one.charCodeAt(0).toString(16)}`);

// `asked`: {
//   url: the API's address, with a slash at its end; query: the options of the parse; tokened: whether a token is sent;
//   name: the file's; type: its media type, size: its bytes, uploaded: whether it goes through the bucket;
//   sample: its route, where it is one of the server's; notes: what is said above the code
// }
const mask = ({ url, query }) => `${url}parse?output=mask${query}`;

function inCurl(asked) {
  const { url, name, type, size, sample, tokened, uploaded } = asked;
  const run = "curl --fail-with-body";
  const auth = tokened ? ` -H "authorization: Bearer $M2FP_TOKEN"` : "";
  const out = `-o ${shellQuoted(`${name}.mask.png`)}`;
  const lines = asked.notes.map((note) => `# ${note}`);
  if (sample) lines.push(`${run} -o ${shellQuoted(sample)} ${shellQuoted(url + sample)}`);
  if (uploaded) {
    const wish = `{"content_type": "${type}", "bytes": ${size}}`;
    lines.push(
      `${run}${auth} --json ${shellQuoted(wish)} ${shellQuoted(`${url}uploads`)} > upload.json`,
      `${run} -g -T ${shellQuoted(name)} -H ${shellQuoted(`content-type: ${type}`)} "$(jq -r .upload.url upload.json)"`,
      `jq .parse upload.json | ${run} -L${auth} --json @- ${shellQuoted(mask(asked))} ${out}`,
    );
  } else {
    lines.push(`${run} -L${auth} -H 'content-type: application/octet-stream' --data-binary ${shellQuoted(`@${asked.file}`)} ${shellQuoted(mask(asked))} ${out}`);
  }
  return lines.join("\n");
}

function inPython(asked) {
  const { url, name, type, size, sample, tokened, uploaded } = asked;
  const auth = tokened ? `, "authorization": "Bearer " + os.environ["M2FP_TOKEN"]` : "";
  const imports = [...(uploaded ? ["json"] : []), ...(tokened ? ["os"] : [])].map((one) => `import ${one}\n`).join("");
  const photo = sample ? `urlopen(${quoted(url + sample)}).read()` : `Path(${quoted(asked.file)}).read_bytes()`;
  const lines = asked.notes.map((note) => `# ${note}`);
  lines.push(`${imports}from pathlib import Path\nfrom urllib.request import Request, urlopen\n`, `photo = ${photo}`);
  if (uploaded) {
    lines.push(
      `headers = {"content-type": "application/json"${auth}}`,
      `wish = json.dumps({"content_type": ${quoted(type)}, "bytes": ${size}}).encode()`,
      `signed = json.load(urlopen(Request(${quoted(`${url}uploads`)}, wish, headers)))`,
      `urlopen(Request(signed["upload"]["url"], photo, signed["upload"]["headers"], method="PUT"))`,
      `request = Request(${quoted(mask(asked))}, json.dumps(signed["parse"]).encode(), headers)`,
    );
  } else {
    lines.push(`request = Request(${quoted(mask(asked))}, photo, {"content-type": "application/octet-stream"${auth}})`);
  }
  lines.push(`with urlopen(request) as answer:`, `    Path(${quoted(`${name}.mask.png`)}).write_bytes(answer.read())`);
  return lines.join("\n");
}

// For a page of this server, or of an origin that it allows.
function inJavaScript(asked) {
  const { url, sample, tokened, uploaded } = asked;
  const auth = tokened ? `, authorization: \`Bearer \${token}\`` : "";
  const lines = asked.notes.map((note) => `// ${note}`);
  if (tokened) lines.push(`const token = prompt("M2FP_TOKEN");`);
  if (sample) lines.push(`const photo = await (await fetch(${quoted(url + sample)})).blob();`);
  else {
    lines.push(
      `const input = Object.assign(document.createElement("input"), { type: "file" });`,
      `const chosen = new Promise((resolve) => { input.onchange = resolve; });`,
      `input.click();`,
      `await chosen;`,
      `const [photo] = input.files;`,
    );
  }
  lines.push(
    `const ask = async (url, type, body) => {`,
    `  const answer = await fetch(url, { method: "POST", headers: { "content-type": type${auth} }, body });`,
    `  if (!answer.ok) throw new Error((await answer.json()).detail);`,
    `  return answer;`,
    `};`,
  );
  if (uploaded) {
    lines.push(
      `const wish = JSON.stringify({ content_type: photo.type, bytes: photo.size });`,
      `const { upload, parse } = await (await ask(${quoted(`${url}uploads`)}, "application/json", wish)).json();`,
      `const { "content-length": _, host, ...headers } = upload.headers;`,
      `await fetch(upload.url, { method: upload.method, headers, body: photo });`,
      `const answer = await ask(${quoted(mask(asked))}, "application/json", JSON.stringify(parse));`,
    );
  } else {
    lines.push(`const answer = await ask(${quoted(mask(asked))}, "application/octet-stream", photo);`);
  }
  lines.push(`const mask = await createImageBitmap(await answer.blob());`, `console.log(mask.width, mask.height);`);
  return lines.join("\n");
}
