// A zip of files as they are ("stored"): pictures are compressed already.

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(content) {
  let crc = ~0;
  for (const byte of content) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Little-endian numbers, each with its count of bytes.
const numbers = (...pairs) => Uint8Array.from(pairs.flatMap(([value, count]) => Array.from({ length: count }, (_, i) => (value >>> (8 * i)) & 255)));

// What a zip's fields of 32 bits count up to.
const ZIP_BYTES = 0xffffffff;

// `files`: [name, Blob]. Gives a Blob. (APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16; names are UTF-8, bit 11.)
async function zip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const [name, blob] of files) {
    const title = new TextEncoder().encode(name);
    const content = new Uint8Array(await blob.arrayBuffer());
    // Version 2.0, UTF-8, stored, 1 January 1980.
    const facts = [[20, 2], [0x800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(content), 4], [content.length, 4], [content.length, 4], [title.length, 2], [0, 2]];
    parts.push(numbers([0x04034b50, 4], ...facts), title, blob);
    directory.push(numbers([0x02014b50, 4], [20, 2], ...facts, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), title);
    at += 30 + title.length + content.length;
    if (at > ZIP_BYTES) throw new Refusal("zip_too_large", word("zip_too_large"));
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [at, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Names of files in a zip: no folders, none twice.
function zipName(name, taken) {
  const plain = name.replace(/[/\\:*?"<>|]/g, "_").replace(/^\.+/, "_");
  const [, stem, ending] = /^(.*?)((?:\.\w+)*)$/s.exec(plain);
  let free = plain;
  for (let n = 2; taken.has(free.toLowerCase()); n++) free = `${stem} (${n})${ending}`;
  taken.add(free.toLowerCase());
  return free;
}
