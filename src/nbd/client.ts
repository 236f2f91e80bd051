/**
 * NBD client: an export of any newstyle server as a BlockDevice. Requests are pipelined, large ones are cut and spread over the connections.
 * A lost connection is made again, and its unanswered requests are sent again (client-link.ts).
 */
import { type BlockDevice, type Driver, defineDevice, type Extent } from "../block/device.js";
import { DiskError } from "../errors.js";
import { RunList } from "./allocation.js";
import type { Agreement } from "./client-handshake.js";
import { ClientLink, type Reconnect } from "./client-link.js";
import { clientTls } from "./client-tls.js";
import { CMD, CMD_FLAG, STATE, TRANSMISSION_FLAG } from "./codes.js";
import { parseNbdUri, printNbdUri } from "./uri.js";

export interface NbdClientOptions {
  /** Connections to spread requests over, where the server allows more than one; default 1. */
  readonly connections?: number;
  /** After a lost connection; by default five attempts within about three seconds. */
  readonly reconnect?: Partial<Reconnect>;
  /** For connecting and the handshake, default 30000. When given, also the silence with requests in flight after which the server counts as lost. */
  readonly timeoutMs?: number;
  /** Never write, also where the server would let us. */
  readonly readOnly?: boolean;
}

const TIMEOUT_MS = 30_000;
/** Reads and writes are cut here, so that the server's disk and the wire work at the same time, in the processor's cache. */
const PIECE = 256 << 10;
/** Pieces of one call in flight. */
const WINDOW = 16;
/** Ranges without payload: large, but done soon enough by a server that writes zeros by hand. */
const ZERO_PIECE = 64 << 20;
/** Below 2^31, which some servers take for the most. */
const RANGE_PIECE = 1 << 30;
/** The same where 64-bit lengths were agreed on. */
const LONG_PIECE = 2 ** 40;
const RECONNECT: Reconnect = { attempts: 5, firstDelayMs: 100 };

/**
 * Throws `NOT_FOUND` for an unknown export and for files of keys that are not there, `UNSUPPORTED` for a server without TLS when the URI
 * wants it, `DENIED` for a server that is not who it should be, `IO` when there is no server.
 */
export async function connectNbd(uri: string, options: NbdClientOptions = {}): Promise<BlockDevice> {
  const parsed = parseNbdUri(uri);
  const label = printNbdUri(parsed);
  const address = { ...parsed, label, tls: clientTls(parsed, label) };
  const timing = { timeoutMs: options.timeoutMs ?? TIMEOUT_MS, silenceMs: options.timeoutMs ?? 0 };
  const open = () => ClientLink.open(address, timing, { ...RECONNECT, ...options.reconnect });
  const links = [await open()];
  try {
    await openMore(links, label, open, options.connections ?? 1);
  } catch (error) {
    await Promise.all(links.map((link) => link.close()));
    throw error;
  }
  return nbdDevice(label, links, options.readOnly ?? false);
}

async function openMore(
  links: ClientLink[],
  label: string,
  open: () => Promise<ClientLink>,
  wanted: number,
): Promise<void> {
  const first = links[0]!.agreement;
  if ((first.flags & TRANSMISSION_FLAG.CAN_MULTI_CONN) === 0) return;
  while (links.length < wanted) {
    const link = await open();
    links.push(link);
    const { agreement } = link;
    const same = (Object.keys(first) as (keyof Agreement)[]).every((key) => agreement[key] === first[key]);
    if (!same)
      throw new DiskError("PROTOCOL", `Cannot open ${label}: the server offers a different export on each connection`);
  }
}

function nbdDevice(label: string, links: readonly ClientLink[], readOnly: boolean): BlockDevice {
  const { size, blockSize, flags, maximumPayload, allocationContext, extendedHeaders } = links[0]!.agreement;
  const can = (flag: number) => (flags & flag) !== 0;
  const writable = !readOnly && !can(TRANSMISSION_FLAG.READ_ONLY);
  const io = new PipelinedIo(links, Math.min(PIECE, maximumPayload), extendedHeaders ? LONG_PIECE : RANGE_PIECE);
  const driver: Driver = {
    label,
    size,
    blockSize,
    writable,
    read: (offset, into) => io.payload(CMD.READ, offset, into),
    write: (offset, data) => io.payload(CMD.WRITE, offset, data),
    ...(can(TRANSMISSION_FLAG.SEND_WRITE_ZEROES) && {
      zero: (offset, length) => io.zero(offset, length, can(TRANSMISSION_FLAG.SEND_FAST_ZERO)),
    }),
    ...(can(TRANSMISSION_FLAG.SEND_TRIM) && { discard: (offset, length) => io.discard(offset, length) }),
    ...(allocationContext !== undefined && { extents: (offset, length) => extents(io, blockSize, offset, length) }),
    ...(can(TRANSMISSION_FLAG.SEND_FLUSH) && { flush: () => io.flush() }),
    close: async () => void (await Promise.all(links.map((link) => link.close()))),
  };
  return defineDevice(driver);
}

