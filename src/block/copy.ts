/**
 * The copy engine: all visible bytes of one device to another. Holes are never read and stay holes; several pieces are in
 * flight with bounded memory. The ways, the first that works is taken for each piece:
 *
 *   1. files on one file system share their blocks (FICLONERANGE)
 *   2. long copies into a new file: read through the cache, written past it, so that the sync at the end finds nothing to do
 *   3. the kernel copies from file to file (copy_file_range); its dirty pages are sent to the disk while the copy goes on
 *   4. read and write
 */
import { isZero } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { alignedBuffer, DIRECT_UNIT } from "../os/direct.js";
import { byteGranular } from "./aligned.js";
import { compareDevices } from "./compare.js";
import { type BlockDevice, defineDevice } from "./device.js";
import { asFileRange } from "./file-range.js";
import { type ZeroRun, zeroRuns } from "./runs.js";
import { slice } from "./slice.js";
import { inFlight } from "./tasks.js";

export interface CopyOptions {
  readonly sourceOffset?: number;
  readonly targetOffset?: number;
  /** Bytes; default: from `sourceOffset` to the source's end. */
  readonly length?: number;
  /** Parts of the range, ascending, offsets from its begin; what lies between them is not touched. Default: all of it. */
  readonly parts?: AsyncIterable<{ readonly offset: number; readonly length: number }>;
  /** The target's range reads as zeros now (a new file): zeros are left out instead of written. */
  readonly targetIsZero?: boolean;
  /**
   * Look for zeros within data, 4 KiB at a time, and keep them out of the target. "auto": where the bytes pass
   * through this process anyway; "always": also where the kernel could copy by itself.
   */
  readonly detectZeros?: "auto" | "always";
  /** Have the kernel begin writing to the disk beside the copy, for a sync that follows. Default true. */
  readonly writeBehind?: boolean;
  /** Bytes of data after which a target that was zero is written past the page cache; default 4 GiB. */
  readonly cacheAtMost?: number;
  /**
   * Read both sides again afterwards and compare. The reads may come from the page cache, and then prove only that the
   * right bytes went to the right places; a target that was written past the cache is read from its disk.
   */
  readonly verify?: boolean;
  /** Looked at between pieces; the promise rejects with its reason when nothing is in flight any more. */
  readonly signal?: AbortSignal;
  /** Bytes of the range that are done, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** Bytes; the first three sum up to the range. */
export interface CopyResult {
  /** Written to the target. */
  readonly copied: number;
  /** Made zero on the target because it might have held something else. */
  readonly zeroed: number;
  /** Zeros that needed nothing. */
  readonly skipped: number;
  /** Of `copied`, what the kernel copied or shared without the bytes passing through this process. */
  readonly inKernel: number;
}

/** A piece is what one lane works on; large, because the kernel is asked once for it. */
const PIECE = 8 << 20;
/**
 * What is read at once where the bytes pass through this process: it stays in the processor's cache until it is written,
 * and the page cache takes it in pieces of memory that need not be found, cleared or asked of a host first.
 */
const BUFFER = 256 << 10;
const WIDTH = 8;
const ZERO_UNIT = 4096;
/** On a target that is not zero yet, shorter zero runs are written as data: a hole for each would cost more. */
const SHORTEST_ZEROED = 64 * 1024;
/** Shorter copies stay in the page cache, where their first user finds them; longer ones would displace everybody else's pages. */
const CACHE_AT_MOST = 4 * 2 ** 30;

/** On failure or abort the target's range holds any mix of old and new; nothing outside it has changed. */
export async function copyDevice(
  source: BlockDevice,
  target: BlockDevice,
  options: CopyOptions = {},
): Promise<CopyResult> {
  const job = new CopyJob(byteGranular(source), byteGranular(target), options);
  try {
    await inFlight(WIDTH, job.pieces(), (piece, lane) => job.copy(piece, lane), options.signal);
    if (options.verify) await verifyCopy(job, options.signal);
  } finally {
    job.over = true;
    await job.writeback; // the file may be closed when we return
  }
  return job.result;
}

interface Piece {
  /** Bytes from the start of the range. */
  readonly at: number;
  readonly length: number;
  readonly zero: boolean;
}

class CopyJob {
  readonly result = { copied: 0, zeroed: 0, skipped: 0, inKernel: 0 };
  readonly source: BlockDevice;
  readonly target: BlockDevice;
  readonly from: number;
  readonly to: number;
  readonly length: number;
  readonly #options: CopyOptions;
  readonly #buffers: (Uint8Array | undefined)[] = [];
  // Ways that are still open.
  #shares: boolean;
  #kernelCopies: boolean;
  #directWrites: boolean;
  #done = 0;
  wentPastCache = false;
  /** Nothing of what is still queued for write-back is worth asking for: a sync comes next, or nothing. */
  over = false;
  /** Settles when no request for write-back is under way. Nobody waits for one before the end: they block while the disk is busy. */
  writeback: Promise<void> = Promise.resolve();

