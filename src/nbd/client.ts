/**
 * NBD client: an export of any newstyle server as a BlockDevice. Requests are pipelined, large ones are cut and spread over the connections.
 * Does not yet: TLS, extended headers, reconnecting after a lost connection.
 */
import { type BlockDevice, type Driver, defineDevice, type Extent } from "../block/device.js";
import { DiskError } from "../errors.js";
import { RunList } from "./allocation.js";
import { ClientConnection, type ConnectionOptions } from "./client-connection.js";
import type { Agreement } from "./client-handshake.js";
import { CMD, STATE, TRANSMISSION_FLAG } from "./codes.js";
import { type NbdAddress, parseNbdUri, printNbdUri } from "./uri.js";

export interface NbdClientOptions {
  /** Connections to spread requests over, where the server allows more than one; default 1. */
  readonly connections?: number;
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

/** Throws `NOT_FOUND` for an unknown export, `UNSUPPORTED` for a URI that needs TLS, `IO` when there is no server. */
export async function connectNbd(uri: string, options: NbdClientOptions = {}): Promise<BlockDevice> {
  const address = parseNbdUri(uri);
  const label = printNbdUri(address);
  const timing = { timeoutMs: options.timeoutMs ?? TIMEOUT_MS, silenceMs: options.timeoutMs ?? 0 };
  const connections = [await ClientConnection.open(address, label, timing)];
  try {
    await openMore(connections, address, label, timing, options.connections ?? 1);
  } catch (error) {
    await Promise.all(connections.map((connection) => connection.close()));
    throw error;
  }
  return nbdDevice(label, connections, options.readOnly ?? false);
}

async function openMore(
  connections: ClientConnection[],
  address: NbdAddress,
  label: string,
  timing: ConnectionOptions,
  wanted: number,
): Promise<void> {
  const first = connections[0]!.agreement;
  if ((first.flags & TRANSMISSION_FLAG.CAN_MULTI_CONN) === 0) return;
  while (connections.length < wanted) {
    const connection = await ClientConnection.open(address, label, timing);
    connections.push(connection);
    const { agreement } = connection;
    const same = (Object.keys(first) as (keyof Agreement)[]).every((key) => agreement[key] === first[key]);
    if (!same)
      throw new DiskError("PROTOCOL", `Cannot open ${label}: the server offers a different export on each connection`);
  }
}

function nbdDevice(label: string, connections: readonly ClientConnection[], readOnly: boolean): BlockDevice {
  const { size, blockSize, flags, maximumPayload, allocationContext } = connections[0]!.agreement;
  const can = (flag: number) => (flags & flag) !== 0;
  const writable = !readOnly && !can(TRANSMISSION_FLAG.READ_ONLY);
  const io = new PipelinedIo(connections, Math.min(PIECE, maximumPayload));
  const driver: Driver = {
    label,
    size,
    blockSize,
    writable,
    read: (offset, into) => io.payload(CMD.READ, offset, into),
    write: (offset, data) => io.payload(CMD.WRITE, offset, data),
    ...(can(TRANSMISSION_FLAG.SEND_WRITE_ZEROES) && {
      zero: (offset, length) => io.range(CMD.WRITE_ZEROES, offset, length, ZERO_PIECE),
    }),
    ...(can(TRANSMISSION_FLAG.SEND_TRIM) && {
      discard: (offset, length) => io.range(CMD.TRIM, offset, length, RANGE_PIECE),
    }),
    ...(allocationContext !== undefined && { extents: (offset, length) => extents(io, blockSize, offset, length) }),
    ...(can(TRANSMISSION_FLAG.SEND_FLUSH) && { flush: () => io.flush() }),
    close: async () => void (await Promise.all(connections.map((connection) => connection.close()))),
  };
  return defineDevice(driver);
}

class PipelinedIo {
  readonly #connections: readonly ClientConnection[];
  readonly #piece: number;

  constructor(connections: readonly ClientConnection[], piece: number) {
    this.#connections = connections;
    this.#piece = piece;
  }

  /** The connection with the fewest requests in flight. */
  get connection(): ClientConnection {
    return this.#connections.reduce((best, one) => (one.inFlight < best.inFlight ? one : best));
  }

  payload(type: number, offset: number, buffer: Uint8Array): Promise<void> {
    if (buffer.length <= this.#piece) return this.connection.request(type, offset, buffer.length, buffer).then(nothing);
    return inPieces(buffer.length, this.#piece, (at, length) =>
      this.connection.request(type, offset + at, length, buffer.subarray(at, at + length)),
    );
  }

  range(type: number, offset: number, length: number, piece: number): Promise<void> {
    return inPieces(length, piece, (at, part) => this.connection.request(type, offset + at, part));
  }

  /** One connection's flush holds for the others too: more than one are only opened where the server promises that. */
  flush(): Promise<void> {
    return this.#connections[0]!.request(CMD.FLUSH, 0, 0).then(nothing);
  }

  async blockStatus(offset: number, length: number): Promise<readonly number[]> {
    return (await this.connection.request(CMD.BLOCK_STATUS, offset, length)).descriptors!;
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
    const asked = Math.min(RANGE_PIECE, end - at);
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
