/**
 * A block device as the one file of a FUSE file system (linux/fuse.h, ABI 7.23 and later): takes the kernel's requests and
 * answers them. Reads and writes go on side by side, each is answered as soon as the device is done; nothing is cached, on
 * either side. The session never throws for what a request says, and never waits: whoever runs it calls `take` when
 * requests may be there. It has the shape of a vcpu loop's work (`xen/vcpu-loop.ts`), so that a guest's thread can run it.
 *
 * Not supported: more than one file, changing its size through the file system, locks, ioctls, notifications.
 */
import type { BlockDevice } from "../block/device.js";
import { type LendRead, lenderOf } from "../block/lent-read.js";
import { ERRNO, toErrno } from "./errno.js";
import { FuseBuffers, MAX_DATA, type MessageBuffer, WRITE_DATA_AT } from "./fuse-buffers.js";
import { FUSE_FILE_NODE, FUSE_OP, IN_HEADER, IO_IN, OUT_HEADER, WRITE_OUT } from "./fuse-layout.js";
import { answerOther, type OtherAnswer } from "./fuse-others.js";

/** The kernel's end, or a test's. */
export interface FuseChannel {
  /** The next request, whole: its length, or a negative errno; -EAGAIN when none waits, -ENODEV when there will be none. */
  read(into: Uint8Array): number;
  /** A reply of that many bytes, whole; `data`, which may lie anywhere, follows them. Its length or a negative errno. */
  write(reply: Uint8Array, length: number, data?: Uint8Array): number;
}

export interface FuseSessionOptions {
  readonly channel: FuseChannel;
  readonly device: BlockDevice;
  /** Bytes that the file has; default the device's size. */
  readonly size?: number;
  /** What the file is called. */
  readonly name: string;
  /** Asks to be woken (`wake` below) when a request comes; called before the last look of `finalCheck`. */
  arm(): void;
  /** There may be something to take again. */
  wake(): void;
  /** The file system is gone, or the channel failed with this errno. */
  onEnd(errno: number): void;
}

/** Requests taken in one call of `take`: others in the same thread must have their turn. */
const BATCH = 64;
/** About a microsecond each. */
const LOOKS = 30;
/** Bytes of data of the requests that are being served; beyond it the kernel keeps its queue to itself. */
const MAX_BYTES_IN_FLIGHT = 16 << 20;
/** Longer data to write is not copied: the buffer that it came in is kept until the device has it. */
const COPIED_WRITE = 32 << 10;

/** Less is copied into the reply: that takes the kernel less time than a reply in two pieces. */
const LENT_READ = 16 << 10;

const LENGTH_WORD = IN_HEADER.fields.length.offset / 4;
const OPCODE_WORD = IN_HEADER.fields.opcode.offset / 4;
const UNIQUE_WORD = IN_HEADER.fields.unique.offset / 4;
const NODE_WORD = IN_HEADER.fields.node.offset / 4;
const OFFSET_WORD = (IN_HEADER.size + IO_IN.fields.offset.offset) / 4;
const SIZE_WORD = (IN_HEADER.size + IO_IN.fields.size.offset) / 4;
const DATA_AT = OUT_HEADER.size;
const DONE: Promise<void> = Promise.resolve();
/** The longest body of a reply other than READ's is LOOKUP's. */
const MAX_OTHER_BODY = 4096;

/** The two words of a request's name. */
interface RequestName {
  readonly low: number;
  readonly high: number;
}

export class FuseSession {
  readonly #channel: FuseChannel;
  readonly #device: BlockDevice;
  readonly #lend: LendRead | undefined;
  readonly #options: FuseSessionOptions;
  readonly #buffers = new FuseBuffers();
  readonly #reply = this.#buffers.takeReply(MAX_OTHER_BODY);
  /** Long requests under way by name; true when the caller has given up. */
  readonly #long = new Map<string, boolean>();
  #receive = this.#buffers.takeReceive();
  #bytesInFlight = 0;
  #ended = false;
  /** Something was taken since the last time that nothing came for a while. */
  #warm = false;
  #arming: ReturnType<typeof setImmediate> | undefined;
  #size: number;
  /** Requests being served. */
  inFlight = 0;

