/** Copies to an overlay what it cannot take from its backing device: the ranges where a source shows something else. */
import { isZero } from "../bytes/align.js";
import { byteGranular } from "./aligned.js";
import { type PairedPiece, PIECE, pairedPieces, sameStorage } from "./compare.js";
import type { BlockDevice } from "./device.js";
import { padded } from "./padded.js";
import { inFlight } from "./tasks.js";

export interface DifferenceOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Ranges to look at, ascending; default: all of the source. */
  readonly ranges?: AsyncIterable<{ readonly offset: number; readonly length: number }>;
}

/** Compared, and copied when different, as a whole. */
const UNIT = 64 * 1024;
const WIDTH = 4;

/**
 * After it `target`, which takes from `base` what it does not hold, shows what `source` shows; `source` may be the target
 * itself on its present backing device. Returns the bytes copied.
 */
export async function copyDifferences(
  source: BlockDevice,
  base: BlockDevice,
  target: BlockDevice,
  options: DifferenceOptions = {},
): Promise<{ copied: number }> {
  const size = source.size;
  const from = byteGranular(source);
  const beneath = padded(byteGranular(base), Math.max(size, base.size));
  const job = new DifferenceJob(from, beneath, byteGranular(target));
  let done = 0;
  await inFlight(
    WIDTH,
    piecesOf(from, beneath, options.ranges ?? whole(size)),
    async (piece, lane) => {
      await job.copy(piece, lane);
      options.onProgress?.((done += piece.length), size);
    },
    options.signal,
  );
  return { copied: job.copied };
}

async function* whole(length: number) {
  if (length > 0) yield { offset: 0, length };
}

async function* piecesOf(
  source: BlockDevice,
  base: BlockDevice,
  ranges: AsyncIterable<{ readonly offset: number; readonly length: number }>,
): AsyncGenerator<PairedPiece> {
  for await (const { offset, length } of ranges) yield* pairedPieces(source, base, offset + length, { from: offset });
}

class DifferenceJob {
  copied = 0;
  readonly #source: BlockDevice;
  readonly #base: BlockDevice;
  readonly #target: BlockDevice;
  readonly #buffers = Array.from({ length: WIDTH }, () => [new Uint8Array(PIECE), new Uint8Array(PIECE)] as const);

  constructor(source: BlockDevice, base: BlockDevice, target: BlockDevice) {
    this.#source = source;
    this.#base = base;
    this.#target = target;
  }

  async copy({ offset, length, leftZero, rightZero }: PairedPiece, lane: number): Promise<void> {
    if (leftZero && rightZero) return;
    if (leftZero) return this.#target.zero(offset, length);
    if (!rightZero && (await sameStorage(this.#source, this.#base, offset, length))) return;
    const [mine, theirs] = this.#buffers[lane]!.map((buffer) => buffer.subarray(0, length)) as [Uint8Array, Uint8Array];
    await this.#source.read(offset, mine);
    if (rightZero) theirs.fill(0);
    else await this.#base.read(offset, theirs);
    for (let at = 0; at < length; ) {
      const end = Math.min(length, at + UNIT - ((offset + at) % UNIT));
      if (Buffer.compare(mine.subarray(at, end), theirs.subarray(at, end)) !== 0) {
        await this.#put(offset + at, mine.subarray(at, end));
      }
      at = end;
    }
  }

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    if (isZero(bytes)) return this.#target.zero(offset, bytes.length);
    await this.#target.write(offset, bytes);
    this.copied += bytes.length;
  }
}
