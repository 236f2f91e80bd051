/**
 * Reads and writes through Linux's io_uring (io_uring(7); kernel 5.11 and later): requests are put into memory that the
 * kernel shares, handed over several at a time, and their results found there without a call.
 *
 * A thread has one ring, made when it is first asked for and kept until the thread ends: what a ring shares with the
 * kernel must not be given back while anything may look at it.
 *
 * Results are found in two ways. A thread with a loop of its own asks `ringTransfers` as often as it likes. For everybody else
 * a thread of Node's pool waits for the next result, one for the whole ring: it is sent off at the end of the event
 * loop's turn, so that a thread which polls never pays for it.
 */
import { isMainThread } from "node:worker_threads";
import { type Libc, libc, negative, type RingCalls } from "./libc.js";
import { atThreadExit } from "./this-process.js";

/** Requests of the kernel's at one time; what is more waits here. */
const ENTRIES = 256;
/** Handed over together. With all of a deep queue in one call the disk would wait for us, then we for the disk. */
const BATCH = 8;
/** No wait is longer: a process must be able to end. */
const WAIT_MS = 100;
/** For what is under way when a worker thread ends. */
const DRAIN_MS = 5000;

const OP_READ = 22;
const OP_WRITE = 23;
const SQE_WORDS = 16;
/** io_uring_params in words: sizes of the two queues, flags, features, and the offsets of what lies in the shared memory. */
const PARAMS = { size: 30, sqEntries: 0, cqEntries: 1, flags: 2, features: 5, sq: 10, cq: 20 } as const;
const SQ_OFFSET = { head: 0, tail: 1, mask: 2, array: 6 } as const;
const CQ_OFFSET = { head: 0, tail: 1, mask: 2, cqes: 5 } as const;
/**
 * IORING_SETUP_COOP_TASKRUN (5.19): the kernel files results at this thread's next system call or sleep. Otherwise it
 * interrupts the thread for each of them, which costs more than the result.
 */
const COOPERATIVE = 1 << 8;
const MAP_SQES = 0x1000_0000;
/** One mapping for both queues (5.4), and waits that end in time (5.11). */
const FEATURES_NEEDED = (1 << 0) | (1 << 8);

interface Transfer {
  readonly operation: number;
  readonly fd: number;
  readonly offset: number;
  /** Kept from the collector while the kernel works on it. */
  readonly bytes: Uint8Array;
  readonly resolve: (result: number) => void;
}

let ring: IoRing | null | undefined;

/** This thread's ring; null where the kernel, or whoever confines this process, does not give one. */
export function ioRing(): IoRing | null {
  if (ring === undefined) ring = IoRing.open(libc());
  return ring;
}

/** This thread's requests, for a thread with a loop of its own. */
export const ringTransfers = {
  /** Ends what the kernel has finished, some at a time, without a call; returns how many. */
  takeResults: (): number => (ring ? ring.reap(BATCH) : 0),
  get hasResults(): boolean {
    return ring?.hasResults ?? false;
  },
  /** Blocks until something has ended that was not taken, or for `milliseconds`. */
  wait(milliseconds: number): void {
    ring?.wait(milliseconds);
  },
  get underWay(): number {
    return ring ? ring.underWay : 0;
  },
};

export class IoRing {
  readonly #native: Libc;
  readonly #calls: RingCalls;
  readonly #fd: number;
  /** Both queues' indices and results, and the requests themselves. */
  readonly #words: Uint32Array;
  readonly #sqes: Uint32Array;
  readonly #at: { readonly sqTail: number; readonly cqHead: number; readonly cqTail: number; readonly cqes: number };
  readonly #sqMask: number;
  readonly #cqMask: number;
  #sqTail: number;
  /** Put into the queue, not handed over. */
  #queued = 0;
  /** By the number under which the kernel has them. */
  readonly #transfers: (Transfer | undefined)[] = new Array<Transfer | undefined>(ENTRIES).fill(undefined);
  readonly #free: number[] = Array.from({ length: ENTRIES }, (_, i) => ENTRIES - 1 - i);
  #waiting: Transfer[] = [];
  #submitSoon = false;
  #watching = false;