  constructor(options: FuseSessionOptions) {
    this.#options = options;
    this.#channel = options.channel;
    this.#device = options.device;
    this.#lend = lenderOf(options.device);
    this.#size = options.size ?? options.device.size;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Bytes of the file, from the kernel's next GETATTR on. */
  get size(): number {
    return this.#size;
  }

  set size(size: number) {
    this.#size = size;
  }

  /** Takes the requests that wait, up to a limit; returns how many. */
  take(): number {
    let taken = 0;
    while (taken < BATCH && this.#takeOne()) taken++;
    return taken;
  }

  /** Replies are sent one by one, as soon as they are there: the kernel takes them so. */
  publish(): void {}

  /** Asks to be woken, then looks a last time: true when something came meanwhile. */
  finalCheck(): boolean {
    if (this.#ended || this.#full) return false; // a request that ends makes room, and wakes
    if (this.inFlight > 0) this.#armSoon();
    else if (this.#lookAgain()) return true;
    else this.#options.arm();
    return this.#takeOne();
  }

  /** A program that waits for each answer asks again within microseconds; to be woken takes longer than to look. */
  #lookAgain(): boolean {
    for (let look = 0; look < LOOKS && this.#warm; look++) if (this.#takeOne()) return true;
    this.#warm = false;
    return false;
  }

  /** What is in flight will end, most often before this thread gets to sleep: nobody needs to be asked for so short a time. */
  #armSoon(): void {
    this.#arming ??= setImmediate(() => {
      this.#arming = undefined;
      if (!this.#ended && !this.#full) this.#options.arm();
    });
  }

  /** No request is answered any more. */
  end(errno: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.onEnd(errno);
  }

  get #full(): boolean {
    return this.#bytesInFlight >= MAX_BYTES_IN_FLIGHT;
  }

  #takeOne(): boolean {
    while (!this.#ended && !this.#full) {
      const length = this.#channel.read(this.#receive.bytes);
      if (length >= 0) {
        this.#warm = true;
        this.#serve(length);
        return true;
      }
      if (length === ERRNO.EAGAIN) return false;
      if (length === ERRNO.ENOENT || length === ERRNO.EINTR) continue; // its caller has gone; a signal
      this.end(length);
    }
    return false;
  }

