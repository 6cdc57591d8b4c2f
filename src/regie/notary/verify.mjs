// Checks a bundle of Regie's audit log with Sigstore's code for logs (npm: @sigstore/verify).
//
//   node verify.mjs FOLDER [KEPT-CHECKPOINT]
//
// It needs a bundle of the whole log, from its first record on.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, kept] = process.argv.slice(2);
// Where the package lies: beside this file, or below the folder in which this is run.
const find = createRequire(join(process.cwd(), "verify.mjs"));
const sigstore = find.resolve("@sigstore/verify");
const { verifyCheckpoint } = find(join(sigstore, "../tlog/checkpoint.js"));
const { verifyMerkleInclusion } = find(join(sigstore, "../tlog/merkle.js"));

const wrong = (what) => {
  console.error(`WRONG ${what}`);
  process.exit(1);
};
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const read = (name) => readFileSync(join(folder, name));

// A key, NAME+ID+KEY, as Sigstore keeps those of logs.
function log(file) {
  // The key itself may have a plus in it.
  const [, name, id, key] = read(file).toString().match(/^([^+]+)\+([0-9a-f]{8})\+(\S+)/);
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), Buffer.from(key, "base64").subarray(1)]);
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  return { name, logID: Buffer.from(id, "hex"), baseURL: name, publicKey };
}

// Checks the signature of a checkpoint and gives what it says.
function open(envelope, file, what) {
  const from = log(file);
  try {
    const checkpoint = verifyCheckpoint({ inclusionProof: { checkpoint: { envelope } } }, [from]);
    if (checkpoint.origin !== from.name) wrong(`${what}: it is of ${checkpoint.origin}`);
    return checkpoint;
  } catch (error) {
    return wrong(`${what}: ${error.message}`);
  }
}

function requireHeld(record, logIndex, hashes, checkpoint, what) {
  try {
    verifyMerkleInclusion({ canonicalizedBody: record, inclusionProof: { logIndex, hashes } }, checkpoint);
  } catch (error) {
    wrong(`${what}: ${error.message}`);
  }
}

const checkpoint = open(read("checkpoint").toString(), "log.vkey", "checkpoint");
const size = Number(checkpoint.logSize);
const records = read("leaves.jsonl").toString("latin1").split("\n").slice(0, -1).map((line) => Buffer.from(line, "latin1"));
const leaves = [];
for (let n = 0; n * 256 < size; n++) {
  const digits = String(n).padStart(Math.ceil(String(n).length / 3) * 3, "0").match(/\d{3}/g);
  const name = digits.map((group, at) => (at < digits.length - 1 ? `x${group}` : group)).join("/");
  const width = Math.min(256, size - n * 256);
  const tile = read(`tile/0/${name}${width < 256 ? `.p/${width}` : ""}`);
  for (let at = 0; at < width; at++) leaves.push(tile.subarray(at * 32, at * 32 + 32));
}
records.forEach((record, n) => {
  if (n >= size || !sha256(Buffer.from([0]), record).equals(leaves[n])) wrong(`record ${n} is not what was logged`);
});
if (records.length !== size) wrong(`record ${records.length} is missing`);

// Hashes of parts of the log, and from them the proof of each record (RFC 6962, 2.1).
const known = new Map();
const below = (count) => 2 ** (Math.ceil(Math.log2(count)) - 1);
function part(first, end) {
  if (end - first === 1) return leaves[first];
  const name = `${first}-${end}`;
  if (!known.has(name)) {
    const middle = first + below(end - first);
    known.set(name, sha256(Buffer.from([1]), part(first, middle), part(middle, end)));
  }
  return known.get(name);
}
function proof(index, first, end) {
  if (end - first === 1) return [];
  const middle = first + below(end - first);
  return index < middle
    ? [...proof(index, first, middle), part(middle, end)]
    : [...proof(index, middle, end), part(first, middle)];
}
records.forEach((record, n) => requireHeld(record, n, proof(n, 0, size), checkpoint, `record ${n}`));

const [head, note] = read("anchor.tlog-proof").toString().split(/\n\n(.*)/s);
const [, index, ...hashes] = head.split("\n");
const anchor = open(note, "anchor.vkey", "checkpoint of the anchor log");
const path = hashes.map((hash) => Buffer.from(hash, "base64"));
requireHeld(read("anchored"), index.replace("index ", ""), path, anchor, "what the anchor log holds");

if (kept) {
  const earlier = open(readFileSync(kept).toString(), "log.vkey", "kept checkpoint");
  const count = Number(earlier.logSize);
  if (count > size) wrong(`kept checkpoint: the log once had ${count} records`);
  for (const n of [0, count - 1]) requireHeld(records[n], n, proof(n, 0, count), earlier, `kept checkpoint, record ${n}`);
}
console.log(`ok ${size} records, root ${checkpoint.logHash.toString("base64")}`);
