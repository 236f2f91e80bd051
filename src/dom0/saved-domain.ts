/** A saved domain: what it is, to bytes and back. Files come from anywhere: every length is judged before it is used. */
import { crc32c } from "../bytes/crc32c.js";
import { DiskError } from "../errors.js";
import type { OutstandingCall } from "../xen/blkfront-io.js";
import type { AttachRequest, CreateDomainRequest, DomainConfig } from "./api-types.js";
import type { OutstandingCalls } from "./guest-thread.js";
import { createDomainRequest } from "./requests.js";
import { SAVED_CALL, SAVED_DOMAIN, SAVED_PART } from "./saved-layout.js";

/** What the file behind a disk looked like when the domain let go of it; numbers as decimal text. */
export interface DiskStamp {
  readonly size: string;
  /** Nanoseconds since 1970. */
  readonly modified: string;
  readonly inode: string;
}

export interface SavedDomain {
  readonly name: string;
  /** Bytes of guest memory. */
  readonly memory: number;
  readonly config: DomainConfig;
  readonly disks: readonly (AttachRequest & { readonly vdev: string })[];
  /** By the disks' order; null where no file of this host is behind the disk. */
  readonly stamps: readonly (DiskStamp | null)[];
  /** What the guest wrote below its home: relative path and value. */
  readonly nodes: readonly (readonly [path: string, value: string])[];
  readonly outstanding: readonly OutstandingCalls[];
}

const VERSION = 1;
const SIGNATURE = Buffer.from("XVDSAVED");
const KINDS = ["config", "nodes", "calls"] as const;
/** Bytes; more than the rings of a domain can hold. */
export const MAX_SAVED = 1 << 30;
const MAX_JSON = 16 << 20;
const MAX_NODES = 4096;
const MAX_NODE_VALUE = 4096;
/** Where guests may write (xenstore-paths); nothing else is taken back from a file. */
export const GUEST_DIRS = ["data", "drivers", "feature", "attr"] as const;

export function encodeSaved(saved: SavedDomain): Uint8Array {
  const { nodes, outstanding, ...config } = saved;
  const parts = {
    config: Buffer.from(JSON.stringify(config)),
    nodes: Buffer.from(JSON.stringify(nodes)),
    calls: encodeCalls(outstanding),
  };
  const table = KINDS.map((kind) =>
    SAVED_PART.encode({ kind, crc32c: crc32c(parts[kind]), length: parts[kind].length }),
  );
  const head = SAVED_DOMAIN.encode({ version: VERSION, parts: table.length, tableCrc32c: 0 });
  const tableCrc32c = crc32c(Buffer.concat([head, ...table]));
  SAVED_DOMAIN.encode({ version: VERSION, parts: table.length, tableCrc32c }, head);
  return Buffer.concat([head, ...table, ...KINDS.map((kind) => parts[kind])]);
}

/** Whether a file that begins with `head` says that it is one. */
export function isSaved(head: Uint8Array): boolean {
  return Buffer.from(head.subarray(0, SIGNATURE.length)).equals(SIGNATURE);
}

/** `label` names the file in errors. Throws `CORRUPT` or `UNSUPPORTED`, nothing else. */
export function decodeSaved(bytes: Uint8Array, label: string): SavedDomain {
  try {
    const parts = takeParts(bytes);
    const saved = { ...decodeConfig(json(parts.config)), nodes: decodeNodes(json(parts.nodes)) };
    return { ...saved, outstanding: decodeCalls(parts.calls) };
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    const found = error.message.replace(/^Cannot read [^:]*: /, "");
    const code = error.code === "UNSUPPORTED" ? "UNSUPPORTED" : "CORRUPT";
    throw new DiskError(code, `Cannot restore ${label}: ${found}`, { details: error.details, cause: error });
  }
}

type Parts = Record<(typeof KINDS)[number], Uint8Array>;

function takeParts(bytes: Uint8Array): Parts {
  const header = SAVED_DOMAIN.decode(bytes);
  if (header.version !== VERSION)
    throw new DiskError("UNSUPPORTED", `Cannot read it: version is ${header.version}, allowed ${VERSION} (byte 8)`);
  if (header.parts !== KINDS.length) throw corrupt(`it has ${header.parts} parts, allowed ${KINDS.length} (byte 12)`);
  const dataAt = SAVED_DOMAIN.size + header.parts * SAVED_PART.size;
  const table = Buffer.from(bytes.subarray(0, dataAt));
  if (table.length === dataAt) table.writeUInt32LE(0, SAVED_DOMAIN.fields.tableCrc32c.offset);
  if (crc32c(table) !== header.tableCrc32c) throw corrupt("the checksum of its part table is wrong (byte 16)");
  const parts: Partial<Parts> = {};
  let offset = dataAt;
  for (let i = 0; i < header.parts; i++) {
    const { kind, length, crc32c: expected } = SAVED_PART.decode(bytes, SAVED_DOMAIN.size + i * SAVED_PART.size);
    if (kind === "unknown" || parts[kind]) throw corrupt(`part ${i} is unknown or there twice`);
    if (length > bytes.length - offset)
      throw corrupt(`part ${kind} has ${length} bytes, ${bytes.length - offset} are left (byte ${offset})`);
    const part = bytes.subarray(offset, offset + length);
    if (crc32c(part) !== expected) throw corrupt(`the checksum of part ${kind} is wrong (byte ${offset})`);
    parts[kind] = part;
    offset += length;
  }
  if (offset !== bytes.length) throw corrupt(`${bytes.length - offset} bytes lie behind its parts (byte ${offset})`);
  return parts as Parts;
}