  /** A message that is not even a header has no name to answer to. */
  #serve(length: number): void {
    const { words } = this.#receive;
    if (length < IN_HEADER.size) return;
    const name = { low: words[UNIQUE_WORD]!, high: words[UNIQUE_WORD + 1]! };
    const refusal = words[LENGTH_WORD] === length ? this.#start(name, words[OPCODE_WORD]!, length) : ERRNO.EINVAL;
    if (refusal < 0) this.#refuse(name, refusal);
  }

  /** 0, or the errno that refuses the request at once. */
  #start(name: RequestName, opcode: number, length: number): number {
    if (opcode === FUSE_OP.READ) return this.#read(name, length);
    if (opcode === FUSE_OP.WRITE) return this.#write(name, length);
    this.#other(name, opcode, length);
    return 0;
  }

  #read(name: RequestName, length: number): number {
    const range = this.#range(length, IN_HEADER.size + IO_IN.size);
    if (typeof range === "number") return range;
    const count = Math.min(range.size, Math.max(0, this.#size - range.offset));
    if (count >= LENT_READ && this.#readLent(name, range.offset, count)) return 0;
    const reply = this.#buffers.takeReply(count);
    const into = reply.bytes.subarray(DATA_AT, DATA_AT + count);
    this.#begin(count, count === 0 ? DONE : this.#device.read(range.offset, into), (error) => {
      if (error < 0) this.#refuse(name, error);
      else this.#send(reply, name, count);
      this.#buffers.giveReply(reply);
    });
    return 0;
  }

  /** Passed on from where it arrived, not copied into a reply. */
  #readLent(name: RequestName, offset: number, count: number): boolean {
    const lent = this.#lend?.(offset, count, (data) => this.#put(this.#reply, name, 0, 0, data));
    if (!lent) return false;
    this.#begin(count, lent, (error) => {
      if (error < 0) this.#refuse(name, error);
    });
    return true;
  }

  #write(name: RequestName, length: number): number {
    const range = this.#range(length, WRITE_DATA_AT);
    if (typeof range === "number") return range;
    const { offset, size } = range;
    if (!this.#device.writable) return ERRNO.EROFS;
    if (size !== length - WRITE_DATA_AT) return ERRNO.EINVAL;
    if (offset + size > this.#size) return ERRNO.ENOSPC;
    const { bytes, release } = this.#keep(size);
    this.#begin(size, this.#device.write(offset, bytes), (error) => {
      release();
      if (error < 0) this.#refuse(name, error);
      else this.#sendWritten(name, size);
    });
    return 0;
  }

  #sendWritten(name: RequestName, size: number): void {
    this.#reply.words[DATA_AT / 4] = size;
    this.#reply.words[DATA_AT / 4 + 1] = 0;
    this.#send(this.#reply, name, WRITE_OUT.size);
  }

  /** The data of the WRITE that was just received, safe from the next request until it is released. */
  #keep(size: number): { bytes: Uint8Array; release: () => void } {
    const received = this.#receive;
    const data = received.bytes.subarray(WRITE_DATA_AT, WRITE_DATA_AT + size);
    if (size > COPIED_WRITE) {
      this.#receive = this.#buffers.takeReceive();
      return { bytes: data, release: () => this.#buffers.giveReceive(received) };
    }
    const copy = this.#buffers.takeReply(size);
    const bytes = copy.bytes.subarray(0, size);
    bytes.set(data);
    return { bytes, release: () => this.#buffers.giveReply(copy) };
  }

  /** Offset and size of a READ or WRITE, or the errno that refuses it. */
  #range(length: number, least: number): { offset: number; size: number } | number {
    const { words } = this.#receive;
    if (length < least) return ERRNO.EINVAL;
    if (words[NODE_WORD] !== FUSE_FILE_NODE || words[NODE_WORD + 1] !== 0) return ERRNO.EINVAL;
    const offset = words[OFFSET_WORD]! + words[OFFSET_WORD + 1]! * 2 ** 32;
    const size = words[SIZE_WORD]!;
    return size > MAX_DATA || offset > Number.MAX_SAFE_INTEGER - MAX_DATA ? ERRNO.EINVAL : { offset, size };
  }

  /** Counts the request until `work` is settled; `done` gets 0 or an errno. */
  #begin(bytes: number, work: Promise<void>, done: (error: number) => void): void {
    this.inFlight++;
    this.#bytesInFlight += bytes;
    const settle = (error: number) => {
      const full = this.#full;
      this.inFlight--;
      this.#bytesInFlight -= bytes;
      done(error);
      if (full && !this.#full) this.#options.wake();
    };
    work.then(
      () => settle(0),
      (error) => settle(toErrno(error)),
    );
  }

  #other(name: RequestName, opcode: number, length: number): void {
    const key = `${name.high}/${name.low}`;
    const answer = answerOther(opcode, this.#receive.bytes.subarray(0, length), {
      device: this.#device,
      size: this.#size,
      name: this.#options.name,
      gaveUp: () => this.#long.get(key) === true,
      interrupt: (low, high) => {
        if (this.#long.has(`${high}/${low}`)) this.#long.set(`${high}/${low}`, true);
      },
    });
    if (answer instanceof Promise) this.#await(name, key, answer);
    else this.#answer(name, answer);
  }

  #await(name: RequestName, key: string, answer: Promise<OtherAnswer>): void {
    this.#long.set(key, false);
    let result: OtherAnswer = ERRNO.EIO;
    const work = answer.then((value) => {
      result = value;
    });
    this.#begin(0, work, (error) => {
      this.#long.delete(key);
      this.#answer(name, error < 0 ? error : result);
    });
  }

  #answer(name: RequestName, answer: OtherAnswer): void {
    if (typeof answer === "number") this.#refuse(name, answer);
    else if (answer !== null) {
      this.#reply.bytes.set(answer, DATA_AT);
      this.#send(this.#reply, name, answer.length);
    }
  }

  #send(reply: MessageBuffer, name: RequestName, dataLength: number): void {
    this.#put(reply, name, 0, dataLength);
  }

  /** `error` 0: done, without a body. */
  #refuse(name: RequestName, error: number): void {
    this.#put(this.#reply, name, error, 0);
  }

  /** A reply that the kernel does not take is to a request whose caller has gone, or to a file system that has. */
  #put(
    { bytes, words }: MessageBuffer,
    { low, high }: RequestName,
    error: number,
    bodyLength: number,
    data?: Uint8Array,
  ): void {
    const length = DATA_AT + bodyLength;
    words[0] = length + (data?.length ?? 0);
    words[1] = error;
    words[2] = low;
    words[3] = high;
    if (!this.#ended) this.#channel.write(bytes, length, data);
  }
}