  constructor(source: BlockDevice, target: BlockDevice, options: CopyOptions) {
    const { sourceOffset = 0, targetOffset = 0, length = source.size - sourceOffset } = options;
    [this.source, this.target, this.from, this.to, this.length] = [source, target, sourceOffset, targetOffset, length];
    this.#options = options;
    this.#kernelCopies = this.#shares = options.detectZeros !== "always";
    this.#directWrites = options.targetIsZero ?? false;
    const fits = sourceOffset >= 0 && length >= 0 && length <= source.size - sourceOffset;
    if (!(fits && targetOffset >= 0 && length <= target.size - targetOffset))
      throw new RangeError(
        `Cannot copy ${source.label} to ${target.label}: ${length} bytes from ${sourceOffset} of ${source.size} to ${targetOffset} of ${target.size}`,
      );
    if (source === target && Math.abs(sourceOffset - targetOffset) < length)
      throw new RangeError(`Cannot copy within ${source.label}: the ranges overlap`);
  }

  /** Zero runs whole; data cut at multiples of the piece, counted from the start of the range. */
  async *pieces(): AsyncGenerator<Piece> {
    for await (const run of this.#runs()) {
      const end = run.offset - this.from + run.length;
      for (let at = run.offset - this.from; at < end; ) {
        const length = run.zero ? end - at : Math.min(end - at, PIECE - (at % PIECE));
        yield { at, length, zero: run.zero };
        at += length;
      }
    }
  }

  async *#runs(): AsyncGenerator<ZeroRun> {
    const { parts } = this.#options;
    if (!parts) return yield* zeroRuns(this.source, this.from, this.length);
    for await (const { offset, length } of parts) yield* zeroRuns(this.source, this.from + offset, length);
  }

  async copy(piece: Piece, lane: number): Promise<void> {
    if (piece.zero) await this.#zero(piece.at, piece.length);
    else await this.#copyData(piece, lane);
    this.#options.onProgress?.((this.#done += piece.length), this.length);
  }

