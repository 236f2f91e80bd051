/**
 * A file's bytes past the page cache, at any offset, of any length, in any memory: what direct access does not take as
 * it is passes through memory that suits, and blocks that a write covers in part are read, changed and written back.
 *
 * The file's last page, where it is not whole, is read and written through the cache, always: direct access cannot write
 * less than a block, and a page that is used both ways at once may lose what was written past the cache.
 */
import { alignDown } from "../bytes/align.js";
import { DiskError, fromErrno } from "../errors.js";
import { alignedBuffer, DIRECT_UNIT, type DirectAccess } from "../os/direct.js";
import type { OpenFile } from "../os/file.js";
import { byteGranular } from "./aligned.js";
import { type BlockDevice, defineDevice } from "./device.js";

/** The most that passes through other memory at once. */
const BOUNCE = 1 << 20;

/** What a file device asks of its file. Ranges are within the file. */
export type FileBytes = Pick<BlockDevice, "read" | "write" | "zero" | "discard">;

/** A file's bytes through the page cache. */
export function cachedBytes(file: OpenFile): FileBytes {
  return {
    read: (offset, into) => file.read(offset, into),
    write: (offset, data) => file.write(offset, data),
    zero: (offset, length) => file.punchHole(offset, length),
    discard: (offset, length) => file.punchHole(offset, length),
  };
}

type Run = (bytes: FileBytes, from: number, to: number) => Promise<void>;

export class DirectBytes implements FileBytes {
  readonly #file: OpenFile;
  readonly #access: DirectAccess;
  /** All whole pages, in any granularity. */
  readonly #pages: BlockDevice;
  readonly #lastPage: FileBytes;
  #underWay = 0;
  #whenIdle: (() => void) | undefined;

  /** Owns `access`, not the file. */
  constructor(file: OpenFile, access: DirectAccess) {
    this.#file = file;
    this.#access = access;
    const blocks = defineDevice({
      label: `"${file.path}"`,
      get size() {
        return alignDown(file.size, DIRECT_UNIT);
      },
      blockSize: access.unit,
      writable: file.writable,
      read: (offset, into) => this.#read(offset, into),
      write: (offset, data) => this.#write(offset, data),
      zero: (offset, length) => file.punchHole(offset, length),
      discard: (offset, length) => file.punchHole(offset, length),
    });
    this.#pages = byteGranular(blocks);
    this.#lastPage = cachedBytes(file);
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#split(offset, into.length, (bytes, from, to) => bytes.read(offset + from, into.subarray(from, to)));
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#split(offset, data.length, (bytes, from, to) => bytes.write(offset + from, data.subarray(from, to)));
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#split(offset, length, (bytes, from, to) => bytes.zero(offset + from, to - from));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#split(offset, length, (bytes, from, to) => bytes.discard(offset + from, to - from));
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    if (this.#underWay > 0)
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve;
      });
    this.#access.close();
  }

  /** The part in whole pages, then the part in the last one, each only where there is one. */
  #split(offset: number, length: number, run: Run): Promise<void> {
    const work = this.#start(offset, length, run);
    this.#underWay++;
    work.then(this.#ended, this.#ended);
    return work;
  }

  readonly #ended = (): void => {
    if (--this.#underWay === 0) this.#whenIdle?.();
  };

  #start(offset: number, length: number, run: Run): Promise<void> {
    const whole = Math.min(this.#pages.size - offset, length);
    if (whole === length) return run(this.#pages, 0, length);
    if (whole <= 0) return run(this.#lastPage, 0, length);
    return both(run(this.#pages, 0, whole), run(this.#lastPage, whole, length));
  }

  #read(offset: number, into: Uint8Array): Promise<void> {
    return this.#access.suits(offset, into) ? this.#readAligned(offset, into) : this.#readBounced(offset, into);
  }

  #readAligned(offset: number, into: Uint8Array): Promise<void> {
    return this.#access.read(offset, into).then(
      (count) => (count === into.length ? undefined : this.#readRest(offset, into, count)),
      (error: unknown) => Promise.reject(fromErrno(`read "${this.#file.path}"`, error)),
    );
  }

  /** A short count is the file's end, unless it ends where the next block begins. */
  #readRest(offset: number, into: Uint8Array, count: number): Promise<void> {
    if (count > 0 && count % this.#access.unit === 0) return this.#readAligned(offset + count, into.subarray(count));
    const text = `it ends at byte ${offset + count}, asked for ${offset}..${offset + into.length}`;
    return Promise.reject(new DiskError("IO", `Cannot read "${this.#file.path}": ${text}`));
  }

  #write(offset: number, data: Uint8Array): Promise<void> {
    return this.#access.suits(offset, data) ? this.#writeAligned(offset, data) : this.#writeBounced(offset, data);
  }

  #writeAligned(offset: number, data: Uint8Array): Promise<void> {
    return this.#access.write(offset, data).then(
      (count) => (count === data.length ? undefined : this.#writeRest(offset, data, count)),
      (error: unknown) => Promise.reject(fromErrno(`write "${this.#file.path}"`, error)),
    );
  }

  /** From the last whole block on: what stopped the write tells itself there. */
  #writeRest(offset: number, data: Uint8Array, count: number): Promise<void> {
    const done = alignDown(count, this.#access.unit);
    if (done > 0) return this.#writeAligned(offset + done, data.subarray(done));
    const text = `the system took ${count} bytes at ${offset}, asked for ${data.length}`;
    return Promise.reject(new DiskError("IO", `Cannot write "${this.#file.path}": ${text}`));
  }

  async #readBounced(offset: number, into: Uint8Array): Promise<void> {
    const buffer = alignedBuffer(Math.min(into.length, BOUNCE));
    for (let done = 0; done < into.length; done += BOUNCE) {
      const part = buffer.subarray(0, Math.min(BOUNCE, into.length - done));
      await this.#readAligned(offset + done, part);
      into.set(part, done);
    }
  }

  async #writeBounced(offset: number, data: Uint8Array): Promise<void> {
    const buffer = alignedBuffer(Math.min(data.length, BOUNCE));
    for (let done = 0; done < data.length; done += BOUNCE) {
      const part = buffer.subarray(0, Math.min(BOUNCE, data.length - done));
      part.set(data.subarray(done, done + part.length));
      await this.#writeAligned(offset + done, part);
    }
  }
}

/** Done when both are, also when one fails: the other may still use the memory. */
async function both(first: Promise<void>, second: Promise<void>): Promise<void> {
  const results = await Promise.allSettled([first, second]);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