class PipelinedIo {
  readonly #links: readonly ClientLink[];
  readonly #piece: number;
  /** Most bytes of a request without payload. */
  readonly longest: number;
  /** Until the server says that zeros take their time. */
  #zeroIsFast = true;

  constructor(links: readonly ClientLink[], piece: number, longest: number) {
    this.#links = links;
    this.#piece = piece;
    this.longest = longest;
  }

  /** The connection with the fewest requests in flight. */
  get #link(): ClientLink {
    return this.#links.reduce((best, one) => (one.inFlight < best.inFlight ? one : best));
  }

  payload(type: number, offset: number, buffer: Uint8Array): Promise<void> {
    if (buffer.length <= this.#piece) return this.#link.request(type, offset, buffer.length, buffer).then(nothing);
    return inPieces(buffer.length, this.#piece, (at, length) =>
      this.#link.request(type, offset + at, length, buffer.subarray(at, at + length)),
    );
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#range(CMD.TRIM, offset, length, this.longest);
  }

  /** A large range is zeroed in few requests where the server can do that quickly, and in small ones where it writes them. */
  async zero(offset: number, length: number, canBeFast: boolean): Promise<void> {
    if (canBeFast && this.#zeroIsFast && length > ZERO_PIECE) {
      try {
        return await this.#range(CMD.WRITE_ZEROES, offset, length, this.longest, CMD_FLAG.FAST_ZERO);
      } catch (error) {
        if (!(error instanceof DiskError) || error.code !== "UNSUPPORTED") throw error;
        this.#zeroIsFast = false;
      }
    }
    return this.#range(CMD.WRITE_ZEROES, offset, length, ZERO_PIECE);
  }

  #range(type: number, offset: number, length: number, piece: number, flags = 0): Promise<void> {
    return inPieces(length, piece, (at, part) => this.#link.request(type, offset + at, part, undefined, flags));
  }

  /** One connection's flush holds for the others too: more than one are only opened where the server promises that. */
  flush(): Promise<void> {
    return this.#links[0]!.request(CMD.FLUSH, 0, 0).then(nothing);
  }

  async blockStatus(offset: number, length: number): Promise<readonly number[]> {
    return (await this.#link.request(CMD.BLOCK_STATUS, offset, length)).descriptors!;
  }
}

/** Runs `task` for each piece, some at a time. After a failure no more are begun, and it is thrown when none is running. */
async function inPieces(
  length: number,
  piece: number,
  task: (at: number, length: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const run = async () => {
    while (next < length) {
      const at = next;
      next += piece;
      await task(at, Math.min(piece, length - at));
    }
  };
  const runs = Array.from({ length: Math.min(WINDOW, Math.ceil(length / piece)) }, () =>
    run().catch((error) => {
      next = length;
      throw error;
    }),
  );
  const failed = (await Promise.allSettled(runs)).find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

/** Walks base:allocation. The server may tell about less than was asked, or in its last descriptor about more. */
async function* extents(io: PipelinedIo, blockSize: number, offset: number, length: number): AsyncGenerator<Extent> {
  const end = offset + length;
  let held: Extent | undefined;
  for (let at = offset; at < end; ) {
    const asked = Math.min(io.longest, end - at);
    for (const extent of described(await io.blockStatus(at, asked), at, asked, blockSize)) {
      if (held && held.data === extent.data && held.zero === extent.zero)
        held = { ...held, length: held.length + extent.length };
      else {
        if (held) yield held;
        held = extent;
      }
      at = extent.offset + extent.length;
    }
  }
  if (held) yield held;
}

/** At least one whole block, at most what was asked. */
function described(
  descriptors: readonly number[],
  offset: number,
  asked: number,
  blockSize: number,
): readonly Extent[] {
  const list = new RunList(offset, blockSize, Number.POSITIVE_INFINITY);
  let told = 0;
  for (let i = 0; i < descriptors.length && told < asked; i += 2) {
    const length = Math.min(descriptors[i]!, asked - told);
    list.add(length, descriptors[i + 1]! & (STATE.HOLE | STATE.ZERO));
    told += length;
  }
  // Less than a block was described: nothing is known of the whole block, so it counts as data.
  if (list.runs.length === 0) list.add(blockSize - told, 0);
  return list.runs.map(({ offset: start, length, status }) => toExtent(start, length, status));
}

/** A hole that does not read as zeros holds anything: it must be read to be known. */
function toExtent(offset: number, length: number, status: number): Extent {
  const zero = (status & STATE.ZERO) !== 0;
  const data = !zero || (status & STATE.HOLE) === 0;
  return { offset, length, data, zero, present: true, depth: 0, hostOffset: null };
}

function nothing(): void {}
