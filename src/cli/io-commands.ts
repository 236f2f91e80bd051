/** The little language of `xvd io`, as qemu-io's: `write -P 0xab 64k 4k`, `read`, `writez`, `discard`, `flush`. */

import type { BlockDevice } from "../block/device.js";
import { isZero } from "../bytes/align.js";
import { parseSize } from "../bytes/size.js";
import { DiskError } from "../errors.js";

export interface IoCommand {
  readonly verb: "read" | "write" | "writez" | "discard" | "flush";
  /** As it was given. */
  readonly text: string;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** The byte to write, or to expect; null: none given. */
  readonly pattern: number | null;
  /** Show what was read. */
  readonly dump: boolean;
  /** On stable storage before the command is done (force unit access). */
  readonly durable: boolean;
}

/** What qemu-io writes when no pattern is given. */
const DEFAULT_PATTERN = 0xcd;
const PIECE = 1 << 20;

const VERBS: Readonly<Record<string, IoCommand["verb"]>> = {
  read: "read",
  r: "read",
  write: "write",
  w: "write",
  writez: "writez",
  discard: "discard",
  d: "discard",
  flush: "flush",
  f: "flush",
};

/** Letters of the options that a command takes, as qemu-io's. */
const OPTIONS: Readonly<Record<IoCommand["verb"], string>> = {
  read: "Pvq",
  write: "Pzufq",
  writez: "ufq",
  discard: "q",
  flush: "q",
};

/** Throws `UNSUPPORTED`, as wrong usage. */
export function parseIoCommand(text: string): IoCommand {
  const [name = "", ...words] = text.trim().split(/\s+/);
  const named = Object.hasOwn(VERBS, name) ? VERBS[name]! : undefined;
  if (!named) throw wrong(text, `${JSON.stringify(name)} is no command, allowed read write writez discard flush`);
  const { letters, pattern, places } = parseWords(text, named, words);
  const verb = letters.includes("z") ? "writez" : named;
  if (verb === "writez" && pattern !== null) throw wrong(text, "zeros have no pattern");
  if (verb === "write" && letters.includes("u")) throw wrong(text, "-u gives back space, which only zeros (-z) can");
  const wanted = verb === "flush" ? 0 : 2;
  if (places.length !== wanted)
    throw wrong(text, wanted === 0 ? "flush takes no range" : `${verb} takes an offset and a length`);
  const [offset = 0, length = 0] = places.map((place, i) => parsePlace(place, i === 0 ? "offset" : "length"));
  const [dump, durable] = [letters.includes("v"), letters.includes("f")];
  return { verb, text: text.trim(), offset, length, pattern, dump, durable };
}

/** Options as getopt(3) reads them: letters may share a word, -P's value may follow at once. */
function parseWords(text: string, verb: IoCommand["verb"], words: readonly string[]) {
  const places: string[] = [];
  let letters = "";
  let pattern: number | null = null;
  for (let i = 0; i < words.length; i++) {
    const [, cluster = "", value] = /^-([^P]*)(?:P(.*))?$/.exec(words[i]!) ?? [];
    if (!words[i]!.startsWith("-")) places.push(words[i]!);
    const taken = cluster + (value === undefined ? "" : "P");
    const unknown = words[i] === "-" ? "" : [...taken].find((letter) => !OPTIONS[verb].includes(letter));
    if (unknown !== undefined) {
      const allowed = [...OPTIONS[verb]].map((letter) => `-${letter}`).join(" ");
      throw wrong(text, `${JSON.stringify(`-${unknown}`)} is no option of ${verb}, allowed ${allowed}`);
    }
    if (value !== undefined) pattern = parsePattern(text, value === "" ? words[++i] : value);
    letters += taken;
  }
  return { letters, pattern, places };
}

/** A size, or qemu-io's hexadecimal bytes. */
function parsePlace(text: string, what: string): number {
  if (!/^0x[0-9a-f]+$/i.test(text)) return parseSize(text, what);
  if (Number.isSafeInteger(Number(text))) return Number(text);
  throw wrong(text, `the ${what} is too large, allowed up to 2^53-1`);
}

function parsePattern(text: string, word: string | undefined): number {
  const value = word !== undefined && /^(0x[0-9a-f]+|\d+)$/i.test(word) ? Number(word) : Number.NaN;
  if (!(value >= 0 && value <= 255))
    throw wrong(text, `the pattern is ${JSON.stringify(word ?? "")}, allowed 0..255 or 0x00..0xff`);
  return value;
}

function wrong(text: string, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot read command ${JSON.stringify(text)}: ${why}`, {
    details: { usage: true, command: text },
  });
}

export const writes = ({ verb }: IoCommand): boolean => verb === "write" || verb === "writez" || verb === "discard";

export interface IoContext {
  readonly signal: AbortSignal;
  /** Takes the lines of a dump. */
  show(lines: readonly string[]): void;
}

/** Carries out one command on a device that takes any byte offset. Throws `IO` where a pattern is not found. */
export async function runIoCommand(device: BlockDevice, command: IoCommand, context: IoContext): Promise<void> {
  const { verb, offset, length, text } = command;
  if (offset > device.size - length)
    throw new DiskError(
      "NO_SPACE",
      `Cannot ${verb} ${device.label}: bytes ${offset}..${offset + length} of ${JSON.stringify(text)}, allowed 0..${device.size}`,
    );
  if (verb === "writez") await device.zero(offset, length);
  else if (verb === "discard") await device.discard(offset, length);
  else if (verb !== "flush") await transfer(device, command, context);
  if (verb === "flush" || command.durable) await device.flush();
}

async function transfer(device: BlockDevice, command: IoCommand, { signal, show }: IoContext): Promise<void> {
  const { verb, offset, length, pattern } = command;
  const buffer = new Uint8Array(Math.min(PIECE, length));
  if (verb === "write") buffer.fill(pattern ?? DEFAULT_PATTERN);
  for (let at = offset; at < offset + length; at += buffer.length) {
    signal.throwIfAborted();
    const bytes = buffer.subarray(0, Math.min(buffer.length, offset + length - at));
    if (verb === "write") await device.write(at, bytes);
    else {
      await device.read(at, bytes);
      if (pattern !== null) expectPattern(device, command, at, bytes);
      if (command.dump) show(hexDump(at, bytes));
    }
  }
}

const DUMP_WIDTH = 16;

/** Lines of sixteen bytes as qemu-io prints them: offset, hexadecimal bytes, letters and digits. */
function hexDump(offset: number, bytes: Uint8Array): string[] {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += DUMP_WIDTH) {
    const row = [...bytes.subarray(at, at + DUMP_WIDTH)];
    const hex = row.map((byte) => `${byte.toString(16).padStart(2, "0")} `).join("");
    const text = row.map((byte) => String.fromCharCode(byte).replace(/[^0-9a-z]/i, ".")).join("");
    lines.push(`${(offset + at).toString(16).padStart(8, "0")}:  ${hex} ${text}`);
  }
  return lines;
}

function expectPattern({ label }: BlockDevice, { pattern, text }: IoCommand, offset: number, bytes: Uint8Array): void {
  if (pattern === 0 && isZero(bytes)) return;
  const at = bytes.findIndex((byte) => byte !== pattern);
  if (at < 0) return;
  const hex = (byte: number) => `0x${byte.toString(16).padStart(2, "0")}`;
  throw new DiskError(
    "IO",
    `Cannot verify ${label}: byte ${offset + at} is ${hex(bytes[at]!)}, expected ${hex(pattern!)} (${text})`,
    {
      details: { offset: offset + at, found: bytes[at]!, expected: pattern! },
    },
  );
}