  private constructor(native: Libc, fd: number, params: Uint32Array, words: Uint32Array, sqes: Uint32Array) {
    this.#native = native;
    this.#calls = native.ring;
    this.#fd = fd;
    this.#words = words;
    this.#sqes = sqes;
    const word = (base: number, field: number) => params[base + field]! / 4;
    this.#at = {
      sqTail: word(PARAMS.sq, SQ_OFFSET.tail),
      cqHead: word(PARAMS.cq, CQ_OFFSET.head),
      cqTail: word(PARAMS.cq, CQ_OFFSET.tail),
      cqes: word(PARAMS.cq, CQ_OFFSET.cqes),
    };
    this.#sqMask = words[word(PARAMS.sq, SQ_OFFSET.mask)]!;
    this.#cqMask = words[word(PARAMS.cq, CQ_OFFSET.mask)]!;
    this.#sqTail = words[this.#at.sqTail]!;
    const array = word(PARAMS.sq, SQ_OFFSET.array);
    for (let i = 0; i < params[PARAMS.sqEntries]!; i++) words[array + i] = i;
    // The kernel goes on writing into memory that a thread which ends would give back.
    if (!isMainThread) atThreadExit(() => this.#drain());
  }

  static open(native: Libc | null): IoRing | null {
    const params = new Uint32Array(PARAMS.size);
    if (!native) return null;
    const fd = setUp(native.ring, params);
    if (fd < 0) return null;
    const { [PARAMS.sqEntries]: sqEntries, [PARAMS.cqEntries]: cqEntries, [PARAMS.features]: features } = params;
    if ((features! & FEATURES_NEEDED) !== FEATURES_NEEDED) return null;
    const end = Math.max(
      params[PARAMS.sq + SQ_OFFSET.array]! + sqEntries! * 4,
      params[PARAMS.cq + CQ_OFFSET.cqes]! + cqEntries! * 16,
    );
    const words = native.ring.map(fd, end, 0);
    const sqes = words && native.ring.map(fd, sqEntries! * SQE_WORDS * 4, MAP_SQES);
    return words && sqes ? new IoRing(native, fd, params, new Uint32Array(words), new Uint32Array(sqes)) : null;
  }

  /** Bytes read, which may be fewer, or a negative errno. */
  read(fd: number, offset: number, into: Uint8Array): Promise<number> {
    return this.#transfer(OP_READ, fd, offset, into);
  }

  /** Bytes written, which may be fewer, or a negative errno. */
  write(fd: number, offset: number, data: Uint8Array): Promise<number> {
    return this.#transfer(OP_WRITE, fd, offset, data);
  }

