/**
 * Gathers messages into few writes: headers and small payloads are copied into one block, large payloads go by reference.
 * Everything that was added before the scheduled flush leaves in one gathered write.
 */

/** Sends the parts in order; calls `sent` once when they no longer need their memory, also after a failure. */
export type Send = (parts: readonly Uint8Array[], sent: () => void) => void;

/** A reply of that much data fits with its headers. */
export const BLOCK_PAYLOAD = 256 << 10;
const BLOCK_SIZE = BLOCK_PAYLOAD + 4096;
/** Payloads up to here are copied: cheaper than one more part in the write. */
const COPY_MAX = 32 << 10;
const IDLE_BLOCKS = 4;

export class Outbox {
  readonly #send: Send;
  readonly #schedule: (flush: () => void) => void;
  readonly #onSent: () => void;
  readonly #flush = () => this.flush();
  #scheduled = false;
  /** The block that is being filled: bytes from #start to #end are not in #parts yet. */
  #block: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  #parts: Uint8Array[] = [];
  #usedBlocks: Buffer[] = [];
  #releases: (() => void)[] = [];
  #queued = 0;
  #unsent = 0;
  readonly #idle: Buffer[] = [];

  /** `schedule` decides when a batch ends: it calls the flush later. `onSent` tells that `unsent` went down. */
  constructor(send: Send, schedule: (flush: () => void) => void, onSent: () => void) {
    this.#send = send;
    this.#schedule = schedule;
    this.#onSent = onSent;
  }

  /** Bytes that wait for the flush. */
  get queued(): number {
    return this.#queued;
  }

  /** Bytes that were added and have not left. */
  get unsent(): number {
    return this.#queued + this.#unsent;
  }

  /** The block that the position returned by `reserve` lies in, until the next call. */
  get block(): Buffer {
    return this.#block;
  }

  /** Room for `length` bytes, at most a block, that the caller fills before it does anything else. */
  reserve(length: number): number {
    if (this.#end + length > this.#block.length) this.#nextBlock();
    const position = this.#end;
    this.#end += length;
    this.#queued += length;
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.#schedule(this.#flush);
    }
    return position;
  }

  /** Takes back the last reservation, whole. */
  unreserve(length: number): void {
    this.#end -= length;
    this.#queued -= length;
  }

  /** Adds bytes after the last reserved ones. They stay untouched until `release` is called, which may be at once. */
  payload(bytes: Uint8Array, release?: () => void): void {
    if (bytes.length <= COPY_MAX) {
      const position = this.reserve(bytes.length);
      this.#block.set(bytes, position);
      release?.();
      return;
    }
    this.#seal();
    this.#parts.push(bytes);
    this.#queued += bytes.length;
    if (release) this.#releases.push(release);
  }

  flush(): void {
    this.#scheduled = false;
    this.#seal();
    if (this.#parts.length === 0) return;
    const [parts, blocks, releases, bytes] = [this.#parts, this.#usedBlocks, this.#releases, this.#queued];
    if (this.#block.length > 0) blocks.push(this.#block);
    this.#block = this.#idle.pop() ?? Buffer.alloc(0);
    this.#start = this.#end = 0;
    this.#parts = [];
    this.#usedBlocks = [];
    this.#releases = [];
    this.#queued = 0;
    this.#unsent += bytes;
    this.#send(parts, () => {
      this.#unsent -= bytes;
      for (const block of blocks) if (this.#idle.length < IDLE_BLOCKS) this.#idle.push(block);
      for (const release of releases) release();
      this.#onSent();
    });
  }

  #nextBlock(): void {
    this.#seal();
    if (this.#block.length > 0) this.#usedBlocks.push(this.#block);
    this.#block = this.#idle.pop() ?? Buffer.allocUnsafeSlow(BLOCK_SIZE);
    this.#start = this.#end = 0;
  }

  #seal(): void {
    if (this.#end > this.#start) this.#parts.push(this.#block.subarray(this.#start, this.#end));
    this.#start = this.#end;
  }
}
