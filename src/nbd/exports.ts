/** What a server offers: names and devices, and what a client is told of each. */
import type { BlockDevice } from "../block/device.js";
import { MAX_PAYLOAD, MAX_STRING, TRANSMISSION_FLAG } from "./codes.js";
import { contextName, type DirtyBitmap } from "./meta-context.js";

export interface Export {
  /** Stays the owner's: the server never closes it. */
  readonly device: BlockDevice;
  /** One line for people, shown by `nbdinfo --list`. */
  readonly description?: string;
  /** Refuse writes, also when the device could. */
  readonly readOnly?: boolean;
  /** `device.zero` costs far less than a write of zeros. Without it requests with FAST_ZERO are refused, as that flag asks. */
  readonly fastZero?: boolean;
  /** `device.extents` costs as much as a read: clients that ask for block status get it, reads are answered without it. */
  readonly slowMap?: boolean;
  /** Told to clients that ask for the context `qemu:dirty-bitmap:NAME`. */
  readonly dirtyBitmap?: DirtyBitmap;
  /** Only for encrypted connections, on a server where TLS is the client's choice. */
  readonly requireTls?: boolean;
  /** What can be read without waiting, beside `device`. */
  readonly cached?: CachedBytes;
}

/** Bytes of a device that are in memory. Nothing here waits or throws. */
export interface CachedBytes {
  /** Fills `length` bytes of `block` from `at` on. False when not all of them are at hand; what was filled means nothing then. */
  read(offset: number, length: number, block: Buffer, at: number): boolean;
  /** False when a part of the range may be a hole. */
  isData(offset: number, length: number): boolean;
}

/** By name, or a function that finds an export by name; only a map can be listed. */
export type ExportSource = ReadonlyMap<string, Export> | ((name: string) => Export | undefined);

export interface FoundExport {
  /** The map's name of it, also when a client asked for the default export by the empty name. */
  readonly name: string;
  readonly export: Export;
}

/** Throws `RangeError` for what could not be offered to any client. */
export function checkExports(exports: ReadonlyMap<string, Export>): void {
  for (const [name, { device, description = "", dirtyBitmap }] of exports) {
    blockSizes(device);
    for (const text of [name, description, contextName(dirtyBitmap)]) {
      if (Buffer.byteLength(text) > MAX_STRING)
        throw new RangeError(
          `Cannot export ${device.label} by NBD: its name, description or bitmap's name has ${Buffer.byteLength(text)} bytes, allowed 0..${MAX_STRING}`,
        );
    }
  }
}

/** The empty name is the default export: the one of that name, or the only one. */
export function findExport(source: ExportSource, name: string): FoundExport | undefined {
  if (typeof source === "function") {
    const found = source(name);
    return found && { name, export: found };
  }
  const named = source.get(name);
  if (named) return { name, export: named };
  if (name !== "" || source.size !== 1) return undefined;
  const [[only, found]] = source as unknown as [[string, Export]];
  return { name: only, export: found };
}

export function isReadOnly({ device, readOnly }: Export): boolean {
  return readOnly === true || !device.writable;
}

/** Every connection works on the same device without a cache between, so flushes hold for all: CAN_MULTI_CONN. */
export function transmissionFlags(exported: Export, structuredReplies: boolean): number {
  const F = TRANSMISSION_FLAG;
  const common = F.HAS_FLAGS | F.SEND_FLUSH | F.SEND_FUA | F.CAN_MULTI_CONN | F.SEND_CACHE;
  const write = isReadOnly(exported) ? F.READ_ONLY : F.SEND_TRIM | F.SEND_WRITE_ZEROES | F.SEND_FAST_ZERO;
  return common | write | (structuredReplies ? F.SEND_DF : 0);
}

export interface BlockSizes {
  readonly minimum: number;
  readonly preferred: number;
  readonly maximumPayload: number;
}

/** The most that the protocol allows as a minimum. */
const MAX_MINIMUM = 64 << 10;

export function blockSizes(device: BlockDevice): BlockSizes {
  const { blockSize } = device;
  if (blockSize > MAX_MINIMUM || !Number.isInteger(Math.log2(blockSize)))
    throw new RangeError(
      `Cannot export ${device.label} by NBD: its blocks have ${blockSize} bytes, allowed powers of two up to ${MAX_MINIMUM}`,
    );
  return { minimum: blockSize, preferred: Math.max(4096, blockSize), maximumPayload: MAX_PAYLOAD };
}
