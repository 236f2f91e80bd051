/**
 * The digest of a device's visible bytes: the same for every format, sparseness and way of reading. Algorithm `sha256-4m`:
 *
 *     SHA-256( SHA-256(block 0) || SHA-256(block 1) || ... || size )
 *
 * Blocks are 4 MiB from byte 0 on, the last one as long as what is left, none for an empty device; `size` is the number
 * of bytes as 64 bits, little-endian. Blocks that the map knows to be zero are not read; others are hashed at once in
 * Node's thread pool. Memory is bounded by the blocks in flight.
 */
import { createHash, type Hash } from "node:crypto";
import { byteGranular } from "./aligned.js";
import type { BlockDevice } from "./device.js";
import { zeroRuns } from "./runs.js";

export interface ChecksumOptions {
  readonly signal?: AbortSignal;
  /** Bytes done, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Checksum {
  readonly algorithm: "sha256-4m";
  /** Hexadecimal, lower case. */
  readonly digest: string;
  /** Bytes of the device. */
  readonly size: number;
}

const BLOCK = 4 << 20;
const WIDTH = 4;
/** Digests of zero blocks are fed to the outer hash this many at a time. */
const ZERO_BATCH = 4096;

export async function checksumDevice(device: BlockDevice, options: ChecksumOptions = {}): Promise<Checksum> {
  const { signal, onProgress } = options;
  const bytes = byteGranular(device);
  const size = bytes.size;
  const outer = createHash("sha256");
  const zeros = new ZeroDigests();
  const pending: { digest: Promise<Uint8Array> | null; length: number }[] = [];
  const buffers = Array.from({ length: WIDTH }, () => new Uint8Array(Math.min(BLOCK, size)));
  let [started, done] = [0, 0];

  // Digests enter the outer hash in order, so the oldest block in flight is the one to wait for; its buffer is the next to use.
  const takeOldest = async () => {
    const { digest, length } = pending.shift()!;
    if (digest) outer.update(await digest);
    else zeros.update(outer, length);
    onProgress?.((done += length), size);
  };
  try {
    for await (const part of parts(bytes, size)) {
      signal?.throwIfAborted();
      if (pending.length === WIDTH) await takeOldest();
      const buffer = buffers[started++ % WIDTH]!;
      const digest = part.zero ? null : digestOf(bytes, part.offset, buffer.subarray(0, part.length));
      digest?.catch(() => {}); // thrown when its turn comes; until then it is no unhandled one
      pending.push({ digest, length: part.length });
    }
    while (pending.length > 0) await takeOldest();
  } finally {
    await Promise.allSettled(pending.map((part) => part.digest)); // nothing reads any more when we return
  }
  outer.update(BigUint64Array.of(BigInt(size)));
  return { algorithm: "sha256-4m", digest: outer.digest("hex"), size };
}

/** Single blocks that must be read, and runs of whole zero blocks, in order. */
async function* parts(
  device: BlockDevice,
  size: number,
): AsyncGenerator<{ offset: number; length: number; zero: boolean }> {
  let at = 0;
  function* blocksUpTo(end: number) {
    for (; at < end; at += BLOCK) yield { offset: at, length: Math.min(BLOCK, size - at), zero: false };
  }
  for await (const run of zeroRuns(device, 0, size)) {
    const runEnd = run.offset + run.length;
    if (!run.zero) {
      yield* blocksUpTo(Math.floor(runEnd / BLOCK) * BLOCK); // a block in part waits for what follows
      continue;
    }
    const first = Math.ceil(run.offset / BLOCK) * BLOCK;
    const end = runEnd === size ? size : Math.floor(runEnd / BLOCK) * BLOCK;
    if (first >= end) continue;
    yield* blocksUpTo(first);
    yield { offset: first, length: end - first, zero: true };
    at = end;
  }
  yield* blocksUpTo(size);
}

async function digestOf(device: BlockDevice, offset: number, into: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  await device.read(offset, into);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", into));
}

/** The digests of zero blocks, whole ones computed once. */
class ZeroDigests {
  #batch: Uint8Array | undefined;

  /** Feeds the digests of `length` zero bytes that begin at a block. */
  update(outer: Hash, length: number): void {
    let blocks = Math.floor(length / BLOCK);
    if (blocks > 0) this.#batch ??= repeated(zeroDigest(BLOCK), ZERO_BATCH);
    for (; blocks > 0; blocks -= Math.min(blocks, ZERO_BATCH))
      outer.update(this.#batch!.subarray(0, Math.min(blocks, ZERO_BATCH) * 32));
    if (length % BLOCK > 0) outer.update(zeroDigest(length % BLOCK));
  }
}

function zeroDigest(length: number): Uint8Array {
  return createHash("sha256").update(new Uint8Array(length)).digest();
}

function repeated(digest: Uint8Array, count: number): Uint8Array {
  const bytes = new Uint8Array(digest.length * count);
  for (let i = 0; i < count; i++) bytes.set(digest, i * digest.length);
  return bytes;
}
