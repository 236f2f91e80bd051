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

/** Throws `UNSUPPORTED`, as wrong usage. */
export function parseIoCommand(text: string): IoCommand {
  const [name = "", ...words] = text.trim().split(/\s+/);
  let verb = Object.hasOwn(VERBS, name) ? VERBS[name]! : undefined;
  if (!verb) throw wrong(text, `${JSON.stringify(name)} is no command, allowed read write writez discard flush`);
  let pattern: number | null = null;
  const places: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === "-P" && (verb === "read" || verb === "write")) pattern = parsePattern(text, words[++i]);
    else if (word === "-z" && verb === "write") verb = "writez";
    else if (word.startsWith("-") && word !== "-q")
      throw wrong(
        text,
        `${JSON.stringify(word)} is no option of ${verb}, allowed ${verb === "read" || verb === "write" ? "-P -q" : "-q"}`,
      );
    else if (word !== "-q") places.push(word);
  }
  const wanted = verb === "flush" ? 0 : 2;
  if (places.length !== wanted)
    throw wrong(text, wanted === 0 ? "flush takes no range" : `${verb} takes an offset and a length`);
  if (verb === "writez" && pattern !== null) throw wrong(text, "zeros have no pattern");
  const [offset = 0, length = 0] = places.map((place, i) => parseSize(place, i === 0 ? "offset" : "length"));
  return { verb, text: text.trim(), offset, length, pattern };
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

/** Carries out one command on a device that takes any byte offset. Throws `IO` where a pattern is not found. */
export async function runIoCommand(device: BlockDevice, command: IoCommand, signal: AbortSignal): Promise<void> {
  const { verb, offset, length, text } = command;
  if (offset > device.size - length)
    throw new DiskError(
      "NO_SPACE",
      `Cannot ${verb} ${device.label}: bytes ${offset}..${offset + length} of ${JSON.stringify(text)}, allowed 0..${device.size}`,
    );
  if (verb === "flush") return device.flush();
  if (verb === "writez") return device.zero(offset, length);
  if (verb === "discard") return device.discard(offset, length);
  const buffer = new Uint8Array(Math.min(PIECE, length));
  if (verb === "write") buffer.fill(command.pattern ?? DEFAULT_PATTERN);
  for (let at = offset; at < offset + length; at += buffer.length) {
    signal.throwIfAborted();
    const bytes = buffer.subarray(0, Math.min(buffer.length, offset + length - at));
    if (verb === "write") await device.write(at, bytes);
    else {
      await device.read(at, bytes);
      if (command.pattern !== null) expectPattern(device, command, at, bytes);
    }
  }
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
