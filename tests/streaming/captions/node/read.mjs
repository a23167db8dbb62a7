// node read.mjs READER FILE... : prints [[start ms, end ms, text, id], ...] and what the reader
// complained of, as JSON. READER is w3c, vttjs, hlsjs, imsc, events or json; for hlsjs a FILE may be
// FILE@seconds, where the segment lies in the programme.
import { readFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const ms = (seconds) => Math.round(seconds * 1000);
const plain = (cue) => [ms(cue.startTime), ms(cue.endTime), cue.text, cue.id];

function w3c(text) {
  const { WebVTTParser } = require("webvtt-parser/parser.js");
  const entities = require("webvtt-parser/html-entities.json");
  const made = new WebVTTParser(entities).parse(text, "metadata");
  return { cues: made.cues.map(plain), errors: made.errors.map((e) => `${e.line}: ${e.message}`) };
}

function vttjs(text) {
  const { WebVTT, VTTCue } = require("videojs-vtt.js");
  globalThis.VTTCue = VTTCue;
  const cues = [], errors = [];
  const parser = new WebVTT.Parser({ VTTCue }, {}, WebVTT.StringDecoder());
  parser.oncue = (cue) => cues.push(plain(cue));
  parser.onparsingerror = (error) => errors.push(String(error.message));
  parser.parse(text);
  parser.flush();
  return { cues, errors };
}

async function hlsjs(bytes, seconds) {
  globalThis.self ??= globalThis;
  const out = join(mkdtempSync(join(tmpdir(), "hls-")), "parser.mjs");
  require("esbuild").buildSync({
    entryPoints: [fileURLToPath(new URL("node_modules/hls.js/src/utils/webvtt-parser.ts", import.meta.url))],
    bundle: true, format: "esm", outfile: out, logLevel: "error",
    define: { __USE_SUBTITLES__: "true", __USE_ALT_AUDIO__: "true", __VERSION__: '"test"' },
  });
  const { parseWebVTT } = await import(out);
  const result = { cues: [], errors: [] };
  const origin = { baseTime: 900000, timescale: 90000, trackId: 0 };
  const ccs = { ccOffset: 0, presentationOffset: 0, 0: { start: 0, prevCC: -1, new: false } };
  parseWebVTT(bytes, origin, ccs, 0, seconds, (cues) => result.cues.push(...cues.map(plain)),
    (error) => result.errors.push(String(error.message)));
  return result;
}

function imsc(text) {
  const cues = [], errors = [];
  const said = (kind) => (message) => errors.push(`${kind}: ${message}`);
  const handler = { info: said("info"), warn: said("warn"), error: said("error"), fatal: said("fatal") };
  const made = require("imsc/src/main/js/doc.js").fromXML(text, handler);
  const words = (node) => node.kind === "br" ? "\n"
    : (node.text ?? "") + (node.contents ?? []).map(words).join("");
  const walk = (node) => {
    if (node.kind === "p") cues.push([ms(node.begin), ms(node.end), words(node), node.id]);
    else (node.contents ?? []).forEach(walk);
  };
  walk(made.body);
  return { cues, errors };
}

// What is live carries whole lines of JSON: the texts of the cues that close, with display times.
function line(data) {
  const cue = JSON.parse(data);
  return cue.op === "CLOSE" ? [[cue.display_start_ms, cue.display_end_ms, cue.text, cue.cue_id]] : [];
}

async function events(text) {
  const { createParser } = await import("eventsource-parser");
  const cues = [], errors = [];
  const parser = createParser({
    onEvent: (event) => { if (event.event === "cue") cues.push(...line(event.data)); },
    onError: (error) => errors.push(String(error.message)),
  });
  for (let at = 0; at < text.length; at += 777) parser.feed(text.slice(at, at + 777));
  return { cues, errors };
}

const json = (text) => ({ cues: text.split("\n").filter(Boolean).flatMap(line), errors: [] });

const readers = { w3c, vttjs, imsc, events, json };
const [reader, ...files] = process.argv.slice(2);
const all = { cues: [], errors: [] };
for (const name of files) {
  const [file, at] = name.split("@");
  const bytes = readFileSync(file);
  const made = reader in readers ? await readers[reader](bytes.toString("utf8"))
    : await hlsjs(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), Number(at ?? 0));
  all.cues.push(...made.cues);
  all.errors.push(...made.errors);
}
console.log(JSON.stringify(all));