function json(part: Uint8Array): unknown {
  if (part.length > MAX_JSON) throw corrupt(`a part of text has ${part.length} bytes, allowed ${MAX_JSON}`);
  try {
    return JSON.parse(Buffer.from(part).toString("utf8"));
  } catch (error) {
    throw new DiskError("CORRUPT", "Cannot read it: a part of text is no JSON", { cause: error });
  }
}

function decodeConfig(document: unknown): Omit<SavedDomain, "nodes" | "outstanding"> {
  if (typeof document !== "object" || document === null) throw corrupt("its configuration is no object");
  const body = document as Record<string, unknown>;
  const { name, config = {}, disks = [] }: CreateDomainRequest = createDomainRequest(body);
  const { memory, stamps } = body;
  if (!Number.isSafeInteger(memory) || (memory as number) < 1 << 20 || (memory as number) > 1 << 30)
    throw corrupt(`memory is ${JSON.stringify(memory)}, allowed 1 MiB..1 GiB`);
  if ((memory as number) % 4096 !== 0) throw corrupt(`memory is ${memory}, allowed are whole pages of 4096 bytes`);
  if (!Array.isArray(stamps) || stamps.length !== disks.length) throw corrupt("it does not tell each disk's file");
  const named = disks.map((disk) => {
    if (disk.vdev === undefined) throw corrupt(`disk ${JSON.stringify(disk.disk)} has no device name`);
    return { ...disk, vdev: disk.vdev };
  });
  return { name, memory: memory as number, config, disks: named, stamps: stamps.map(decodeStamp) };
}

function decodeStamp(stamp: unknown): DiskStamp | null {
  if (stamp === null) return null;
  const { size, modified, inode } = (typeof stamp === "object" ? stamp : {}) as Record<string, unknown>;
  for (const number of [size, modified, inode])
    if (typeof number !== "string" || !/^-?\d{1,24}$/.test(number))
      throw corrupt("what it tells of a disk's file is bad");
  return { size, modified, inode } as DiskStamp;
}

function decodeNodes(document: unknown): SavedDomain["nodes"] {
  if (!Array.isArray(document) || document.length > MAX_NODES) throw corrupt("its list of store nodes is bad");
  return document.map((entry: unknown) => {
    const [path, value] = Array.isArray(entry) ? (entry as unknown[]) : [];
    const allowed = typeof path === "string" && path.length <= 2048 && GUEST_NODE.test(path);
    if (!allowed)
      throw corrupt(`a store node is ${JSON.stringify(path)}, allowed are those below ${GUEST_DIRS.join(" ")}`);
    if (typeof value !== "string" || Buffer.byteLength(value) > MAX_NODE_VALUE)
      throw corrupt(`node ${path} has a bad value`);
    return [path, value] as const;
  });
}

const GUEST_NODE = new RegExp(`^(${GUEST_DIRS.join("|")})(/[A-Za-z0-9_@-]+)+$`);

function encodeCalls(outstanding: readonly OutstandingCalls[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (const { devid, calls } of outstanding)
    for (const call of calls) {
      const { kind } = call;
      if (kind === "flush") pieces.push(SAVED_CALL.encode({ devid, kind, offset: 0, length: 0 }));
      else if (kind === "discard")
        pieces.push(SAVED_CALL.encode({ devid, kind, offset: call.offset, length: call.length }));
      else pieces.push(SAVED_CALL.encode({ devid, kind, offset: call.offset, length: call.data.length }), call.data);
    }
  return Buffer.concat(pieces);
}

function decodeCalls(part: Uint8Array): OutstandingCalls[] {
  const found = new Map<number, OutstandingCall[]>();
  for (let at = 0; at < part.length; ) {
    const { devid, kind, offset, length } = SAVED_CALL.decode(part, at);
    at += SAVED_CALL.size;
    const calls = found.get(devid) ?? [];
    found.set(devid, calls);
    if (kind === "flush") calls.push({ kind });
    else if (kind === "discard") calls.push({ kind, offset, length });
    else if (kind === "write") {
      if (length > part.length - at) throw corrupt(`a write has ${length} bytes, ${part.length - at} are left`);
      calls.push({ kind, offset, data: new Uint8Array(part.subarray(at, at + length)) });
      at += length;
    } else throw corrupt("an outstanding call is of an unknown kind");
  }
  return [...found].map(([devid, calls]) => ({ devid, calls }));
}

function corrupt(found: string): DiskError {
  return new DiskError("CORRUPT", `Cannot read it: ${found}`);
}