  async #copyData({ at, length }: Piece, lane: number): Promise<void> {
    let direct = false;
    for (let done = 0; done < length; ) {
      const inKernel = await this.#copyInKernel(at + done, length - done);
      if (inKernel > 0) {
        this.result.inKernel += inKernel;
        this.result.copied += inKernel;
        done += inKernel;
        continue;
      }
      const part = Math.min(BUFFER, length - done);
      this.#buffers[lane] ??= alignedBuffer(BUFFER);
      direct = await this.#copyThroughBuffer(at + done, this.#buffers[lane].subarray(0, part));
      done += part;
    }
    if (!direct && this.#options.writeBehind !== false)
      this.writeback = this.writeback.then(() => this.#beginWriteback(at, length)).catch(() => {});
  }

  /** Bytes that the kernel has shared or copied from file to file; 0 where it cannot. What fails once is not asked again. */
  async #copyInKernel(at: number, length: number): Promise<number> {
    if (!this.#shares && (!this.#kernelCopies || this.#bypassesCache)) return 0;
    const from = await asFileRange(this.source, this.from + at, length);
    const to = from && (await asFileRange(this.target, this.to + at, from.length));
    if (!from || !to?.exclusive || !to.file.writable) return 0;
    if (this.#shares && (await from.file.shareRangeWith(to.file, from.offset, to.offset, to.length))) return to.length;
    this.#shares = false;
    if (!this.#kernelCopies || this.#bypassesCache) return 0;
    const count = await from.file.copyRangeTo(to.file, from.offset, to.offset, to.length);
    if (count === 0) this.#kernelCopies = false;
    return count;
  }

  /** Long copies into a file that was zero do not go through the page cache. */
  get #bypassesCache(): boolean {
    return this.#directWrites && this.result.copied >= (this.#options.cacheAtMost ?? CACHE_AT_MOST);
  }

  /** Returns whether the bytes went past the page cache. */
  async #copyThroughBuffer(at: number, buffer: Uint8Array): Promise<boolean> {
    let direct = false;
    await this.source.read(this.from + at, buffer);
    for (const run of splitZeros(buffer, this.#options.targetIsZero ? ZERO_UNIT : SHORTEST_ZEROED)) {
      if (run.zero) {
        await this.#zero(at + run.start, run.end - run.start);
      } else {
        const data = buffer.subarray(run.start, run.end);
        direct = this.#bypassesCache && (await this.#writeDirect(at + run.start, data));
        if (!direct) await this.target.write(this.to + at + run.start, data);
        this.result.copied += data.length;
      }
    }
    return direct;
  }

  async #writeDirect(at: number, data: Uint8Array): Promise<boolean> {
    if (data.length % DIRECT_UNIT !== 0) return false; // the end of a file
    const to = await asFileRange(this.target, this.to + at, data.length);
    this.#directWrites =
      to?.exclusive === true && to.length === data.length && (await to.file.writeDirect(to.offset, data));
    this.wentPastCache ||= this.#directWrites;
    return this.#directWrites;
  }

  /** Zeros on the target, where its own map does not know them already. */
  async #zero(at: number, length: number): Promise<void> {
    if (this.#options.targetIsZero) {
      this.result.skipped += length;
      return;
    }
    for await (const run of zeroRuns(this.target, this.to + at, length)) {
      this.#options.signal?.throwIfAborted();
      if (!run.zero) await this.target.zero(run.offset, run.length);
      this.result[run.zero ? "skipped" : "zeroed"] += run.length;
    }
  }

  async #beginWriteback(at: number, length: number): Promise<void> {
    if (this.over) return;
    const to = await asFileRange(this.target, this.to + at, length);
    if (to?.exclusive && to.length === length) await to.file.startWriteback(to.offset, length);
  }
}

/** The buffer in turns of zeros and not zeros; zero runs shorter than `shortest` count as data. */
function* splitZeros(buffer: Uint8Array, shortest: number): Generator<{ start: number; end: number; zero: boolean }> {
  let dataStart = 0;
  for (let at = 0; at < buffer.length; ) {
    const zeroEnd = endOfZeros(buffer, at);
    if (zeroEnd - at >= shortest || (at === 0 && zeroEnd === buffer.length)) {
      if (dataStart < at) yield { start: dataStart, end: at, zero: false };
      yield { start: at, end: zeroEnd, zero: true };
      dataStart = zeroEnd;
    }
    at = zeroEnd > at ? zeroEnd : Math.min(at + ZERO_UNIT, buffer.length);
  }
  if (dataStart < buffer.length) yield { start: dataStart, end: buffer.length, zero: false };
}

/** End of the zero units that begin at `start`; `start` itself when the unit there is not zero. */
function endOfZeros(buffer: Uint8Array, start: number): number {
  let end = start;
  while (end < buffer.length && isZero(buffer.subarray(end, Math.min(end + ZERO_UNIT, buffer.length))))
    end = Math.min(end + ZERO_UNIT, buffer.length);
  return end;
}

async function verifyCopy(job: CopyJob, signal: AbortSignal | undefined): Promise<void> {
  const source = slice(job.source, job.from, job.length);
  const target = slice(job.wentPastCache ? pastCache(job.target) : job.target, job.to, job.length);
  const { firstDifference } = await compareDevices(source, target, { strict: true, ...(signal ? { signal } : {}) });
  if (firstDifference !== null)
    throw new DiskError(
      "IO",
      `Cannot verify ${job.target.label}: byte ${job.to + firstDifference} is not what ${job.source.label} has`,
      {
        details: { offset: job.to + firstDifference },
      },
    );
}

/** The same device, read from the disk where its bytes lie in a file and the request suits that. */
function pastCache(device: BlockDevice): BlockDevice {
  return defineDevice({
    label: device.label,
    size: device.size,
    blockSize: device.blockSize,
    async read(offset, into) {
      const range = await asFileRange(device, offset, into.length);
      if (range?.length === into.length && (await range.file.readDirect(range.offset, into))) return;
      await device.read(offset, into);
    },
    extents: (offset, length) => device.extents(offset, length),
  });
}
