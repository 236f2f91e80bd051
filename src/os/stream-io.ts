/**
 * Sockets driven by system calls from a thread of their own, without an event loop between: receive, send, wait for many at once.
 * Linux by koffi, as libc.ts. Every call but `wait` returns at once; results are the kernel's, a count or a negative errno.
 */
import { arch } from "node:os";
import { libc, loadKoffi, negative } from "./libc.js";

export const AGAIN = negative("EAGAIN");
export const READABLE = 0x001;
export const WRITABLE = 0x004;
/** Error, hang-up and no such descriptor, which are always reported. */
export const BROKEN = 0x008 | 0x010 | 0x020;

export interface StreamIo {
  /** A second descriptor of the same socket. */
  duplicate(fd: number): number;
  /** Bytes that came; 0 when the other side has ended. */
  receive(fd: number, into: Uint8Array): number;
  /** Bytes that were taken, in one gathered call; perhaps fewer than all. At most 64 parts are looked at. */
  send(fd: number, parts: readonly Uint8Array[]): number;
  /** How much the kernel keeps for a slow reader, as far as the system allows. */
  growSendBuffer(fd: number, bytes: number): void;
  /** Ends both directions, so that the other side sees it whoever else has the socket open. */
  shutdown(fd: number): number;
  /** Waits until something is ready, `ms` at the longest (-1: no end); the count of ready descriptors. */
  wait(set: WaitSet, ms: number): number;
  /** A doorbell: a descriptor that becomes readable when it is rung, in any thread. */
  doorbell(): number;
  ring(doorbell: number): void;
  /** Takes the ringing away. */
  hush(doorbell: number): void;
  close(fd: number): void;
}

/** Descriptors to wait for, as struct pollfd. */
export class WaitSet {
  #words = new Int32Array(2 * 16);
  #shorts = new Int16Array(this.#words.buffer);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get words(): Int32Array {
    return this.#words;
  }

  clear(): void {
    this.#count = 0;
  }

  add(fd: number, events: number): void {
    if (2 * this.#count === this.#words.length) {
      const larger = new Int32Array(2 * this.#words.length);
      larger.set(this.#words);
      this.#words = larger;
      this.#shorts = new Int16Array(larger.buffer);
    }
    const at = this.#count++;
    this.#words[2 * at] = fd;
    this.#shorts[4 * at + 2] = events;
    this.#shorts[4 * at + 3] = 0;
  }

  /** What the descriptor that was added as the `index`th is ready for. */
  ready(index: number): number {
    return this.#shorts[4 * index + 3]!;
  }
}

const MAX_PARTS = 64;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SHUT_RDWR = 2;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;
const F_DUPFD_CLOEXEC = 1030;

let loaded: StreamIo | null | undefined;

/** Null where native calls cannot be had. */
export function streamIo(): StreamIo | null {
  // big-endian machines have other places in struct pollfd; libc() knows only little-endian ones
  if (loaded === undefined) loaded = libc() && arch() !== "s390x" ? bind(loadKoffi()) : null;
  return loaded;
}

function bind(koffi: ReturnType<typeof loadKoffi>): StreamIo {
  const lib = koffi.load(null);
  const declare = (name: string, result: string, ...args: string[]) => lib.func(name, result, args);
  const recv = declare("recv", "intptr_t", "int", "void *", "size_t", "int");
  const send = declare("send", "intptr_t", "int", "void *", "size_t", "int");
  const sendmsg = declare("sendmsg", "intptr_t", "int", "void *", "int");
  const poll = declare("poll", "int", "void *", "ulong", "int");
  const shutdown = declare("shutdown", "int", "int", "int");
  const fcntl = declare("fcntl", "int", "int", "int", "intptr_t");
  const setsockopt = declare("setsockopt", "int", "int", "int", "int", "void *", "uint");
  const eventfd = declare("eventfd", "int", "uint", "int");
  const read = declare("read", "intptr_t", "int", "void *", "size_t");
  const close = declare("close", "int", "int");
  const write = declare("write", "intptr_t", "int", "void *", "size_t");
  const answer = (result: number | bigint): number => (result < 0 ? -koffi.errno() : Number(result));
  const vectors = new BigUint64Array(2 * MAX_PARTS); // struct iovec
  const message = new BigUint64Array(7); // struct msghdr
  const one = BigUint64Array.of(1n);
  const gathered = (fd: number, parts: readonly Uint8Array[]) => {
    const count = Math.min(parts.length, MAX_PARTS);
    for (let i = 0; i < count; i++) {
      vectors[2 * i] = koffi.address(parts[i]!);
      vectors[2 * i + 1] = BigInt(parts[i]!.length);
    }
    message[2] = koffi.address(vectors);
    message[3] = BigInt(count);
    return answer(sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL));
  };
  return {
    duplicate: (fd) => answer(fcntl(fd, F_DUPFD_CLOEXEC, 0)),
    receive: (fd, into) => answer(recv(fd, into, into.length, MSG_DONTWAIT)),
    send: (fd, parts) =>
      parts.length === 1
        ? answer(send(fd, parts[0]!, parts[0]!.length, MSG_DONTWAIT | MSG_NOSIGNAL))
        : gathered(fd, parts),
    growSendBuffer: (fd, bytes) => void setsockopt(fd, SOL_SOCKET, SO_SNDBUF, Int32Array.of(bytes), 4),
    shutdown: (fd) => answer(shutdown(fd, SHUT_RDWR)),
    wait: (set, ms) => answer(poll(set.words, set.count, ms)),
    doorbell: () => answer(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
    ring: (bell) => void write(bell, one, 8),
    hush: (bell) => void read(bell, new BigUint64Array(1), 8),
    close: (fd) => void close(fd),
  };
}
