/** Whether two devices show the same bytes. Zeros are not read where the maps know them, nor bytes that are one and the same in a file. */
import { isZero } from "../bytes/align.js";
import { alignedBuffer } from "../os/direct.js";
import { byteGranular } from "./aligned.js";
import type { BlockDevice } from "./device.js";
import { asFileRange } from "./file-range.js";
import { type ZeroRun, zeroRuns } from "./runs.js";
import { inFlight } from "./tasks.js";

export interface CompareOptions {
  readonly signal?: AbortSignal;
  /** Different sizes are a difference; by default a tail of zeros is none (as `qemu-img compare`). */
  readonly strict?: boolean;
  /** Bytes done, of how many. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Comparison {
  readonly same: boolean;
  /** The first byte that differs; with `strict` and equal contents the shorter one's size. */
  readonly firstDifference: number | null;
}

/** Bytes of a piece that must be read, at most. */
export const PIECE = 1 << 20;
const WIDTH = 4;

export async function compareDevices(
  a: BlockDevice,
  b: BlockDevice,
  options: CompareOptions = {},
): Promise<Comparison> {
  const [left, right] = [byteGranular(a), byteGranular(b)];
  const shared = Math.min(left.size, right.size);
  const total = Math.max(left.size, right.size);
  const buffers = Array.from({ length: WIDTH }, () => [alignedBuffer(PIECE), alignedBuffer(PIECE)] as const);
  let first = Number.POSITIVE_INFINITY;
  let done = 0;

  await inFlight(
    WIDTH,
    pairedPieces(left, right, shared, { difference: () => first }),
    async (piece, lane) => {
      const at = await differenceIn(left, right, piece, buffers[lane]!);
      if (at !== null) first = Math.min(first, at); // pieces before this one are in flight or done
      done += piece.length;
      options.onProgress?.(done, total);
    },
    options.signal,
  );
  if (first === Number.POSITIVE_INFINITY && left.size !== right.size)
    first = options.strict ? shared : await firstNonZero(left.size > right.size ? left : right, shared, options.signal);
  const same = first === Number.POSITIVE_INFINITY;
  return { same, firstDifference: same ? null : first };
}

/** A piece of two devices at the same place. */
export interface PairedPiece {
  readonly offset: number;
  readonly length: number;
  readonly leftZero: boolean;
  readonly rightZero: boolean;
}

/** What both maps say, cut where either changes. Ends once a difference is known: later pieces cannot be the first one. */
export async function* pairedPieces(
  left: BlockDevice,
  right: BlockDevice,
  end: number,
  {
    from = 0,
    difference = () => Number.POSITIVE_INFINITY,
  }: { readonly from?: number; readonly difference?: () => number } = {},
): AsyncGenerator<PairedPiece> {
  const maps = [zeroRuns(left, from, end - from), zeroRuns(right, from, end - from)] as const;
  const runs: [ZeroRun | undefined, ZeroRun | undefined] = [undefined, undefined];
  try {
    for (let at = from; at < end && difference() === Number.POSITIVE_INFINITY; ) {
      for (const side of [0, 1] as const)
        if (endOf(runs[side]) <= at) runs[side] = (await maps[side].next()).value as ZeroRun;
      const next = Math.min(endOf(runs[0]), endOf(runs[1]));
      const [leftZero, rightZero] = [runs[0]!.zero, runs[1]!.zero];
      const length = leftZero && rightZero ? next - at : Math.min(next - at, PIECE);
      yield { offset: at, length, leftZero, rightZero };
      at += length;
    }
  } finally {
    for (const map of maps) await map.return(undefined);
  }
}

function endOf(run: ZeroRun | undefined): number {
  return run ? run.offset + run.length : 0;
}

async function differenceIn(
  left: BlockDevice,
  right: BlockDevice,
  { offset, length, leftZero, rightZero }: PairedPiece,
  [leftBuffer, rightBuffer]: readonly [Uint8Array, Uint8Array],
): Promise<number | null> {
  if (leftZero && rightZero) return null;
  if (!leftZero && !rightZero && (await sameStorage(left, right, offset, length))) return null;
  const leftBytes = leftBuffer.subarray(0, length);
  const rightBytes = rightBuffer.subarray(0, length);
  await Promise.all([fill(left, offset, leftBytes, leftZero), fill(right, offset, rightBytes, rightZero)]);
  const at = mismatch(leftBytes, rightBytes);
  return at < 0 ? null : offset + at;
}

/** Whether the bytes of both lie at one place of one file. */
export async function sameStorage(
  left: BlockDevice,
  right: BlockDevice,
  offset: number,
  length: number,
): Promise<boolean> {
  const [one, other] = await Promise.all([asFileRange(left, offset, length), asFileRange(right, offset, length)]);
  if (!one || !other || one.file.identity !== other.file.identity) return false;
  return one.offset === other.offset && one.length >= length && other.length >= length;
}

async function fill(device: BlockDevice, offset: number, into: Uint8Array, zero: boolean): Promise<void> {
  if (zero) into.fill(0);
  else await device.read(offset, into);
}

/** Index of the first different byte of two equally long buffers, or -1. Halves the range at memory speed. */
function mismatch(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  let [start, end] = [0, a.length];
  while (end - start > 1) {
    const middle = (start + end) >>> 1;
    if (Buffer.compare(a.subarray(start, middle), b.subarray(start, middle)) === 0) start = middle;
    else end = middle;
  }
  return start;
}

/** The first byte from `offset` on that is not zero; infinity when there is none. */
async function firstNonZero(device: BlockDevice, offset: number, signal?: AbortSignal): Promise<number> {
  const buffer = new Uint8Array(PIECE);
  for await (const run of zeroRuns(device, offset, device.size - offset)) {
    const end = run.zero ? 0 : run.offset + run.length;
    for (let at = run.offset; at < end; at += PIECE) {
      signal?.throwIfAborted();
      const bytes = buffer.subarray(0, Math.min(PIECE, end - at));
      await device.read(at, bytes);
      if (!isZero(bytes)) return at + bytes.findIndex((byte) => byte !== 0);
    }
  }
  return Number.POSITIVE_INFINITY;
}
