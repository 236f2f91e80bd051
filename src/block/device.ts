/**
 * The noun in the middle: a fixed-size array of bytes, addressed by byte offset.
 * Every layer consumes devices, produces one, or both. Bounds, alignment and read-only are checked here and nowhere else.
 */
import { DiskError } from "../errors.js";

/**
 * One run of an allocation map, with the meaning of `qemu-img map --output=json`.
 * `zero` and `data` together say what a reader must do: `zero` needs no read, `data` needs one.
 */
export interface Extent {
  readonly offset: number; // bytes
  readonly length: number; // bytes, above 0
  /** Stored bytes that may be anything. */
  readonly data: boolean;
  /** Reads as zeros without being read. */
  readonly zero: boolean;
  /** Allocated somewhere in the chain (a hole of a raw file counts, as for qemu-img). */
  readonly present: boolean;
  /** 0 for the device itself, 1 for its backing device, and so on. */
  readonly depth: number;
  /** Where the bytes lie in the file that holds them, when they lie there as they are. */
  readonly hostOffset: number | null;
}

export interface BlockDevice {
  /** What it is, for messages: `qcow2 "a.qcow2"`. */
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  /** Bytes; every offset and length is a multiple of it. */
  readonly blockSize: number;
  readonly writable: boolean;
  /** Fills all of `into` or throws; there are no short reads. */
  read(offset: number, into: Uint8Array): Promise<void>;
  /** Resolves when a later read sees `data`; durable only after flush(). `data` is not kept. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** The range reads back as zeros; gives space back where the layer can. */
  zero(offset: number, length: number): Promise<void>;
  /** A hint; contents become unspecified. */
  discard(offset: number, length: number): Promise<void>;
  /** Ascending, gapless, covers exactly the range. */
  extents(offset: number, length: number): AsyncIterable<Extent>;
  /** Resolves when every write that resolved before is on stable storage. */
  flush(): Promise<void>;
  /** Idempotent; closes what it opened, nothing else. */
  close(): Promise<void>;
}

/** What a layer supplies: label, size and read; the rest is filled in. Ranges that reach a driver are within bounds, aligned and not empty. */
export interface Driver {
  readonly label: string;
  readonly size: number;
  /** Default 1: any byte offset. */
  readonly blockSize?: number;
  /** Default: whether there is a `write`. */
  readonly writable?: boolean;
  read(offset: number, into: Uint8Array): Promise<void>;
  write?(offset: number, data: Uint8Array): Promise<void>;
  zero?(offset: number, length: number): Promise<void>;
  discard?(offset: number, length: number): Promise<void>;
  extents?(offset: number, length: number): AsyncIterable<Extent>;
  flush?(): Promise<void>;
  close?(): Promise<void>;
}

const DONE: Promise<void> = Promise.resolve();
/** Zeros for drivers without a `zero` of their own: one piece of this size is written again and again. */
const ZERO_PIECE = 1 << 20;

export function defineDevice(driver: Driver): BlockDevice {
  return new CheckedDevice(driver);
}

class CheckedDevice implements BlockDevice {
  readonly #driver: Driver;
  readonly blockSize: number;
  readonly writable: boolean;
  #closed = false;

  constructor(driver: Driver) {
    this.#driver = driver;
    this.blockSize = driver.blockSize ?? 1;
    this.writable = driver.writable ?? driver.write !== undefined;
  }

  get label(): string {
    return this.#driver.label;
  }

  get size(): number {
    return this.#driver.size;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    const misuse = this.#misuse("read", offset, into.length);
    if (misuse) return Promise.reject(misuse);
    return into.length === 0 ? DONE : this.#driver.read(offset, into);
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    const misuse = this.#misuse("write", offset, data.length) ?? this.#readOnly("write");
    if (misuse) return Promise.reject(misuse);
    return data.length === 0 ? DONE : this.#driver.write!(offset, data);
  }

  zero(offset: number, length: number): Promise<void> {
    const misuse = this.#misuse("zero", offset, length) ?? this.#readOnly("zero");
    if (misuse) return Promise.reject(misuse);
    if (length === 0) return DONE;
    return this.#driver.zero ? this.#driver.zero(offset, length) : this.#writeZeros(offset, length);
  }

  discard(offset: number, length: number): Promise<void> {
    const misuse = this.#misuse("discard", offset, length) ?? this.#readOnly("discard");
    if (misuse) return Promise.reject(misuse);
    return length > 0 && this.#driver.discard ? this.#driver.discard(offset, length) : DONE;
  }

  extents(offset: number, length: number): AsyncIterable<Extent> {
    const misuse = this.#misuse("map", offset, length);
    if (misuse) throw misuse;
    if (length > 0 && this.#driver.extents) return this.#driver.extents(offset, length);
    return allData(offset, length);
  }

  flush(): Promise<void> {
    return this.#closed || !this.#driver.flush ? DONE : this.#driver.flush();
  }

  close(): Promise<void> {
    if (this.#closed) return DONE;
    this.#closed = true;
    return this.#driver.close?.() ?? DONE;
  }

  #misuse(verb: string, offset: number, length: number): Error | undefined {
    const { size, blockSize } = this;
    if (this.#closed) return new TypeError(`Cannot ${verb} ${this.label}: it is closed`);
    // The comparison is written so that NaN fails it; `size - length` cannot overflow as `offset + length` can.
    if (!(offset >= 0 && length >= 0 && offset <= size - length))
      return new RangeError(`Cannot ${verb} ${this.label}: bytes ${offset}..${offset + length}, allowed 0..${size}`);
    if (offset % blockSize !== 0 || length % blockSize !== 0)
      return new RangeError(
        `Cannot ${verb} ${this.label}: offset ${offset}, length ${length}, allowed multiples of ${blockSize}`,
      );
    return undefined;
  }

  #readOnly(verb: string): DiskError | undefined {
    return this.writable ? undefined : new DiskError("READ_ONLY", `Cannot ${verb} ${this.label}: it is read-only`);
  }

  async #writeZeros(offset: number, length: number): Promise<void> {
    const piece = new Uint8Array(Math.min(length, ZERO_PIECE));
    for (let done = 0; done < length; done += piece.length) {
      await this.#driver.write!(offset + done, piece.subarray(0, Math.min(piece.length, length - done)));
    }
  }
}

/** The map of a device that cannot tell: everything must be read. */
async function* allData(offset: number, length: number): AsyncGenerator<Extent> {
  if (length > 0) yield { offset, length, data: true, zero: false, present: true, depth: 0, hostOffset: null };
}
