/**
 * The 32-bit words of a shared ring, as one range, wherever its pages lie: granted frames need not be neighbours,
 * and entries of a ring of several pages straddle them. Word 0 to 1023 are the first page, and so on.
 */
import { PAGE_SIZE } from "./platform.js";

const PAGE_WORDS = PAGE_SIZE / 4;
const PAGE_SHIFT = 10;

export class RingWords {
  /** Bytes. */
  readonly byteLength: number;
  readonly #pages: readonly Int32Array[];
  /** The header lies in the first page, whatever the ring's size. */
  readonly #header: Int32Array;
  readonly #headerBytes: Uint8Array;

  /** `bytes` are whole pages of memory that both ends see, in the ring's order. */
  constructor(bytes: readonly Uint8Array[]) {
    this.#pages = bytes.flatMap(pagesOf);
    this.#header = this.#pages[0]!;
    this.#headerBytes = new Uint8Array(this.#header.buffer, this.#header.byteOffset, PAGE_SIZE);
    this.byteLength = this.#pages.length * PAGE_SIZE;
  }

  /** A word of the header, with the barriers of a sequentially consistent load. */
  load(word: number): number {
    return Atomics.load(this.#header, word) >>> 0;
  }

  /** Stores a word of the header; whoever loads it sees all that was written before. */
  store(word: number, value: number): void {
    Atomics.store(this.#header, word, value | 0);
  }

  /** Copies words from `at` on into private memory, each read once: the peer may write while we read. */
  copyOut(at: number, into: Int32Array): void {
    const page = this.#pages[at >>> PAGE_SHIFT]!;
    const start = at & (PAGE_WORDS - 1);
    const first = Math.min(into.length, PAGE_WORDS - start);
    for (let i = 0; i < first; i++) into[i] = page[start + i]!;
    if (first === into.length) return;
    const next = this.#pages[(at >>> PAGE_SHIFT) + 1]!;
    for (let i = first; i < into.length; i++) into[i] = next[i - first]!;
  }

  /** Writes words from `at` on. */
  copyIn(at: number, from: Int32Array): void {
    const page = this.#pages[at >>> PAGE_SHIFT]!;
    const start = at & (PAGE_WORDS - 1);
    const first = Math.min(from.length, PAGE_WORDS - start);
    for (let i = 0; i < first; i++) page[start + i] = from[i]!;
    if (first === from.length) return;
    const next = this.#pages[(at >>> PAGE_SHIFT) + 1]!;
    for (let i = first; i < from.length; i++) next[i - first] = from[i]!;
  }

  /** Copies bytes of the first page, from byte `at` on, into private memory, each read once. */
  copyBytesOut(at: number, into: Uint8Array): void {
    into.set(this.#headerBytes.subarray(at, at + into.length));
  }

  /** Writes bytes of the first page from byte `at` on. */
  copyBytesIn(at: number, from: Uint8Array): void {
    this.#headerBytes.set(from, at);
  }

  /** Zeros, as the frontend starts with. */
  clear(): void {
    for (const page of this.#pages) page.fill(0);
  }
}

function pagesOf(bytes: Uint8Array): Int32Array[] {
  if (bytes.length === 0 || bytes.length % PAGE_SIZE !== 0)
    throw new TypeError(`a ring is made of whole pages, these are ${bytes.length} bytes`);
  return Array.from(
    { length: bytes.length / PAGE_SIZE },
    (_, i) => new Int32Array(bytes.buffer, bytes.byteOffset + i * PAGE_SIZE, PAGE_WORDS),
  );
}