  get hasResults(): boolean {
    return Atomics.load(this.#words, this.#at.cqTail) !== this.#words[this.#at.cqHead];
  }

  /** Ends what the kernel has finished, but no more than `most`; returns how many. */
  reap(most = ENTRIES): number {
    const { cqHead, cqTail, cqes } = this.#at;
    const words = this.#words;
    const tail = Atomics.load(words, cqTail);
    const begin = words[cqHead]!;
    if (begin === tail) return 0;
    let head = begin;
    for (let left = most; head !== tail && left > 0; left--, head = (head + 1) >>> 0) {
      const at = cqes + (head & this.#cqMask) * 4;
      this.#end(words[at]!, words[at + 2]! | 0);
    }
    Atomics.store(words, cqHead, head);
    this.#startWaiting();
    return (head - begin) >>> 0;
  }

  wait(milliseconds: number): void {
    this.#submit();
    if (this.underWay > this.#queued) this.#calls.waitHere(this.#fd, 1, milliseconds);
  }

  #transfer(operation: number, fd: number, offset: number, bytes: Uint8Array): Promise<number> {
    return new Promise((resolve) => {
      const transfer = { operation, fd, offset, bytes, resolve };
      if (this.#free.length > 0) this.#put(transfer);
      else this.#waiting.push(transfer);
    });
  }

  #put(transfer: Transfer): void {
    const id = this.#free.pop()!;
    this.#transfers[id] = transfer;
    const at = (this.#sqTail & this.#sqMask) * SQE_WORDS;
    const sqes = this.#sqes;
    const address = this.#native.address(transfer.bytes);
    sqes[at] = transfer.operation;
    sqes[at + 1] = transfer.fd;
    sqes[at + 2] = transfer.offset;
    sqes[at + 3] = Math.floor(transfer.offset / 2 ** 32);
    sqes[at + 4] = address;
    sqes[at + 5] = Math.floor(address / 2 ** 32);
    sqes[at + 6] = transfer.bytes.length;
    sqes[at + 8] = id;
    this.#sqTail = (this.#sqTail + 1) >>> 0;
    this.#queued++;
    if (this.#queued >= BATCH) this.#submit();
    else this.#submitAfterTurn();
  }

  #submitAfterTurn(): void {
    if (this.#submitSoon) return;
    this.#submitSoon = true;
    queueMicrotask(() => {
      this.#submitSoon = false;
      this.#submit();
    });
  }

  /** What the kernel does not take now (no memory, too much to do) is offered again when something has ended. */
  #submit(): void {
    if (this.#queued === 0) return;
    Atomics.store(this.#words, this.#at.sqTail, this.#sqTail);
    const taken = this.#calls.enter(this.#fd, this.#queued);
    if (taken >= 0) this.#queued -= taken;
    else if (!TRANSIENT.includes(taken)) this.#takeBack(taken);
    this.#watch();
  }

  /** The kernel refuses the queue itself: all that was not handed over fails. */
  #takeBack(error: number): void {
    const from = (this.#sqTail - this.#queued) >>> 0;
    for (let i = from; i !== this.#sqTail; i = (i + 1) >>> 0)
      this.#end(this.#sqes[(i & this.#sqMask) * SQE_WORDS + 8]!, error);
    this.#queued = 0;
    this.#sqTail = from;
    Atomics.store(this.#words, this.#at.sqTail, from);
  }

  #end(id: number, result: number): void {
    const transfer = this.#transfers[id]!;
    this.#transfers[id] = undefined;
    this.#free.push(id);
    transfer.resolve(result);
  }

  #startWaiting(): void {
    if (this.#waiting.length === 0) return;
    const started = this.#waiting.splice(0, this.#free.length);
    for (const transfer of started) this.#put(transfer);
  }

  get underWay(): number {
    return ENTRIES - this.#free.length;
  }

  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    setImmediate(() => void this.#untilIdle());
  }

  async #untilIdle(): Promise<void> {
    while (this.underWay > 0) {
      const ended = await this.#calls.wait(this.#fd, WAIT_MS);
      this.reap();
      this.#submit();
      if (ended < 0 && !ENDINGS.includes(ended)) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    this.#watching = false;
  }

  #drain(): void {
    const inKernel = this.underWay - this.#queued;
    if (inKernel > 0) this.#calls.waitHere(this.#fd, inKernel, DRAIN_MS);
  }
}

/** A new ring's descriptor, or a negative errno. */
function setUp(calls: RingCalls, params: Uint32Array): number {
  params[PARAMS.flags] = COOPERATIVE;
  const fd = calls.setup(ENTRIES, params);
  if (fd !== INVALID) return fd;
  params.fill(0);
  return calls.setup(ENTRIES, params);
}

const INVALID = negative("EINVAL");
const TRANSIENT = [negative("EAGAIN"), negative("EBUSY"), negative("EINTR")];
/** How a wait may end without a result. */
const ENDINGS = [negative("ETIME"), negative("EINTR")];
