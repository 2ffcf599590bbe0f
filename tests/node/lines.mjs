// Line-delimited JSON over the standard streams, and how binary values stand in it.
//
// A binary value is {"$binary": "<base64>"}. Must not know: what the lines say.

import { createInterface } from "node:readline";

/** Calls `handle` with every command of standard input; the process ends with its input. */
export function commands(handle) {
  const input = createInterface({ input: process.stdin, crlfDelay: Infinity });
  input.on("line", (line) => handle(JSON.parse(line)));
  // The test that started this process is gone: so is the reason to run.
  input.on("close", () => process.exit(0));
}

/** Writes a line. */
export function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Replaces binary values by what can stand in JSON. */
export function pack(value) {
  if (ArrayBuffer.isView(value)) {
    return { $binary: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  }
  if (value instanceof ArrayBuffer) {
    return { $binary: Buffer.from(value).toString("base64") };
  }
  return mapped(value, pack);
}

/** The opposite of `pack`. */
export function unpack(value) {
  if (typeof value?.$binary === "string") {
    return Buffer.from(value.$binary, "base64");
  }
  return mapped(value, unpack);
}

function mapped(value, change) {
  if (Array.isArray(value)) {
    return value.map(change);
  }
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, change(inner)]));
  }
  return value;
}
